import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.importers import import_recording
from retinacodec.nwb import Contrast, read_nwb, read_stimulus, read_traces

CELLS, TRAIN, TEST, REPEATS = 3, 300, 100, 5


@pytest.fixture
def source(tmp_path):
    """Train and test, without any response to the test movie yet."""
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "naturalscene.h5", "w") as file:
        for part, frames in (("train", TRAIN), ("test", TEST)):
            file[f"{part}/time"] = np.arange(frames) / 100
            file[f"{part}/stimulus"] = rng.integers(0, 255, (frames, 6, 4), dtype=np.uint8)
            file[f"{part}/response/binned"] = rng.poisson(0.3, (CELLS, frames))
            file[f"{part}/response/firing_rate_10ms"] = rng.random((CELLS, frames))
        file["train/stas/cell00"] = rng.normal(size=(40, 6, 4))
    return tmp_path / "naturalscene.h5"


def add(path, place, values):
    with h5py.File(path, "r+") as file:
        if place in file:
            del file[place]
        file[place] = values
    return values


def bring(path, tmp_path, **options):
    return import_recording(path, tmp_path / "new.nwb", pixel_um=55, **options)


def silent(path):
    from nwbinspector import inspect_nwbfile

    assert [m.message for m in inspect_nwbfile(nwbfile_path=path)] == []


def test_counts_of_each_cell_become_repeats(source, tmp_path, caplog):
    rng = np.random.default_rng(2)
    counts = [
        add(source, f"test/repeats/cell{cell:02d}", rng.poisson(0.4, (REPEATS, TEST)))
        for cell in range(CELLS)
    ]
    out = bring(source, tmp_path)
    silent(out)
    cells = read_nwb(out, stimulus="test")
    np.testing.assert_array_equal(cells["repeats"], np.stack(counts, axis=2))
    np.testing.assert_allclose(cells["spike_count"], np.mean(counts, axis=1).T, rtol=1e-6)
    with h5py.File(source) as file:
        binned = file["train/response/binned"][()]
        values = file["test/stimulus"][()].astype(float)
        grey = file["train/stimulus"][()].mean()
    np.testing.assert_array_equal(read_nwb(out, stimulus="train")["spike_count"], binned.T)
    np.testing.assert_allclose(read_stimulus(out, "test")["contrast"], values / grey - 1, atol=1e-6)
    assert "train/stas are computed from the spikes and left out" in caplog.text
    assert "test/response, made from the repeats, is left out" in caplog.text


@pytest.mark.parametrize("order", [("cell", "repeat", "time"), ("repeat", "cell", "time")])
def test_rates_of_repeats_are_kept_as_rates(source, tmp_path, order):
    sizes = {"cell": CELLS, "repeat": REPEATS, "time": TEST}
    rng = np.random.default_rng(3)
    values = rng.gamma(1.0, 5.0, [sizes[name] for name in order]).astype(np.float32)
    add(source, "test/repeats/firing_rate_10ms", values)
    out = bring(source, tmp_path)
    silent(out)
    expected = values.transpose([order.index(name) for name in ("repeat", "time", "cell")])
    with h5py.File(out) as file:
        series = file["processing/ecephys/firing_rate_10ms"]
        assert series["data"].attrs["unit"] == "Hz"
        np.testing.assert_array_equal(series["data"], expected.reshape(-1, CELLS))
        start = file["stimulus/presentation/test/starting_time"][()]
        assert series["starting_time"][()] == start
        assert len(file["stimulus/presentation/test/data"]) == REPEATS * TEST
    counts = read_nwb(out, stimulus="train")["spike_count"]
    assert np.isfinite(counts).all()
    repeats = read_traces(out, stimulus="test")["repeats"]
    np.testing.assert_allclose(repeats, expected, rtol=1e-6)
    assert repeats["cell"].values.tolist() == ["cell00", "cell01", "cell02"]


def test_rates_alone_can_be_imported(source, tmp_path, caplog):
    with h5py.File(source, "r+") as file:
        del file["train/response/binned"], file["test/response/binned"]
        rates = [file[f"{part}/response/firing_rate_10ms"][()].T for part in ("train", "test")]
    out = bring(source, tmp_path)
    silent(out)
    assert "train has no counts (binned); its rates are kept as rates" in caplog.text
    with h5py.File(out) as file:
        series = file["processing/ecephys/firing_rate_10ms"]
        np.testing.assert_array_equal(series["data"], np.concatenate(rates).astype(np.float32))
        times = np.concatenate([np.arange(TRAIN) / 100, TRAIN / 100 + 1 + np.arange(TEST) / 100])
        np.testing.assert_allclose(series["timestamps"], times, atol=1e-9)
        assert "units" not in file


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((CELLS, CELLS, TEST), ("cell", "repeat", "time"), (1, 2, 0)),
        ((CELLS, CELLS, TEST), ("repeat", "cell", "time"), (0, 2, 1)),
        ((TEST, REPEATS, CELLS), None, (1, 0, 2)),
    ],
)
def test_axes_come_from_sizes_or_are_asked_for(source, tmp_path, shape, axes, expected):
    values = np.random.default_rng(4).random(shape).astype(np.float32)
    add(source, "test/repeats/firing_rate_10ms", values)
    if axes is not None:
        with pytest.raises(RecordingError, match=r"could be .* or .*; say which with repeat_axes="):
            bring(source, tmp_path)
    out = bring(source, tmp_path, repeat_axes=axes)
    with h5py.File(out) as file:
        data = file["processing/ecephys/firing_rate_10ms/data"][()]
    np.testing.assert_array_equal(data, values.transpose(expected).reshape(-1, CELLS))


