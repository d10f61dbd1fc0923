"""Movies as pynwb writes them: layouts, picture numbers, clocks, values."""

import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb import Contrast, open_nwb, read_stimulus
from retinacodec.nwb_movies import open_movie
from retinacodec.nwb_preview import preview
from retinacodec.nwb_tables import stimulus_parameters
from retinacodec.recordings import bin_spikes

base = pytest.importorskip("pynwb.base")
image = pytest.importorskip("pynwb.image")
misc = pytest.importorskip("pynwb.misc")
common = pytest.importorskip("hdmf.common")
epoch = pytest.importorskip("pynwb.epoch")

STAMPS = "stimulus/presentation/movie/timestamps"
FLIPS = 3.0 + np.arange(60) / 30
RNG = np.random.default_rng(0)


def greys(shape=(60, 8, 5)):
    return RNG.integers(20, 220, shape, dtype=np.uint8)


def optical(data, name="movie", **times):
    times = times or {"timestamps": FLIPS[: len(data)]}
    view = [50e-6 * side for side in data.shape[1:3]]
    return image.OpticalSeries(
        name, data=data, unit="n.a.", distance=0.1, field_of_view=view, orientation="x, y", **times
    )


def opened(path, name=None, **how):
    with open_nwb(path) as file:
        return open_movie(file, str(path), name, **how)


@pytest.mark.parametrize("room", ["stimuli", "templates", "acquisition"])
@pytest.mark.parametrize("shape", [(60, 8, 5), (60, 7, 9, 3), (60, 1, 1), (60, 640, 1)])
def test_image_series_are_read_from_every_room(lab_file, room, shape):
    data = greys(shape)
    series = optical(data)
    path = lab_file(series) if room == "stimuli" else lab_file(**{room: [series]})
    movie = read_stimulus(path)
    values = data.astype(float) if data.ndim == 3 else data.astype(float).mean(3)
    expected = (values / values.mean() - 1).transpose(0, 2, 1)
    np.testing.assert_allclose(movie["contrast"], expected, atol=2e-6)
    assert movie.attrs["pixel_um"] == pytest.approx(50)


@pytest.mark.parametrize("kind", ["bool", "float32", "float64", "uint16", "int16"])
def test_values_of_every_type_become_the_same_contrast(lab_file, kind):
    bits = RNG.random((60, 5, 7)) > 0.3
    data = bits.astype(kind) if kind in ("bool", "float32", "float64") else bits * np.ones(1, kind)
    path = lab_file(optical(data.astype("uint8") if kind == "bool" else data))
    if kind == "bool":  # which pynwb refuses to write
        rewrite(path, "stimulus/presentation/movie/data", data)
    movie = read_stimulus(path)
    np.testing.assert_allclose(
        movie["contrast"], (bits / bits.mean() - 1).transpose(0, 2, 1), rtol=1e-6
    )


def test_a_plain_image_series_without_a_field_of_view_asks_for_the_pixel(lab_file):
    data = greys()
    path = lab_file(image.ImageSeries("plain", data=data, unit="n.a.", timestamps=FLIPS))
    with pytest.raises(RecordingError, match="does not say how large its pixels are"):
        read_stimulus(path)
    assert read_stimulus(path, pixel_um=20)["contrast"].shape == (60, 5, 8)


def test_pixels_that_are_not_finite_are_named_by_their_frame(lab_file):
    data = greys().astype(np.float32)
    data[41, 3, 2] = np.nan
    path = lab_file(optical(data))
    for contrast in (None, Contrast(100.0)):
        with pytest.raises(RecordingError, match="NaN or infinite, the first in frame 41; read th"):
            read_stimulus(path, contrast=contrast)
    assert read_stimulus(path, frames=(0, 41), contrast=Contrast(100.0)).sizes["time"] == 41


def pictures(name, data):
    parts = [image.GrayscaleImage(f"p{k}", data=one) for k, one in enumerate(data)]
    order = base.ImageReferences(name="order_of_images", data=parts[::-1])
    return base.Images(name, images=parts, order_of_images=order)


