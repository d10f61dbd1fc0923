import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.importers import import_recording, needs_import
from retinacodec.nwb import Contrast, read_nwb, read_stimulus

RNG = np.random.default_rng(0)
FRAMES = 200
PIXELS = RNG.integers(0, 256, (FRAMES, 5, 7), dtype=np.uint8)
FLIPS = 3 + np.cumsum(RNG.uniform(0.03, 0.036, FRAMES))
TRAINS = {"a": np.sort(RNG.uniform(3, 9, 90)), "b 2": np.sort(RNG.uniform(3, 9, 40))}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "recording"
    (place / "spikes").mkdir(parents=True)
    np.save(place / "stimulus.npy", PIXELS)
    np.save(place / "frame_times.npy", FLIPS)
    np.save(place / "spikes" / "a.npy", TRAINS["a"])
    (place / "spikes" / "b 2.txt").write_text("\n".join(map(repr, TRAINS["b 2"].tolist())))
    return place


def check(out, contrast=None, flips=FLIPS):
    movie = read_stimulus(out)
    grey = PIXELS.mean()
    expected = (PIXELS.astype(float) - grey) / grey if contrast is None else contrast
    np.testing.assert_array_equal(movie["contrast"], np.asarray(expected, np.float32))
    np.testing.assert_array_equal(movie["time"], flips)
    with h5py.File(out) as file:
        flat = np.concatenate(list(TRAINS.values()))
        np.testing.assert_array_equal(file["units/spike_times"], flat)
        assert file["units/unit_name"].asstr()[()].tolist() == list(TRAINS)


def test_a_folder_of_arrays_becomes_nwb_2(folder, tmp_path):
    from nwbinspector import inspect_nwbfile

    assert needs_import(folder)
    out = import_recording(folder, tmp_path / "new.nwb", pixel_um=50)
    check(out)
    assert read_stimulus(out).attrs["pixel_um"] == 50
    counts = np.histogram(TRAINS["a"], np.append(FLIPS, FLIPS[-1] + np.median(np.diff(FLIPS))))[0]
    np.testing.assert_array_equal(read_nwb(out)["spike_count"][:, 0], counts)
    assert [m.message for m in inspect_nwbfile(nwbfile_path=out)] == []
    check(import_recording(folder / "stimulus.npy", tmp_path / "same.nwb", pixel_um=50))


@pytest.mark.parametrize("way", ["csv", "header", "npz", "all"])
def test_spikes_may_be_in_a_table_or_an_npz(folder, tmp_path, way):
    for file in (folder / "spikes").iterdir():
        file.unlink()
    (folder / "spikes").rmdir()
    source = folder
    if way in ("csv", "header"):
        rows = [f"{cell},{time!r}" for cell, times in TRAINS.items() for time in times.tolist()]
        head = ["cell,time"] if way == "header" else []
        (folder / "spikes.csv").write_text("\n".join(head + rows) + "\n")
    elif way == "npz":
        np.savez(folder / "spikes.npz", **TRAINS)
    else:
        source = tmp_path / "all.npz"
        trains = {f"spikes_{cell}": times for cell, times in TRAINS.items()}
        np.savez_compressed(source, stimulus=PIXELS, frame_times=FLIPS, **trains)
        assert needs_import(source)
    check(import_recording(source, tmp_path / "new.nwb", pixel_um=50))


def test_options_give_what_the_arrays_do_not_hold(folder, tmp_path):
    (folder / "frame_times.npy").unlink()
    np.save(folder / "stimulus.npy", PIXELS.astype(np.float32))
    np.save(folder / "spikes" / "a.npy", TRAINS["a"] * 1000)
    (folder / "spikes" / "b 2.txt").write_text(
        " ".join(repr(1e3 * t) for t in TRAINS["b 2"].tolist())
    )
    out = import_recording(
        folder,
        tmp_path / "new.nwb",
        pixel_um=12,
        frame_rate=25,
        time_scale=1e-3,
        contrast=Contrast(100, 50),
    )
    movie = read_stimulus(out)
    np.testing.assert_array_equal(movie["contrast"], (PIXELS.astype(np.float32) - 100) / 50)
    np.testing.assert_array_equal(movie["time"], np.arange(FRAMES) / 25)
    with h5py.File(out) as file:
        np.testing.assert_allclose(
            file["units/spike_times"], np.concatenate(list(TRAINS.values())), rtol=1e-14
        )


def test_a_full_field_needs_no_pixel_size(folder, tmp_path):
    np.save(folder / "stimulus.npy", PIXELS[:, 0, 0])
    out = import_recording(folder, tmp_path / "new.nwb")
    assert read_stimulus(out)["contrast"].shape == (FRAMES, 1, 1)


