import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.import_formats import FORMATS, PATH_FORMATS
from retinacodec.importers import describe, import_recording, needs_import
from retinacodec.nwb import Contrast, read_nwb, read_stimulus
from retinacodec.ran1 import ran1_bits
from retinacodec.schema import make_stimulus
from retinacodec.store import save

FIRST_BITS = "0101 1110 1101 0000 0010 1111 0000 1011"
# z, lag in frames (0 is the frame on screen at the spike), x, y of the peak of each cell's STA
PEAKS = [
    (9.6, 9, 30, 21),
    (17.9, 10, 31, 20),
    (-17.8, 7, 31, 20),
    (-8.2, 8, 33, 25),
    (-12.3, 10, 33, 25),
    (9.6, 10, 31, 24),
]


def reference_ran1(count, seed):
    """Numerical Recipes, as printed: Schrage's division, one draw at a time."""

    def step(state):
        quotient = state // 127773
        state = 16807 * (state - quotient * 127773) - 2836 * quotient
        return state + 2147483647 if state < 0 else state

    state, table = -seed, [0] * 32
    for place in range(39, -1, -1):
        state = step(state)
        if place < 32:
            table[place] = state
    output, bits = table[0], []
    for _ in range(count):
        state = step(state)
        place = output // (1 + 2147483646 // 32)
        output, table[place] = table[place], state
        bits.append(int(output / 2147483647 > 0.5))
    return bits


def test_the_bits_are_those_of_the_printed_generator():
    for seed in (-10000, -1, -2147483646):
        assert ran1_bits(3000, seed).tolist() == reference_ran1(3000, seed)
    assert "".join(map(str, ran1_bits(32, -10000))) == FIRST_BITS.replace(" ", "")
    assert ran1_bits(10**6, -10000).sum() == 499257
    with pytest.raises(InputError, match="negative seed"):
        ran1_bits(5, 3)


