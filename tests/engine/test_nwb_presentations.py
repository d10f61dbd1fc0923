"""Repeats of a movie: the rule that finds them, their frames, and what is no repeat."""

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.index_blocks import equal_blocks, period_of
from retinacodec.nwb import open_nwb, read_stimulus
from retinacodec.nwb_movies import open_movie

base = pytest.importorskip("pynwb.base")
epoch = pytest.importorskip("pynwb.epoch")
image = pytest.importorskip("pynwb.image")

RNG = np.random.default_rng(0)
CLIP = RNG.integers(20, 220, (20, 4, 3), dtype=np.uint8)
OTHER = RNG.integers(20, 220, (40, 4, 3), dtype=np.uint8)


def shown(data):
    flips = 3.0 + np.arange(len(data)) / 30
    view = [200e-6, 150e-6]
    return image.OpticalSeries(
        "movie",
        data=data,
        unit="n.a.",
        distance=0.1,
        field_of_view=view,
        orientation="x, y",
        timestamps=flips,
    )


def rows(ranges, *, named="movie", repeat=False, series=None):
    """A table of intervals whose rows begin and end with frames of the movie."""
    table = epoch.TimeIntervals("epochs_of_movie", "what was shown")
    if named:
        table.add_column("stimulus_name", "name")
    if repeat:
        table.add_column("repeat", "number")
    for number, (start, stop) in enumerate(ranges):
        more = {"stimulus_name": named} if named else {}
        more |= {"repeat": number} if repeat else {}
        more |= {"timeseries": [(start, stop - start, series)]} if series is not None else {}
        table.add_row(start_time=3 + start / 30, stop_time=3 + stop / 30, **more)
    return table


def opened(path, **how):
    with open_nwb(path) as file:
        return open_movie(file, str(path), **how)


def written(lab_file, data, table=None, **how):
    series = shown(data)
    if table is not None:
        table = rows(table, series=series if how.pop("pointing", False) else None, **how)
    change = None if table is None else lambda nwb: nwb.add_time_intervals(table)
    return lab_file(series, change=change)


REPEATS = [(0, 20), (20, 40), (40, 60)]
THRICE = np.concatenate([CLIP] * 3)


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"repeat": True}, "column repeat of intervals/epochs_of_movie"),
        ({}, "column stimulus_name of intervals/epochs_of_movie"),
        ({"named": "natural_one"}, "column stimulus_name of intervals/epochs_of_movie"),
        (
            {"pointing": True, "named": False},
            "column timeseries of intervals/epochs_of_movie",
        ),
    ],
)
def test_rows_of_a_table_are_repeats(lab_file, how, rule):
    path = written(lab_file, THRICE, REPEATS, **how)
    movie = opened(path)
    assert movie.found_by == rule and movie.first_frames == (0, 20, 40)
    for start, flips in zip((0, 20, 40), movie.flips, strict=True):
        np.testing.assert_array_equal(flips, 3 + np.arange(start, start + 20) / 30)
    assert read_stimulus(path).sizes["time"] == 20


@pytest.mark.parametrize("how", [{}, {"pointing": True}])
def test_rows_that_show_other_pictures_without_saying_repeat_are_one_movie(lab_file, how):
    data = np.concatenate([CLIP, OTHER])
    movie = opened(written(lab_file, data, REPEATS, **how))
    assert movie.found_by == "one showing" and movie.flips[0].size == 60


def test_a_few_equal_rows_do_not_make_a_movie_of_their_own(lab_file):
    data = np.concatenate([CLIP[:5], OTHER, CLIP[:5]])
    for how in ({"named": "grey"}, {"pointing": True, "named": False}):
        movie = opened(written(lab_file, data, [(0, 5), (45, 50)], **how))
        assert movie.found_by == "one showing" and movie.flips[0].size == 50
    assert len(opened(written(lab_file, data, [(0, 5), (45, 50)])).flips) == 2  # named like it


def test_rows_that_say_repeat_and_show_other_pictures_are_refused(lab_file):
    late = THRICE.copy()
    late[50] += 1
    for data, words in ((np.concatenate([CLIP, OTHER]), "start with the same"), (late, "show the")):
        path = written(lab_file, data, REPEATS, repeat=True)
        with pytest.raises(RecordingError, match=f"does not {words}"):
            read_stimulus(path)