@pytest.mark.parametrize("kind", ["uint8", "uint32", "uint64", "int32", "float64"])
def test_picture_numbers_of_any_type_show_the_pictures(lab_file, kind):
    data = greys((4, 8, 5))
    index = RNG.integers(0, 4, 60)
    held = pictures("pictures", data)
    series = image.IndexSeries(
        "shown",
        data=index.astype("uint32" if kind == "float64" else kind),
        unit="N/A",
        indexed_images=held,
        timestamps=FLIPS,
    )
    path = lab_file(series, templates=[held])
    if kind == "float64":  # which pynwb refuses to write
        rewrite(path, "stimulus/presentation/shown/data", index.astype(float))
    movie = read_stimulus(path, contrast=Contrast(100.0), pixel_um=50)
    expected = data[::-1][index].astype(float).transpose(0, 2, 1) / 100 - 1
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)


def test_pictures_may_have_colours_and_must_lie_in_the_file(lab_file):
    colours = greys((3, 8, 5, 3))
    parts = [image.RGBImage(f"p{k}", data=one) for k, one in enumerate(colours)]
    order = base.ImageReferences(name="order_of_images", data=parts)
    held = base.Images("pictures", images=parts, order_of_images=order)
    index = RNG.integers(0, 3, 60).astype("uint32")
    series = image.IndexSeries(
        "shown", data=index, unit="N/A", indexed_images=held, timestamps=FLIPS
    )
    path = lab_file(series, templates=[held])
    movie = read_stimulus(path, contrast=Contrast(100.0), pixel_um=50)
    expected = colours.astype(float).mean(3)[index].transpose(0, 2, 1) / 100 - 1
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)
    rewrite(path, "stimulus/templates/pictures/p1", "somewhere.png")
    with h5py.File(path, "r+") as file:
        order = file["stimulus/templates/pictures/order_of_images"]
        order[1] = file["stimulus/templates/pictures/p1"].ref
    with pytest.raises(RecordingError, match=r"p1 is object of shape \(\), expected a picture"):
        read_stimulus(path, pixel_um=50)


@pytest.mark.parametrize("bars", [0, 6])
def test_flicker_and_bars_are_movies_where_they_are_named(lab_file, bars):
    values = RNG.uniform(0.1, 1, (60, bars) if bars else 60)
    path = lab_file(base.TimeSeries("light", data=values, unit="n.a.", timestamps=FLIPS))
    with pytest.raises(RecordingError, match="has no movie"):
        read_stimulus(path)  # any series may be of one value a time
    movie = read_stimulus(path, "light", pixel_um=1000)
    expected = (values / values.mean() - 1).reshape(60, 1, -1)
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)


def rewrite(path, place, values):
    with h5py.File(path, "r+") as file:
        attrs = dict(file[place].attrs)
        del file[place]
        file[place] = values
        file[place].attrs.update(attrs)


def index_into(lab_file, index, frames=90):
    """An index series into an image series, which pynwb reads but no longer writes."""
    template = greys((frames, 8, 5))
    path = lab_file(
        optical(np.zeros((len(index), 8, 5), np.uint8), "shown", timestamps=clock(len(index))),
        templates=[optical(template, "template", rate=30.0)],
    )
    with h5py.File(path, "r+") as file:
        shown = file["stimulus/presentation/shown"]
        shown.attrs["neurodata_type"] = "IndexSeries"
        del shown["data"]
        shown["data"] = np.asarray(index)
        shown["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/template")
    return path, template


def clock(frames):
    return 3.0 + np.arange(frames) / 30