@pytest.fixture
def ret1(tmp_path):
    """A short recording in the layout of CRCNS ret-1, with its links to pixels elsewhere."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        for place, words in {
            "nwb_version": "1.0.6",
            "identifier": "test",
            "session_description": "a session",
            "session_start_time": "2008-06-06 14:36:28",
            "general/experimenter": "Ada B Love",
            "general/lab": "lab",
            "general/institution": "place",
            "general/session_id": "7",
        }.items():
            file[place] = words
        for number, (size, steps) in enumerate((((6, 1), (1, 48)), ((6, 5), (10, 10))), 1):
            movie = file.create_group(f"stimulus/presentation/rec_stim_{number}")
            movie.attrs.update(
                dx=steps[0],
                dy=steps[1],
                pixel_size=8.3,
                description="type = binarywhitenoise; seed = -10000",
            )
            movie["dimension"] = size
            movie["timestamps"] = number * 10 + np.arange(200) * 0.0166718062
            movie["data"] = h5py.ExternalLink("stim_lib/movie.h5", "/x")
            epoch = file.create_group(f"epochs/stim_{number}")
            epoch["start_time"], epoch["stop_time"] = number * 10.0 - 0.5, number * 10.0 + 8
        for cell in (1, 2):
            spikes = rng.uniform(10, 13.3, (2, 40)) + np.array([[0], [10]])
            file[f"processing/Cells/UnitTimes/cell_{cell}/times"] = np.sort(spikes.ravel())
    return tmp_path / "old.nwb"


def test_an_old_recording_becomes_nwb_2_with_its_movies_drawn_again(ret1, tmp_path):
    from nwbinspector import inspect_nwbfile

    out = import_recording(ret1, tmp_path / "new.nwb")
    movie = read_stimulus(out, "rec_stim_2")
    bits = np.array(reference_ran1(200 * 30, -10000)).reshape(200, 6, 5)
    np.testing.assert_array_equal(movie["contrast"], (2.0 * bits - 1).transpose(0, 2, 1))
    assert movie.attrs["pixel_um"] == pytest.approx(83) and movie.attrs["seed"] == -10000
    bars = read_stimulus(out, "rec_stim_1")
    assert bars["contrast"].shape == (200, 1, 6) and bars.attrs["pixel_um"] == pytest.approx(8.3)
    np.testing.assert_array_equal(
        bars["contrast"].values.ravel()[:32], 2.0 * np.array(reference_ran1(32, -10000)) - 1
    )
    cells = read_nwb(out, stimulus="rec_stim_1")
    with h5py.File(ret1) as old, h5py.File(out) as new:
        flips = old["stimulus/presentation/rec_stim_1/timestamps"][()]
        np.testing.assert_array_equal(cells["time"], flips)
        spikes = old["processing/Cells/UnitTimes/cell_2/times"][()]
        edges = np.append(flips, flips[-1] + 0.0166718062)
        np.testing.assert_array_equal(cells["spike_count"][:, 1], np.histogram(spikes, edges)[0])
        assert new["general/experimenter"][0] == b"Love, Ada B"
    assert cells["cell"].values.tolist() == ["cell_1", "cell_2"]
    assert [m.message for m in inspect_nwbfile(nwbfile_path=out)] == []


def test_one_movie_may_be_chosen_and_a_wrong_name_lists_them(ret1, tmp_path):
    out = import_recording(ret1, tmp_path / "new.nwb", stimulus="rec_stim_2")
    assert read_stimulus(out).attrs["name"] == "rec_stim_2"
    with pytest.raises(RecordingError, match="no movie 'x'; it has rec_stim_1, rec_stim_2"):
        import_recording(ret1, tmp_path / "other.nwb", stimulus="x")
    with pytest.raises(InputError, match="exists"):
        import_recording(ret1, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.nwb", "old.nwb"]


def test_a_movie_of_another_kind_cannot_be_drawn_again(ret1, tmp_path):
    with h5py.File(ret1, "r+") as file:
        file["stimulus/presentation/rec_stim_2"].attrs["description"] = "type = gratings; seed = 1"
    with pytest.raises(RecordingError, match="rec_stim_2 is 'type = gratings; seed = 1', which"):
        import_recording(ret1, tmp_path / "new.nwb")
    assert not (tmp_path / "new.nwb").exists()


@pytest.fixture
def laboratory(tmp_path):
    """A recording as train and test arrays with counts in 10 ms bins."""
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "naturalscene.h5", "w") as file:
        for part, frames in (("train", 300), ("test", 100)):
            file[f"{part}/time"] = np.arange(frames) / 100
            file[f"{part}/stimulus"] = rng.integers(0, 255, (frames, 6, 4), dtype=np.uint8)
            file[f"{part}/response/binned"] = rng.poisson(0.3, (3, frames))
    return tmp_path / "naturalscene.h5"


def test_laboratory_arrays_become_nwb_2(laboratory, tmp_path):
    from nwbinspector import inspect_nwbfile

    out = import_recording(laboratory, tmp_path / "new.nwb", pixel_um=55)
    with h5py.File(laboratory) as file:
        grey = file["train/stimulus"][()].mean()
        for part in ("train", "test"):
            movie, cells = read_stimulus(out, part), read_nwb(out, stimulus=part)
            values = file[f"{part}/stimulus"][()].astype(float)
            np.testing.assert_allclose(movie["contrast"], values / grey - 1, atol=1e-6)
            counts = file[f"{part}/response/binned"][()].T
            np.testing.assert_array_equal(cells["spike_count"], counts)
        assert movie["time"][0] == pytest.approx(4.0) and movie.attrs["pixel_um"] == 55
    assert [m.message for m in inspect_nwbfile(nwbfile_path=out)] == []


def test_laboratory_arrays_of_floats_need_a_contrast(laboratory, tmp_path):
    with h5py.File(laboratory, "r+") as file:
        values = np.random.default_rng(2).normal(size=(300, 6, 4))
        del file["train/stimulus"], file["test"]
        file["train/stimulus"] = values
    with pytest.raises(RecordingError, match=r"no light intensities; .*contrast="):
        import_recording(laboratory, tmp_path / "new.nwb", pixel_um=55)
    out = import_recording(laboratory, tmp_path / "new.nwb", pixel_um=55, contrast=Contrast(0, 2))
    np.testing.assert_array_equal(read_stimulus(out)["contrast"], (values / 2).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: None, "give pixel_um="),
        (
            lambda file: file.move("train/response/binned", "train/response/other"),
            r"train/response holds other; expected binned \(counts\) or firing_rate_10ms",
        ),
        (lambda file: put(file, "train/response/binned", np.zeros((3, 299))), "expected"),
        (lambda file: put(file, "train/time", np.arange(299.0)), "299 times for 300 frames"),
        (lambda file: put(file, "train/response/binned", np.full((3, 300), 0.5)), "whole counts"),
    ],
)
def test_broken_laboratory_files_are_refused(laboratory, tmp_path, change, message):
    with h5py.File(laboratory, "r+") as file:
        change(file)
    with pytest.raises(RecordingError, match=message):
        import_recording(
            laboratory, tmp_path / "new.nwb", pixel_um=None if "pixel_um" in message else 55
        )
    assert not (tmp_path / "new.nwb").exists()


def test_the_help_shows_an_example_for_each_format():
    from retinacodec.cli_recordings import import_

    words = " ".join(import_.__doc__.split())
    for one in (*FORMATS, *PATH_FORMATS):
        assert one.example in words


def test_what_no_format_knows_is_refused_with_the_formats_that_are(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RecordingError, match=r"no known format; known are NWB 1 .*arrays.*MATLAB"):
        import_recording(tmp_path / "plain.h5", tmp_path / "new.nwb")
    assert not needs_import(tmp_path / "plain.h5")
    for name in ("nowhere", "nowhere.mat", "nowhere.npz"):
        with pytest.raises(RecordingError, match="no such file"):
            import_recording(tmp_path / name, tmp_path / "new.nwb")
    with pytest.raises(RecordingError, match="is a folder"):
        import_recording(tmp_path, tmp_path / "new.nwb")


def put(file, place, values):
    del file[place]
    file[place] = values


def test_every_kind_of_file_is_described_with_the_next_command(ret1, laboratory, tmp_path):
    old = describe(ret1)
    assert old.kind == "NWB 1 recording (CRCNS ret-1)" and old.problems == ()
    assert dict(old.contents)["cells"] == "2 with 160 spikes"
    assert old.next.startswith("retinacodec import ") and "--out old_nwb2.nwb" in old.next
    assert "retinacodec import" in describe(laboratory).next
    new = describe(import_recording(ret1, tmp_path / "new.nwb"))
    assert dict(new.contents)["movie rec_stim_2"].endswith("59.98 Hz, 20.0 to 23.3 s, 6 x 5 pixels")
    assert "--stimulus rec_stim_2" in new.next and new.to_dict()["problems"] == []
    movie = make_stimulus(np.zeros((5, 2, 3)), frame_rate=30, pixel_um=50, name="grey")
    stored = describe(save(movie, tmp_path / "grey.nc"))
    assert stored.kind == "stimulus" and stored.contents == (("contrast", "5 time x 2 y x 3 x"),)
    np.savez(tmp_path / "arrays.npz", a=np.zeros((2, 3)))
    assert describe(tmp_path / "arrays.npz").contents == (("a", "float64 (2, 3)"),)
    assert describe(tmp_path).problems == ("is a folder, not a file",)
    np.savez(tmp_path / "all.npz", stimulus=np.zeros((2, 3, 4)), spikes_a=np.array([1.0, 2.0]))
    found = describe(tmp_path / "all.npz")
    assert found.kind.startswith("arrays") and dict(found.contents)["cells"] == "1 with 2 spikes"
    assert found.next.startswith("retinacodec import ")
    (tmp_path / "all.mat").write_bytes(b"x" * 500)
    assert "all.mat" in describe(tmp_path / "all.mat").problems[0]
    (tmp_path / "all.mat").unlink()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RecordingError, match="of no kind known here; known are NWB"):
        describe(tmp_path / "notes.txt")


def test_the_text_names_contents_problems_and_next_step(ret1):
    lines = describe(ret1).text().splitlines()
    assert lines[0] == f"{ret1}: NWB 1 recording (CRCNS ret-1)" and len(lines) == 5
    assert lines[1] == (
        "  movie rec_stim_1  200 frames of 6 x 1 pixels, type = binarywhitenoise; seed = -10000"
    )
    assert lines[-1].startswith("next: retinacodec import ")


@pytest.mark.realdata
def test_the_mouse_recording_has_its_receptive_fields(data_dir, tmp_path):
    from nwbinspector import inspect_nwbfile

    folder = data_dir / "rgc_mouse_ret1"
    out = import_recording(
        folder / "20080606_R2.nwb", tmp_path / "mouse.nwb", stimulus="rec_stim_2"
    )
    assert [m.message for m in inspect_nwbfile(nwbfile_path=out)] == []
    with h5py.File(folder / "20080606_R2.nwb") as old, h5py.File(out) as new:
        names = [f"processing/Cells/UnitTimes/cell_{cell}/times" for cell in range(1, 7)]
        trains = np.concatenate([old[name][()] for name in names])
        np.testing.assert_array_equal(new["units/spike_times"], trains)
    cells = read_nwb(out)
    movie = read_stimulus(out, crop=(12, 36, 20, 44))
    stored = np.load(folder / "checkers_64x48_crop_x20-44_y12-36.npz")
    bits = np.unpackbits(stored["packed"], axis=1)[:, :576].reshape(stored["shape"])
    np.testing.assert_array_equal(movie["contrast"], (bits * 2.0 - 1).transpose(0, 2, 1))
    assert movie.attrs["pixel_um"] == pytest.approx(83)
    pixels, lags = movie["contrast"].values.reshape(len(bits), -1), 16
    counts = cells["spike_count"].values[32:]  # as far as the longest window of the table
    z = np.stack([counts.T @ pixels[32 - lag : len(pixels) - lag] for lag in range(lags)], 1)
    z /= np.sqrt(counts.sum(0))[:, None, None]
    for cell, (height, lag, x, y) in enumerate(PEAKS):
        place = np.unravel_index(np.abs(z[cell]).argmax(), z[cell].shape)
        assert (place[0], 20 + place[1] % 24, 12 + place[1] // 24) == (lag, x, y)
        assert z[cell][place] == pytest.approx(height, abs=0.3)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("place", "kind", "problems"),
    [
        ("nwb/A8604-211122.nwb", "NWB 2.4.0", ["has no movie"]),
        ("nwb/2.1.0_imageseries_non_external_format.nwb", "NWB 2.5.0", ["in another file"]),
        ("rgc_mouse_ret1/20080606_R2.nwb", "NWB 1 recording (CRCNS ret-1)", []),
        ("movies/mdn_bug.mp4", "film clip", []),
    ],
)
def test_real_files_are_described(data_dir, place, kind, problems):
    found = describe(data_dir / place)
    said = (*found.problems, *found.notices)
    assert found.kind == kind and len(said) == len(problems)
    assert all(words in said[k] for k, words in enumerate(problems))