def test_repeats_between_other_pictures_keep_their_own_frames(lab_file):
    data = np.concatenate([CLIP, OTHER[:15], CLIP, OTHER[15:], CLIP])
    ranges = [(0, 20), (35, 55), (80, 100)]
    movie = opened(written(lab_file, data, ranges))
    assert movie.first_frames == (0, 35, 80)
    np.testing.assert_array_equal(movie.flips[2], 3 + np.arange(80, 100) / 30)


def test_lengths_that_differ_by_one_are_cut_and_others_refused(lab_file, caplog):
    data = np.concatenate([CLIP, CLIP[:19], CLIP, CLIP[:1]])
    movie = opened(written(lab_file, data, [(0, 20), (20, 39), (39, 59)]))
    assert [flips.size for flips in movie.flips] == [19, 19, 19]
    assert "differ by one frame; all are cut to 19" in caplog.text
    with pytest.raises(RecordingError, match="repeats of movie have 10 to 20 frames"):
        opened(written(lab_file, THRICE, [(0, 20), (20, 30), (40, 60)], repeat=True))


@pytest.mark.parametrize("repeat", [True, False])
def test_a_last_repeat_that_was_cut_short_is_left_out(lab_file, caplog, repeat):
    data = np.concatenate([THRICE, CLIP[:7]])
    movie = opened(written(lab_file, data, [*REPEATS, (60, 67)], repeat=repeat))
    assert movie.first_frames == (0, 20, 40)
    assert "the last repeat of movie has only 7 frames and is left out" in caplog.text


def test_a_stated_length_may_leave_a_partial_repeat_if_it_shows_the_same(lab_file, caplog):
    data = np.concatenate([THRICE, CLIP[:7]])
    path = written(lab_file, data)
    movie = opened(path, repeat_frames=20)
    assert movie.first_frames == (0, 20, 40) and movie.found_by == "repeat_frames"
    assert "has only 7 frames" in caplog.text
    for wrong in (21, 13, 1, 68):
        with pytest.raises(RecordingError, match="67 frames, which are no whole number of repeats"):
            opened(path, repeat_frames=wrong)
    assert opened(path, repeat_frames=67).found_by == "one showing"


def indexed(lab_file, index, rate=30.0):
    """An index series at some rate, into pictures that differ."""
    count = int(max(index)) + 1
    stack = np.random.default_rng(1).integers(20, 220, (count, 4, 3), dtype=np.uint8)
    parts = [image.GrayscaleImage(f"p{k:04d}", data=one) for k, one in enumerate(stack)]
    order = base.ImageReferences(name="order_of_images", data=parts)
    held = base.Images("pictures", images=parts, order_of_images=order)
    series = image.IndexSeries(
        "movie",
        data=np.asarray(index, np.uint32),
        unit="N/A",
        indexed_images=held,
        timestamps=3.0 + np.arange(len(index)) / rate,
    )
    return lab_file(series, templates=[held])


def test_periodic_picture_numbers_are_repeats(lab_file, caplog):
    clip = np.random.default_rng(2).integers(0, 30, 50)
    path = indexed(lab_file, np.concatenate([clip, clip, clip, clip[:11]]))
    movie = opened(path)
    assert movie.first_frames == (0, 50, 100) and movie.found_by == "periodic picture numbers"
    assert "the last repeat of movie has only 11 frames and is left out" in caplog.text
    assert "3 repeats of 50 frames (periodic picture numbers); repeat_frames=161" in caplog.text
    assert opened(path, repeat_frames=161).flips[0].size == 161


def test_equal_blocks_of_picture_numbers_are_repeats_where_they_are_the_movie(lab_file, caplog):
    rng = np.random.default_rng(3)
    clip, rest = rng.integers(0, 30, 60), rng.integers(0, 30, 500)
    index = np.concatenate([clip, rest[:10], clip, rest[10:25], clip, rest[25:40]])
    movie = opened(indexed(lab_file, index))
    assert movie.first_frames == (0, 70, 145)
    assert movie.found_by == "equal blocks of picture numbers"
    assert [flips.size for flips in movie.flips] == [60, 60, 60]
    long = np.concatenate([clip, rest[:200], clip, rest[200:]])
    path = indexed(lab_file, long)
    assert opened(path).found_by == "one showing"  # or most of the frames would be lost
    assert "shows 60 frames 2 times; repeat_frames=60 reads only these" in caplog.text
    chosen = opened(path, repeat_frames=60)
    assert chosen.first_frames == (0, 260) and chosen.flips[1].size == 60