def test_an_index_into_a_longer_template_shows_its_frames(lab_file):
    index = RNG.permutation(90)[:60].astype(np.uint32)
    path, template = index_into(lab_file, index)
    movie = read_stimulus(path, contrast=Contrast(100.0))
    expected = template[index].astype(float).transpose(0, 2, 1) / 100 - 1
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)
    assert movie.attrs["pixel_um"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 1, 90, 2], "shows picture 90 in frame 2, but there are only 90"),
        ([0.0, 1.5, 2.0], r"shows picture 1\.5 in frame 1; pictures have whole numbers"),
        ([0.0, np.nan, 2.0], "shows picture nan in frame 1"),
        ([0, -1, 2], "shows picture -1 in frame 1"),
    ],
)
def test_picture_numbers_without_a_picture_are_refused(lab_file, index, message):
    path, _ = index_into(lab_file, index)
    with pytest.raises(RecordingError, match=message):
        read_stimulus(path)


def test_spikes_in_a_pause_of_an_index_series_belong_to_no_frame(lab_file, caplog):
    path, _ = index_into(lab_file, np.arange(60) % 50)
    stamps = FLIPS + np.where(np.arange(60) >= 20, 1.0, 0.0)
    rewrite(path, "stimulus/presentation/shown/timestamps", stamps)
    movie = opened(path)
    train = np.array([stamps[19] + 0.01, stamps[19] + 0.2, stamps[19] + 0.9, stamps[20] + 0.01])
    counts = bin_spikes([train], movie.flips[0])[:, 0]
    assert counts[[19, 20]].tolist() == [1, 1] and counts.sum() == 2
    assert "1 intervals above 1.5 frames, 1 of them gaps above 3, first at 3.633 s" in caplog.text


def test_dropped_frames_are_listed_with_their_first_times(lab_file, caplog):
    stamps = FLIPS + np.cumsum(np.isin(np.arange(60), [10, 30, 40, 50])) / 30
    opened(lab_file(optical(greys(), timestamps=stamps)))
    times = ", ".join(f"{stamps[k]:.4g}" for k in (9, 29, 39))
    assert (
        f"4 intervals above 1.5 frames, 0 of them gaps above 3, first at {times} s" in caplog.text
    )


@pytest.mark.parametrize(("change", "frames", "end"), [(1, 60, "timestamp"), (-1, 59, "frame")])
def test_one_flip_more_or_less_is_cut_at_the_end(lab_file, caplog, change, frames, end):
    path = lab_file(optical(greys()))
    rewrite(path, STAMPS, clock(60 + change))
    movie = opened(path)
    np.testing.assert_array_equal(movie.flips[0], clock(frames))
    assert f"{60 + change} timestamps for 60 frames; the last {end} is left out" in caplog.text
    assert read_stimulus(path).sizes["time"] == frames


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (clock(58), "58 timestamps for 60 frames; one flip time a frame"),
        (clock(62), "62 timestamps for 60 frames"),
        (np.repeat(FLIPS, 2) + np.tile([0, 0.01], 60), r"two timestamps a frame \(on and off\)"),
        (np.where(np.arange(60) == 7, FLIPS[6], FLIPS), "do not increase after frame 6"),
        (np.where(np.arange(60) == 9, np.nan, FLIPS), "timestamp 9 is nan"),
    ],
)
def test_broken_flip_times_are_refused(lab_file, stamps, message):
    path = lab_file(optical(greys()))
    rewrite(path, STAMPS, stamps)
    with pytest.raises(RecordingError, match=message):
        opened(path)


def test_a_period_in_place_of_a_rate_is_refused_until_the_rate_is_said(lab_file):
    path = lab_file(optical(greys(), rate=1 / 30, starting_time=3.0))
    with pytest.raises(RecordingError, match="looks like the period; give the rate: frame_rate=30"):
        opened(path)
    np.testing.assert_allclose(opened(path, frame_rate=30.0).flips[0], FLIPS)
    assert opened(path, frame_rate=1 / 30).flips[0][-1] == pytest.approx(3 + 59 * 30)
    slow = lab_file(optical(greys(), rate=0.001, starting_time=3.0), name="slow.nwb")
    assert opened(slow).frame_rate == pytest.approx(0.001)  # 1000 Hz is no display
    with pytest.raises(RecordingError, match="frame_rate is -1 Hz"):
        opened(path, frame_rate=-1)
    with pytest.raises(RecordingError, match="has timestamps, and frame_rate= was given"):
        opened(lab_file(optical(greys())), frame_rate=30)


