import h5py
import numpy as np
import pytest
from scipy.io import savemat

from retinacodec.errors import RecordingError
from retinacodec.importers import import_recording, needs_import
from retinacodec.nwb import read_nwb, read_stimulus

RNG = np.random.default_rng(0)
FRAMES, CELLS, REPEATS, LENGTH = 300, 4, 3, 60
FRAME = 333  # samples
MOVIES = ("flicker", "flicker_repeats")


def content(late=None):
    """A recording in the published layout, with the first repeat stored late where asked for."""
    light = RNG.uniform(0.1, 1.7, FRAMES)
    onsets = 1 + np.arange(FRAMES) * FRAME
    movie = RNG.uniform(0.1, 1.7, LENGTH)
    starts = 1 + np.arange(REPEATS + 1) * LENGTH * FRAME
    shown = [np.roll(movie, 1) if k == late else movie for k in range(REPEATS)]
    extended = np.repeat(np.concatenate(shown), FRAME)
    label = np.repeat(np.arange(REPEATS) + 1, LENGTH * FRAME)
    spikes = [np.sort(RNG.integers(4010, FRAMES * FRAME, 80)) for _ in range(CELLS)]
    again = [np.sort(RNG.integers(4010, starts[-1], 60)) for _ in range(CELLS)]
    return {
        "Stim": light[None],
        "stimtimes": onsets[None].astype(np.int32),
        "SpTimes": structure(spikes),
        "RepSpTimes": structure(again),
        "repeatStimulusTimes": starts[:, None],
        "RepStimulusExtended": np.stack([extended, label]),
        "X": np.arange(9.0).reshape(3, 3),
        "Y": -np.arange(9.0).reshape(3, 3),
    }