@pytest.mark.parametrize("pictures", [2, 3, 30])
def test_random_picture_numbers_have_no_repeats(pictures):
    for seed in range(5):
        index = np.random.default_rng(seed).integers(0, pictures, 5000)
        assert period_of(index, 8) is None and equal_blocks(index, 8) is None


def test_steady_sequences_have_no_repeats():
    for pattern in ([0], [0, 1], [0, 0, 1, 1], [0, 1, 2]):
        index = np.tile(pattern, 400)
        assert period_of(index, 30) is None
        assert equal_blocks(index, 30) is None


def test_periods_and_blocks_are_found_exactly():
    rng = np.random.default_rng(4)
    for length in (8, 50, 333):
        clip = rng.integers(0, 1000, length)
        assert period_of(np.concatenate([clip] * 3), 8) == length
        between = [rng.integers(1000, 2000, size) for size in (5, 0, 31)]
        parts = [part for other in between for part in (other, clip)]
        starts = np.cumsum([0, *map(len, parts)])[1::2].tolist()
        assert equal_blocks(np.concatenate(parts), 8) == (starts, length)


def test_the_note_of_this_package_comes_before_every_rule(lab_file, tmp_path):
    from retinacodec.nwb import write_nwb
    from retinacodec.schema import make_recording, make_stimulus

    contrast = np.random.default_rng(5).choice([-1.0, 1.0], (30, 3, 4))
    movie = make_stimulus(contrast, frame_rate=30, pixel_um=50, name="noise")
    counts = np.zeros((3, 30, 1))
    cells = make_recording(
        counts.mean(0), repeats=counts, time=movie["time"], cells=["a"], frame_rate=30
    )
    path = write_nwb(tmp_path / "own.nwb", movie, cells)
    found = opened(path)
    assert found.found_by == "as written" and len(found.flips) == 3
    with h5py.File(path) as file:
        assert file["stimulus/presentation"]


def between(lab_file):
    """A clip of 40 frames, shown three times between frames that never come back."""
    others = RNG.integers(20, 220, (3, 90, 4, 3), dtype=np.uint8)
    data = np.concatenate([part for other in others for part in (other, OTHER)])
    table = epoch.TimeIntervals("blocks", "what was shown")
    table.add_column("stimulus_name", "name")
    for number in range(3):
        begin = 130 * number
        for name, start, stop in (("noise", 0, 90), ("clip", 90, 130)):
            times = {"start_time": 3 + (begin + start) / 30, "stop_time": 3 + (begin + stop) / 30}
            table.add_row(stimulus_name=name, **times)
    return lab_file(shown(data), change=lambda nwb: nwb.add_time_intervals(table))


def test_a_clip_between_other_frames_is_noticed_and_read_by_its_name(lab_file, caplog):
    path = between(lab_file)
    whole = opened(path)
    assert whole.found_by == "one showing" and whole.flips[0].size == 390
    assert "movie shows clip 3 times; stimulus='clip' reads only these, as repeats" in caplog.text
    assert "noise 3 times" not in caplog.text
    clip = opened(path, name="clip")
    assert clip.first_frames == (90, 220, 350) and clip.name == "clip"
    for shown_from, flips in zip((90, 220, 350), clip.flips, strict=True):
        np.testing.assert_allclose(flips, 3 + (shown_from + np.arange(40)) / 30)
    contrast = read_stimulus(path, "clip")["contrast"].values
    mean = OTHER.mean(dtype=float)
    np.testing.assert_allclose(contrast, (OTHER.transpose(0, 2, 1) - mean) / mean, atol=1e-6)
    with pytest.raises(RecordingError, match="3 rows of noise in intervals/blocks show different"):
        opened(path, name="noise")
    with pytest.raises(RecordingError, match="it has movie; rows of clip, noise"):
        opened(path, name="bars")


def test_stated_repeats_that_show_other_frames_are_refused_before_spikes_are_counted(lab_file):
    path = between(lab_file)
    with pytest.raises(RecordingError, match="frames of movie do not repeat after 130"):
        opened(path, repeat_frames=130)