def test_a_preview_shows_frames_both_ways_round(lab_file):
    data = greys()
    path = lab_file(optical(data))
    with open_nwb(path) as file:
        found = preview(file, str(path), frames=3)
    assert found.frames == (0, 30, 59) and not found.known
    np.testing.assert_array_equal(found.yx, data[[0, 30, 59]])
    np.testing.assert_array_equal(found.xy, data[[0, 30, 59]].transpose(0, 2, 1))
    assert found.sides_um["xy"] == pytest.approx((50, 50))
    assert found.sides_um["yx"] == pytest.approx((80, 31.25))


def test_tables_of_parameters_are_read_and_named_where_there_is_no_movie(lab_file):
    bars = epoch.TimeIntervals("bars", "moving bars")
    bars.add_column("direction", "degrees")
    bars.add_column("colour", "word")
    for row in range(4):
        bars.add_row(
            start_time=2.0 * row, stop_time=2.0 * row + 1, direction=45.0 * row, colour="w"
        )
    features = misc.AbstractFeatureSeries(
        "grating",
        feature_units=["deg", "1"],
        features=["phase", "contrast"],
        data=[[10.0 * row, 0.5] for row in range(3)],
        timestamps=[row / 60 for row in range(3)],
    )
    path = lab_file(features, change=lambda nwb: nwb.add_time_intervals(bars))
    with open_nwb(path) as file:
        found = stimulus_parameters(file, str(path))
    assert found["intervals/bars"]["direction"].values.tolist() == [0, 45, 90, 135]
    assert found["intervals/bars"]["colour"].values.tolist() == ["w"] * 4
    series = found["stimulus/presentation/grating"]
    assert series["phase"].values.tolist() == [0, 10, 20] and series["phase"].units == "deg"
    np.testing.assert_allclose(series["time"], np.arange(3) / 60)
    with pytest.raises(RecordingError, match=r"no movie but tables .*intervals/bars \(colour, dir"):
        opened(path)


def test_a_table_among_the_stimuli_is_one_of_parameters(lab_file):
    spots = common.DynamicTable("spots", "flashed spots")
    spots.add_column("radius", "um")
    for radius in (50.0, 100.0):
        spots.add_row(radius=radius)
    path = lab_file(spots)
    with open_nwb(path) as file:
        found = stimulus_parameters(file, str(path))
    assert found["stimulus/presentation/spots"]["radius"].values.tolist() == [50, 100]
    with pytest.raises(
        RecordingError, match=r"presentation/spots \(radius\); render it and pass st"
    ):
        opened(path)


def test_two_clocks_at_once_are_refused(lab_file):
    from retinacodec.nwb_triggers import Triggers

    with pytest.raises(InputError, match="triggers= or frame_rate=, got both"):
        opened(lab_file(optical(greys())), triggers=Triggers(), frame_rate=30.0)


def test_a_template_whose_frames_a_table_places_in_time_is_not_read_by_its_own_rate(lab_file):
    """As in public recordings of visual cortex: a row for each frame, and a template at 30 Hz."""
    table = epoch.TimeIntervals("film_presentations", "one row a frame")
    table.add_column("stimulus_name", "name")
    table.add_column("frame", "number of the frame in the template")
    for row in range(8):
        times = {"start_time": 0.5 * row, "stop_time": 0.5 * row + 0.5}
        table.add_row(stimulus_name="film", frame=float(row % 4), **times)
    path = lab_file(
        templates=[optical(greys((4, 8, 5)), "film", rate=30.0)],
        change=lambda nwb: nwb.add_time_intervals(table),
    )
    with pytest.raises(
        RecordingError, match="intervals/film_presentations says in 8 rows"
    ) as found:
        read_stimulus(path)
    assert "stimulus=" in found.value.hint
