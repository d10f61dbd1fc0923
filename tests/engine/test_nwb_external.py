"""Films beside an NWB file: exact frames in any order, and which films are opened at all."""

from fractions import Fraction

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.nwb import open_nwb, read_nwb, read_stimulus
from retinacodec.nwb_external import Films, _Reader
from retinacodec.nwb_movies import open_movie
from retinacodec.nwb_preview import preview

av = pytest.importorskip("av")
image = pytest.importorskip("pynwb.image")

FRAMES = np.random.default_rng(0).integers(0, 256, (50, 7, 9), dtype=np.uint8)  # (frame, row, col)


def film(path, frames=FRAMES, codec="ffv1", form="gray", source="gray", stamps=None):
    """Write a film with PyAV; stamps are milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = form
        for number, values in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format=source)
            if stamps is not None:
                frame.pts, frame.time_base = int(stamps[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def recorded(lab_file, tmp_path):
    """Write an NWB file whose movie lies in films."""

    def write(files=("film.mkv",), starts=(0,), frames=50, room="stimulus", **times):
        if not times:
            times = {"timestamps": 3 + np.arange(frames) / 30}
        series = image.ImageSeries(
            "clip",
            external_file=list(files),
            starting_frame=list(starts),
            format="external",
            unit="n.a.",
            **times,
        )
        return lab_file(series)

    return write


def pixels(path, use, **how):
    with open_nwb(path) as file:
        return use(open_movie(file, str(path), **how).open_pixels())


@pytest.mark.parametrize("kind", ["film.mkv", "film.avi", "sub/film.mkv"])
def test_frames_are_exact_in_any_order(recorded, tmp_path, kind):
    (tmp_path / "sub").mkdir()
    film(tmp_path / kind)
    ranges = [(0, 50), (10, 20), (3, 4), (49, 50), (48, 50), (0, 1), (12, 12 + 30)]

    def look(found):
        assert found.frames == 50 and found.size == (9, 7) and found.upright
        return [found.raw(*ends) for ends in ranges]

    for (start, stop), values in zip(ranges, pixels(recorded((kind,)), look), strict=True):
        np.testing.assert_array_equal(values, FRAMES[start:stop].transpose(0, 2, 1))
        assert values.dtype == np.uint8


def test_a_film_is_upright_whatever_the_order_of_axes_is_said_to_be(recorded, tmp_path):
    film(tmp_path / "film.mkv")
    expected = FRAMES / FRAMES.mean() - 1
    for order in ("xy", "yx"):
        movie = read_stimulus(recorded(), pixel_um=20, spatial_order=order)
        np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)
    assert movie.sizes == {"time": 50, "y": 7, "x": 9}


def test_a_preview_of_a_film_needs_no_order(recorded, tmp_path):
    film(tmp_path / "film.mkv")
    path = recorded()
    with open_nwb(path) as file:
        found = preview(file, str(path), frames=2)
    assert found.known and found.frames == (0, 49) and not found.sides_um
    np.testing.assert_array_equal(found.xy, FRAMES[[0, 49]])
    np.testing.assert_array_equal(found.yx, FRAMES[[0, 49]])


def test_several_films_are_one_movie_and_must_say_where_they_start(recorded, tmp_path):
    parts = [(0, 20), (20, 21), (21, 50)]
    for number, (start, stop) in enumerate(parts):
        film(tmp_path / f"{number}.mkv", FRAMES[start:stop])
    files = [f"{number}.mkv" for number in range(3)]
    found = pixels(
        recorded(files, (0, 20, 21)),
        lambda held: [held.raw(0, 50), held.raw(19, 23), held.raw(5, 6)],
    )
    for values, (start, stop) in zip(found, [(0, 50), (19, 23), (5, 6)], strict=True):
        np.testing.assert_array_equal(values, FRAMES[start:stop].transpose(0, 2, 1))
    with pytest.raises(
        RecordingError, match=r"starting_frame of clip is \[0, 0, 0\].*\[0, 20, 21\]"
    ):
        pixels(recorded(files, (0, 0, 0)), None)
    film(tmp_path / "1.mkv", FRAMES[20:21, :5])
    with pytest.raises(
        RecordingError, match=r"the films of clip have sizes \[\(9, 5\), \(9, 7\)\]"
    ):
        pixels(recorded(files, (0, 20, 21)), None)


def test_colours_are_averaged_and_loss_is_noticed(recorded, tmp_path, caplog):
    colours = np.random.default_rng(1).integers(0, 256, (50, 7, 9, 3), dtype=np.uint8)
    film(tmp_path / "film.mkv", colours, form="bgr0", source="rgb24")
    values = pixels(recorded(), lambda held: held.raw(0, 50))
    np.testing.assert_allclose(values, colours.mean(3).transpose(0, 2, 1))
    assert not caplog.text
    film(tmp_path / "film.mp4", FRAMES.repeat(8, 1).repeat(8, 2), codec="libx264", form="yuv420p")
    lossy = pixels(recorded(("film.mp4",)), lambda held: held.raw(20, 40))
    assert caplog.text.count("compressed with loss (h264): grey values are approximate") == 1
    shown = FRAMES.repeat(8, 1).repeat(8, 2)[20:40].transpose(0, 2, 1)
    assert np.abs(lossy.astype(float) - shown).mean() < 3


def test_sixteen_bit_greys_are_kept(recorded, tmp_path):
    deep = np.random.default_rng(2).integers(0, 1 << 16, (50, 7, 9), dtype=np.uint16)
    film(tmp_path / "film.mkv", deep, form="gray16le", source="gray16le")
    values = pixels(recorded(), lambda held: held.raw(5, 9))
    np.testing.assert_array_equal(values, deep[5:9].transpose(0, 2, 1))


def test_slabs_in_order_decode_every_frame_once(recorded, tmp_path, monkeypatch):
    film(tmp_path / "film.mkv")
    decoded, placed = [], []
    step, place = _Reader._step, _Reader._place
    monkeypatch.setattr(_Reader, "_step", lambda self: decoded.append(1) or step(self))
    monkeypatch.setattr(_Reader, "_place", lambda self, at: placed.append(at) or place(self, at))

    def look(found):
        for start in range(0, 50, 7):
            found.raw(start, min(start + 7, 50))
        assert len(decoded) == 50 and placed == [0]
        found.raw(10, 12)
        assert placed == [0, 10]

    pixels(recorded(), look)


def test_the_films_of_a_closed_file_are_closed(recorded, tmp_path):
    film(tmp_path / "film.mkv")
    path = recorded()
    with open_nwb(path) as file:
        films = Films(file["stimulus/presentation/clip"], str(path))
        films.raw(0, 2)
        assert len(films._readers) == 1
    with pytest.raises(RecordingError, match="is closed"):
        films.raw(2, 3)
    assert not films._readers


def test_counts_are_compared_with_times_and_num_samples(recorded, tmp_path, caplog):
    film(tmp_path / "film.mkv")
    with pytest.raises(RecordingError, match="clip has 40 timestamps for 50 frames"):
        pixels(recorded(frames=40), None)
    with pytest.raises(
        RecordingError, match="100 timestamps for 50 frames; two timestamps a frame"
    ):
        pixels(recorded(frames=100), None)
    assert pixels(recorded(frames=51), lambda held: held.frames) == 50
    assert "51 timestamps for 50 frames; the last timestamp is left out" in caplog.text
    path = recorded(rate=30.0, starting_time=3.0, num_samples=50)
    assert pixels(path, lambda held: held.frames) == 50
    with pytest.raises(RecordingError, match="num_samples 44, but its films have 50 frames"):
        pixels(recorded(rate=30.0, starting_time=3.0, num_samples=44), lambda held: held)


def test_an_old_file_with_a_rate_takes_its_length_from_the_film(recorded, tmp_path):
    film(tmp_path / "film.mkv")
    path = recorded(rate=30.0, starting_time=3.0, num_samples=50)
    with h5py.File(path, "r+") as file:  # as written before num_samples was needed
        del file["stimulus/presentation/clip/num_samples"]
    with open_nwb(path) as file:
        flips = open_movie(file, str(path)).flips[0]
    np.testing.assert_allclose(flips, 3 + np.arange(50) / 30)


def test_a_variable_frame_rate_is_noticed(recorded, tmp_path, caplog):
    stamps = np.cumsum(np.where(np.arange(50) == 20, 150, 33))
    film(tmp_path / "film.mkv", stamps=stamps)
    values = pixels(recorded(), lambda held: [held.raw(0, 50), held.raw(21, 22)])
    np.testing.assert_array_equal(values[0], FRAMES.transpose(0, 2, 1))
    np.testing.assert_array_equal(values[1][0], FRAMES[21].T)
    assert "film.mkv has a variable frame rate; the times in the NWB file are used" in caplog.text


def outside(tmp_path):
    """Put a film next to, not into, the folder of the recording."""
    place = tmp_path.parent / f"{tmp_path.name}_films"
    place.mkdir()
    film(place / "film.mkv")
    return place


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("/etc/passwd", r"\(/etc/passwd\), given by an absolute path; put it beside"),
        ("C:\\films\\a.avi", "given by an absolute path"),
        ("../{place}/film.mkv", "outside the folder of the NWB file"),
        ("linked.mkv", "outside the folder of the NWB file"),
        ("folder/film.mkv", "outside the folder of the NWB file"),
        ("https://host/film.mkv", "which is a URL; download it"),
        ("file:///etc/passwd", "which is a URL"),
        ("none.mkv", "which is missing; copy it to"),
        (".", "given|outside|no plain file"),
        ("text.mkv", r"text\.mkv, a film of clip, cannot be read"),
        ("list.m3u8", r"list\.m3u8, a film of clip, cannot be read"),
        ("concat:a.mkv|b.mkv", "which is missing"),
    ],
)
def test_films_that_may_not_or_cannot_be_opened_are_refused_in_one_line(
    recorded, tmp_path, entry, message
):
    place = outside(tmp_path)
    (tmp_path / "linked.mkv").symlink_to(place / "film.mkv")
    (tmp_path / "folder").symlink_to(place)
    (tmp_path / "text.mkv").write_text("hello")
    film(tmp_path / "inside.mkv")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ninside.mkv\n#EXT-X-ENDLIST\n"
    )
    path = recorded((entry.format(place=place.name),))
    with pytest.raises(RecordingError, match=message) as caught:
        pixels(path, None)
    said = str(caught.value)
    assert "\n" not in said and ("pixels of clip" in said or "film of clip" in said)
    with open_nwb(path) as file:  # flip times alone need no film
        assert open_movie(file, str(path)).flips[0].size == 50


@pytest.mark.parametrize("entry", ["../{place}/film.mkv", "linked.mkv", "{whole}/film.mkv"])
def test_films_elsewhere_are_opened_where_the_user_allows_them(recorded, tmp_path, entry):
    place = outside(tmp_path)
    (tmp_path / "linked.mkv").symlink_to(place / "film.mkv")
    path = recorded((entry.format(place=place.name, whole=place),))
    for allowed in (place, place / "film.mkv", place.parent):
        values = pixels(path, lambda held: held.raw(7, 9), allow_external=(allowed,))
        np.testing.assert_array_equal(values, FRAMES[7:9].transpose(0, 2, 1))
    with pytest.raises(RecordingError, match="pixels of clip are in another file"):
        pixels(path, None, allow_external=(tmp_path / "other",))


def test_a_damaged_film_is_refused_where_it_breaks(recorded, tmp_path):
    film(tmp_path / "film.mkv")
    content = bytearray((tmp_path / "film.mkv").read_bytes())
    path = recorded()
    (tmp_path / "film.mkv").write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"50 timestamps for \d\d frames|film of clip"):
        pixels(path, lambda held: held.raw(0, 50))


def test_spikes_are_read_without_the_film(recorded, tmp_path):
    path = recorded(("none.mkv",))
    with h5py.File(path, "r+") as file:
        units = file.create_group("units")
        units.attrs["neurodata_type"] = "Units"
        units["id"], units["spike_times"] = [0], np.array([3.05, 3.5])
        units["spike_times_index"] = np.array([2])
    assert read_nwb(path)["spike_count"].values[[1, 15], 0].tolist() == [1, 1]