@pytest.mark.parametrize(
    ("place", "values", "message"),
    [
        ("test/repeats/firing_rate_10ms", np.zeros((4, 5, TEST)), "expected axes time 100 and"),
        ("test/repeats/firing_rate_10ms", np.zeros((CELLS, TEST)), "does not fit|expected axes"),
        ("test/repeats/cell00", np.zeros((REPEATS, TEST)), r"repeats hold 1 cells \(cell00 ...\)"),
        ("test/repeats/other", np.zeros(3), "test/repeats holds other; expected"),
        ("test/response/binned", np.zeros((2, TEST)), "different numbers of cells"),
        ("train/stimulus", np.zeros((TRAIN, 6)), r"train/stimulus has shape \(300, 6\)"),
    ],
)
def test_what_does_not_fit_is_named(source, tmp_path, place, values, message):
    add(source, place, values)
    if place == "test/response/binned":
        add(source, "test/response/firing_rate_10ms", values)
    with pytest.raises(RecordingError, match=message):
        bring(source, tmp_path)
    assert not (tmp_path / "new.nwb").exists()


def test_cells_with_fewer_repeats_were_not_observed_in_the_last(source, tmp_path):
    rng = np.random.default_rng(5)
    for cell in range(CELLS):
        counts = rng.poisson(1.0, (REPEATS - (cell == 1), TEST))
        add(source, f"test/repeats/cell{cell:02d}", counts)
    repeats = read_nwb(bring(source, tmp_path), stimulus="test")["repeats"]
    assert np.isnan(repeats).all("time").sum("repeat").values.tolist() == [0, 1, 0]


@pytest.fixture
def interneurons(tmp_path):
    rng = np.random.default_rng(6)
    with h5py.File(tmp_path / "bipolars_late_2012.h5", "w") as file:
        file["boxes/stimulus"] = rng.integers(0, 2, (250, 8, 9))
        file["boxes/detrended_membrane_potential"] = rng.normal(size=(4, 250))
        file["lines/stimulus"] = rng.integers(0, 2, (120, 16)).astype(bool)
        file["lines/detrended_membrane_potential"] = rng.normal(size=(4, 120))
    return tmp_path / "bipolars_late_2012.h5"


def test_intracellular_recordings_become_current_clamp_series(interneurons, tmp_path):
    out = bring(interneurons, tmp_path)
    silent(out)
    boxes, lines = read_stimulus(out, "boxes"), read_stimulus(out, "lines")
    with h5py.File(interneurons) as old, h5py.File(out) as new:
        stored = old["boxes/stimulus"][()]
        np.testing.assert_array_equal(boxes["contrast"], 2.0 * stored - 1)
        bars = old["lines/stimulus"][()].astype(float)
        np.testing.assert_array_equal(lines["contrast"], 2 * bars[:, None, :] - 1)
        for cell in range(4):
            both = [
                old[f"{name}/detrended_membrane_potential"][cell] for name in ("boxes", "lines")
            ]
            series = new[f"acquisition/cell{cell:02d}"]
            np.testing.assert_array_equal(series["data"], np.concatenate(both).astype(np.float32))
            times = np.concatenate([boxes["time"], lines["time"]])
            np.testing.assert_allclose(series["timestamps"], times, atol=1e-12)
            assert series["data"].attrs["conversion"] == 1e-3
            assert series["electrode/cell_id"][()].decode() == f"cell{cell:02d}"
    potential = read_traces(out, "CurrentClampSeries", stimulus="lines")
    with h5py.File(interneurons) as old:
        stored = old["lines/detrended_membrane_potential"][()].T
    scale = {"volts": 1e-3, "mV": 1.0}[potential.attrs["units"]]
    np.testing.assert_allclose(potential["trace"], scale * stored, rtol=1e-6)
    assert boxes.attrs["frame_rate"] == pytest.approx(100)
    assert float(lines["time"][0]) == pytest.approx(3.5)


def test_intracellular_recordings_that_do_not_fit_are_refused(interneurons, tmp_path):
    out = bring(interneurons, tmp_path, stimulus="lines", frame_rate=50)
    assert read_stimulus(out).attrs["frame_rate"] == pytest.approx(50)
    out.unlink()
    with pytest.raises(RecordingError, match="give pixel_um="):
        import_recording(interneurons, tmp_path / "new.nwb")
    add(interneurons, "boxes/detrended_membrane_potential", np.zeros((4, 249)))
    with pytest.raises(RecordingError, match=r"has shape \(4, 249\), expected \(cell, 250\)"):
        bring(interneurons, tmp_path)
    add(interneurons, "boxes/detrended_membrane_potential", np.zeros((4, 250)))
    add(interneurons, "boxes/stimulus", np.random.default_rng(0).normal(size=(250, 8, 9)))
    with pytest.raises(RecordingError, match="contrast="):
        bring(interneurons, tmp_path)
    bring(interneurons, tmp_path, contrast=Contrast(0, 1))