def structure(trains):
    fields = [("sp", object), ("channel", object), ("Amp", object), ("Quality", object)]
    array = np.zeros((1, len(trains)), dtype=fields)
    for k, train in enumerate(trains):
        array[0, k] = (train[:, None].astype(np.int32), k // 2 + 1, k % 2 + 1, k % 2)
    return array


@pytest.fixture
def folder(tmp_path):
    found = content()
    place = tmp_path / "recording"
    place.mkdir()
    for name in ("Stim", "stimtimes", "SpTimes", "RepSpTimes", "repeatStimulusTimes"):
        savemat(place / f"{name}.mat", {name: found[name]})
    savemat(
        place / "RepStimulusExtended.mat", {"RepStimulusExtended": found["RepStimulusExtended"]}
    )
    savemat(place / "SpatialXY.mat", {"X": found["X"], "Y": found["Y"]})
    return place, found


def save_new(path, found):
    """Write variables as MATLAB 7.3 does: axes in reverse, structures as references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def put(place, name, value):
            if value.dtype.names:
                group = place.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_("struct")
                for field in value.dtype.names:
                    kept = [
                        put(refs, f"r{len(refs)}", np.atleast_2d(one[field]))
                        for one in value.ravel()
                    ]
                    data = [[one.ref] for one in kept]
                    group.create_dataset(field, data=np.array(data, h5py.ref_dtype))
                return group
            if value.dtype == object:
                data = [[put(refs, f"r{len(refs)}", one).ref] for one in value.ravel(order="F")]
                made = place.create_dataset(name, data=np.array(data, h5py.ref_dtype))
                made.attrs["MATLAB_class"] = np.bytes_("cell")
                return made
            made = place.create_dataset(name, data=value.T)
            made.attrs["MATLAB_class"] = np.bytes_("double")
            return made

        for name, value in found.items():
            put(file, name, np.atleast_2d(value))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    return path


def check(out, found):
    """Everything of the source is in the file, to the last bit."""
    with h5py.File(out) as file:
        ends = file["units/spike_times_index"][()]
        trains = np.split(file["units/spike_times"][()], ends[:-1])
    shift = FRAMES * FRAME + 1 + 10_000
    for k, train in enumerate(trains):
        first, again = (found[name]["sp"][0, k].ravel() for name in ("SpTimes", "RepSpTimes"))
        samples = np.concatenate([first, again + shift]).astype(float)
        np.testing.assert_array_equal(train, samples / 10_000)
    movie, repeated = (read_stimulus(out, name) for name in ("flicker", "flicker_repeats"))
    grey = found["Stim"].mean()
    light = (found["Stim"][0] - grey) / grey
    np.testing.assert_array_equal(movie["contrast"][:, 0, 0], light.astype(np.float32))
    np.testing.assert_array_equal(movie["time"], found["stimtimes"][0] / 10_000)
    stored = found["RepStimulusExtended"][0, -LENGTH * FRAME :: FRAME]
    again = ((stored - grey) / grey).astype(np.float32)
    np.testing.assert_array_equal(repeated["contrast"][:, 0, 0], again)
    return trains, shift


def test_a_folder_of_matlab_files_becomes_nwb_2(folder, tmp_path, caplog):
    from nwbinspector import inspect_nwbfile

    place, found = folder
    assert needs_import(place)
    out = import_recording(place, tmp_path / "new.nwb")
    trains, shift = check(out, found)
    assert [m.message for m in inspect_nwbfile(nwbfile_path=out)] == []
    assert "9 positions for 4 cells are left out" in caplog.text
    cells = read_nwb(out, stimulus="flicker_repeats")
    assert cells["repeats"].shape == (REPEATS, LENGTH, CELLS)
    edges = (1 + shift + np.arange(LENGTH + 1) * FRAME) / 10_000 + LENGTH * FRAME / 10_000
    np.testing.assert_array_equal(cells["repeats"][1, :, 2], np.histogram(trains[2], edges)[0])
    assert np.isnan(cells["repeats"].values).any(axis=(1, 2)).tolist() == [True, False, False]
    once = read_nwb(out, stimulus="flicker")["spike_count"]
    assert np.isnan(once).any("cell").sum() == 4001 // FRAME + 1  # the 0.4 s without spikes
    with h5py.File(out) as file:
        assert file["units/quality"][()].tolist() == [0, 1, 0, 1]
        assert file["units/channel"][()].tolist() == [1, 1, 2, 2]


def test_files_of_version_7_3_hold_the_same(folder, tmp_path):
    found = content()
    grids = np.empty((2, 1), object)
    for k in range(2):
        grids[k, 0] = np.zeros((3, 3))
        grids[k, 0][k] = [1, 2, 3]
    path = save_new(tmp_path / "all.mat", {**found, "Amp": grids})
    out = import_recording(path, tmp_path / "new.nwb")
    check(out, found)
    with h5py.File(out) as file:
        assert file["units/electrode_x"][()].tolist() == [0, 3, 1, 4]
        assert file["units/electrode_y"][()].tolist() == [0, -3, -1, -4]


def test_a_repeat_that_is_stored_late_is_named(tmp_path, caplog):
    found = content(late=0)
    savemat(tmp_path / "all.mat", found)
    out = import_recording(tmp_path / "all.mat", tmp_path / "new.nwb")
    assert "repeat 1 is stored 1 frame(s) late" in caplog.text
    check(out, found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Stim": None}, r"but not Stim; are they in other files\? give the folder .*stimulus.npy"),
        ({"Stim": np.zeros((300, 4))}, r"Stim has shape \(300, 4\) .* for movies with pixels save"),
        ({"stimtimes": np.zeros((1, 300))}, "do not increase"),
        ({"stimtimes": np.arange(7.0)}, r"stimtimes \(7,\)"),
        ({"Stim": "words"}, "Stim holds no finite numbers"),
        ({"Stim": np.full((1, 300), -1.0)}, "Stim"),
        ({"SpTimes": np.zeros((1, 3))}, "SpTimes is no structure with the field sp"),
        (
            {"RepSpTimes": structure([np.arange(5000, 5010)])},
            "RepSpTimes has 1 cells and SpTimes 4",
        ),
        ({"repeatStimulusTimes": np.array([1, 2])}, "do not cut"),
        ({"RepStimulusExtended": RNG.random((2, REPEATS * LENGTH * FRAME))}, "one movie"),
    ],
)
def test_other_layouts_are_refused(tmp_path, change, message):
    found = {name: value for name, value in (content() | change).items() if value is not None}
    savemat(tmp_path / "all.mat", found)
    with pytest.raises(RecordingError, match=message):
        import_recording(tmp_path / "all.mat", tmp_path / "new.nwb")
    assert not (tmp_path / "new.nwb").exists()


def test_damaged_files_are_refused(tmp_path):
    savemat(tmp_path / "all.mat", content())
    whole = (tmp_path / "all.mat").read_bytes()
    for part in (b"", whole[:300], whole[: len(whole) // 2], b"x" * 4000):
        (tmp_path / "all.mat").write_bytes(part)
        with pytest.raises(RecordingError):
            import_recording(tmp_path / "all.mat", tmp_path / "new.nwb")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        bytes_[rng.integers(0, len(whole), 30)] = rng.integers(0, 256, 30)
        (tmp_path / "all.mat").write_bytes(bytes_.tobytes())
        try:
            import_recording(tmp_path / "all.mat", tmp_path / "new.nwb", overwrite=True)
        except RecordingError:
            continue


@pytest.mark.realdata
def test_the_salamander_is_read_back_with_its_receptive_fields(data_dir, tmp_path):
    from nwbinspector import inspect_nwbfile
    from scipy.io import loadmat

    source = data_dir / "rgc_salamander"
    out = import_recording(source, tmp_path / "salamander.nwb")
    assert [m.message for m in inspect_nwbfile(nwbfile_path=out)] == []
    spikes = loadmat(source / "SpTimes.mat", squeeze_me=True)["SpTimes"]["sp"]
    again = loadmat(source / "RepSpTimes.mat", squeeze_me=True)["RepSpTimes"]["sp"]
    with h5py.File(out) as file:
        ends = file["units/spike_times_index"][()]
        trains = np.split(file["units/spike_times"][()], ends[:-1])
    onsets = loadmat(source / "stimtimes.mat", squeeze_me=True)["stimtimes"]
    shift = int(onsets[-1] + 333) + 10_000
    assert len(trains) == 251
    for train, first, second in zip(trains, spikes, again, strict=True):
        both = np.concatenate([np.sort(np.ravel(first)), np.sort(np.ravel(second)) + shift])
        np.testing.assert_array_equal(train, both / 10_000)
    once, repeated = (read_nwb(out, stimulus=name) for name in MOVIES)
    assert repeated["repeats"].shape == (9, 601, 251)
    movie, clip = (read_stimulus(out, name)["contrast"].values.ravel() for name in MOVIES)
    light = loadmat(source / "Stim.mat", squeeze_me=True)["Stim"]
    np.testing.assert_allclose(movie, light / light.mean() - 1, atol=1e-6)
    z = averages(once["spike_count"].values, movie)
    peak = np.abs(z).argmax(axis=0)
    height = np.abs(z).max(axis=0)
    assert (height > 10).sum() == 248
    early = z[2:4][np.abs(z[2:4]).argmax(axis=0), np.arange(251)]  # 67 to 100 ms
    assert ((early < 0).sum(), (early > 0).sum()) == (249, 2)
    # every repeat answers to the same frames at the same lag, the first too
    for trial in (0, 4):
        lags = np.abs(averages(repeated["repeats"].values[trial], clip)).argmax(axis=0)
        assert np.median(np.abs(lags - peak)[height > 30]) == 0


def averages(counts, light, history=30):
    """The spike-triggered average (lag, cell) in standard errors."""
    light = (light - light.mean()) / light.std()
    counts = np.nan_to_num(counts)[history:]
    rows = np.stack([light[history - lag : len(light) - lag] for lag in range(history)])
    return (rows @ counts) / np.sqrt(np.maximum(counts.sum(axis=0), 1))