def evil(folder):
    np.save(folder / "spikes" / "a.npy", np.array([{1: 2}], dtype=object), allow_pickle=True)


def without_spikes(folder):
    for file in (folder / "spikes").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "frame_times.npy").unlink(), r"frame_times.npy \(s\); .*frame_rate="),
        (lambda f: (f / "stimulus.npy").unlink(), r"no stimulus.npy \(time, y, x\)"),
        (without_spikes, r"no spikes; add spikes/ with one .npy"),
        (lambda f: np.save(f / "stimulus.npy", PIXELS[0]), r"shape \(5, 7\), expected"),
        (lambda f: np.save(f / "frame_times.npy", FLIPS[:9]), "9 times for 200 frames"),
        (lambda f: np.save(f / "frame_times.npy", FLIPS[::-1]), "does not increase after frame 0"),
        (lambda f: np.save(f / "frame_times.npy", FLIPS.astype("U9")), "holds <U9"),
        (evil, "Python objects, which are never loaded"),
        (lambda f: (f / "spikes" / "a.npy").write_bytes(b"\x93NUMPY"), "no plain arrays"),
        (lambda f: (f / "spikes" / "b 2.txt").write_text("1 2 spam"), "other than times"),
        (lambda f: (f / "spikes" / "a.txt").write_text("1"), r"cells twice: \['a'\]"),
        (lambda f: (f / "spikes.csv").write_text("a,1"), "spikes in spikes and spikes.csv"),
        (lambda f: np.save(f / "spikes" / "a.npy", [1.0, np.nan]), "cell a: expected finite"),
        (lambda f: np.save(f / "stimulus.npy", PIXELS - 300.0), "contrast="),
    ],
)
def test_every_missing_or_broken_piece_is_named(folder, tmp_path, change, message):
    change(folder)
    with pytest.raises(RecordingError, match=message):
        import_recording(folder, tmp_path / "new.nwb", pixel_um=50)
    assert not (tmp_path / "new.nwb").exists()


def test_broken_tables_and_options_are_named(folder, tmp_path):
    with pytest.raises(RecordingError, match="give pixel_um="):
        import_recording(folder, tmp_path / "new.nwb")
    with pytest.raises(InputError, match="frame_rate: expected a number above 0, got -1"):
        import_recording(folder, tmp_path / "new.nwb", pixel_um=50, frame_rate=-1)
    with pytest.raises(RecordingError, match="pixel_um: expected um > 0"):
        import_recording(folder, tmp_path / "new.nwb", pixel_um=np.nan)
    for file in (folder / "spikes").iterdir():
        file.unlink()
    (folder / "spikes").rmdir()
    (folder / "spikes.csv").write_text("cell,time\na,1\nb,later\n")
    with pytest.raises(RecordingError, match=r"line 3 is 'b,later'; expected cell,time"):
        import_recording(folder, tmp_path / "new.nwb", pixel_um=50)


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("retinacodec.array_files._LARGE", 1 << 16)
    np.savez_compressed(tmp_path / "all.npz", stimulus=np.zeros((1000, 50, 50), np.uint8))
    with pytest.raises(RecordingError, match="expands to absurd sizes"):
        import_recording(tmp_path / "all.npz", tmp_path / "new.nwb", pixel_um=50)


def test_links_out_of_the_folder_are_refused_and_no_foreign_line_is_quoted(folder, tmp_path):
    """A folder that was handed on must not show other files as its own."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    np.save(elsewhere / "x.npy", np.arange(9.0))
    (elsewhere / "secret.txt").write_text("name:password")
    for link, target in (
        ("spikes/x.npy", elsewhere / "x.npy"),
        ("spikes/secret.txt", elsewhere / "secret.txt"),
        ("more", elsewhere),
    ):
        (folder / link).symlink_to(target)
        for source in (folder, folder / "stimulus.npy"):
            with pytest.raises(RecordingError, match="is a link to a file elsewhere"):
                import_recording(source, tmp_path / "out.nwb", pixel_um=50)
        (folder / link).unlink()
    (folder / "inside.npy").symlink_to(folder / "stimulus.npy")
    import_recording(folder, tmp_path / "out.nwb", pixel_um=50)
    (folder / "spikes" / "b.txt").write_text("name:password")
    with pytest.raises(RecordingError) as caught:
        import_recording(folder, tmp_path / "other.nwb", pixel_um=50)
    assert "password" not in str(caught.value)
    assert not (tmp_path / "other.nwb").exists()


def test_times_out_of_order_are_noticed(folder, tmp_path, caplog):
    (folder / "spikes" / "late.txt").write_text("3 1 2 0.5")
    import_recording(folder, tmp_path / "out.nwb", pixel_um=50)
    assert "times of cell late fall back in 2 places" in caplog.text
