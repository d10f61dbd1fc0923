"""Every broken recording ends in one line that says what is wrong and what to do."""

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.importers import describe
from retinacodec.nwb import read_nwb, read_stimulus

MOVIE = "stimulus/presentation/noise"


def test_the_good_file_is_good(good):
    assert read_nwb(good)["spike_count"].sum() > 300
    assert read_stimulus(good)["contrast"].shape == (300, 12, 10)
    assert describe(good).problems == ()


def put(place, change):
    def apply(file):
        values = file[place][()]
        attrs = dict(file[place].attrs)
        del file[place]
        file[place] = change(values)
        file[place].attrs.update(attrs)

    return apply


def put_at(place, index, value):
    def change(values):
        values = values.copy()
        values[index] = value
        return values

    return put(place, change)


def swap(place, first, second):
    def change(values):
        values = values.copy()
        values[[first, second]] = values[[second, first]]
        return values

    return put(place, change)


def remove(*places):
    def apply(file):
        for place in places:
            del file[place]

    return apply


def at_rate(rate):
    def apply(file):
        del file[f"{MOVIE}/timestamps"]
        if rate is not None:
            file[f"{MOVIE}/starting_time"] = 2.0
            file[f"{MOVIE}/starting_time"].attrs["rate"] = rate

    return apply


def second_movie(file):
    file.copy(file[MOVIE], "stimulus/presentation/other")


def voltages_only(file):
    del file["units"]
    file.create_group("acquisition/raw").attrs["neurodata_type"] = "ElectricalSeries"


def outside_movie(file):
    put("units/spike_times", lambda values: values / 14 * 1.9)(file)


SPIKES = [
    (
        put_at("units/spike_times_index", 3, 700),
        "spike_times_index of unit 3 ends at 700, but there are only 600 entries",
    ),
    (
        put_at("units/spike_times_index", 3, 500),
        "spike_times_index ends at 500, but there are 600 entries",
    ),
    (swap("units/spike_times_index", 1, 2), "spike_times_index decreases at unit 2"),
    (put("units/spike_times_index", lambda values: values[:3]), r"expected 4 whole numbers"),
    (put("units/spike_times_index", lambda values: values.astype(float)), "of float64, expected 4"),
    (put("units/spike_times_index", lambda values: -values.astype(int)), "decreases at unit 0"),
    (put("units/spike_times_index", lambda values: values[:, None]), r"shape \(4, 1\)"),
    (swap("units/spike_times", 10, 90), "unit 0 has unsorted spike times, the first after spike"),
    (
        put_at("units/spike_times", 160, np.nan),
        "unit 1 has 1 spike times that are NaN or infinite, the first at 10",
    ),
    (put_at("units/spike_times", 450, np.inf), "unit 3 has 1 spike times that are NaN or infinite"),
    (
        put("units/spike_times", lambda values: np.round(values * 20000)),
        r"not in seconds: spikes span .* and the movie .*; samples at about \d+ Hz\? try spike_sc",
    ),
    (put("units/spike_times", lambda values: values * 1000), "milliseconds.* try spike_scale=1e-3"),
    (outside_movie, "no spike falls into the movie: .*; are spikes and flips on different clocks"),
    (
        put("units/spike_times", lambda values: values.astype("S8")),
        r"/units/spike_times holds \|S8, expected seconds",
    ),
    (put_at("units/id", 1, 0), r"unit ids are not unique: \['0'\]"),
    (remove("units"), "no sorted units .*; the file holds 1 OpticalSeries"),
    (voltages_only, "no sorted units .*; its voltage traces are not spike-sorted yet"),
    (remove("units/spike_times"), "units has no column 'spike_times'"),
    (remove("units/id"), "units has no column 'id'"),
]

MOVIES = [
    (remove(MOVIE), "has no movie in /stimulus/presentation; a fit needs the frames"),
    (second_movie, "has 2 movies; choose one with stimulus=: noise, other"),
    (
        put(f"{MOVIE}/timestamps", lambda values: values[:-7]),
        "noise has 293 timestamps for 300 frames",
    ),
    (put_at(f"{MOVIE}/timestamps", 12, np.nan), "noise: timestamp 12 is nan"),
    (swap(f"{MOVIE}/timestamps", 40, 41), "timestamps do not increase after frame 40"),
    (put(f"{MOVIE}/timestamps", lambda values: values.repeat(2)[:300]), "do not increase"),
    (at_rate(None), "noise has neither timestamps nor a rate"),
    (at_rate(0.0), "noise has a rate of 0 Hz"),
    (at_rate(-30.0), "noise has a rate of -30 Hz"),
    (at_rate(np.nan), "noise has a rate of nan Hz"),
]


@pytest.mark.parametrize(("change", "message"), SPIKES + MOVIES)
def test_a_broken_recording_is_refused_in_one_line(bad, change, message):
    path = bad(change)
    with pytest.raises(RecordingError, match=message) as caught:
        read_nwb(path)
    assert caught.value.path == str(path) and "\n" not in str(caught.value)
    found = describe(path)  # which looks at everything and raises nothing
    films = change is second_movie or change in (SPIKES[15][0], SPIKES[16][0])
    assert films or any(caught.value.what in words for words in found.problems + found.notices)


PIXELS = [
    (remove(f"{MOVIE}/data"), "has no movie"),
    (put(f"{MOVIE}/data", lambda values: values[:, :, 0]), "has no movie"),
    (remove(f"{MOVIE}/field_of_view"), "does not say how large its pixels are"),
    (lambda file: file[f"{MOVIE}/data"].attrs.update(conversion=np.nan), "conversion nan"),
    (lambda file: file[f"{MOVIE}/data"].attrs.update(conversion=0.0), "conversion 0 and offset"),
    (put(f"{MOVIE}/data", lambda values: values * 0), "every pixel of noise is"),
]


@pytest.mark.parametrize(("change", "message"), PIXELS)
def test_a_broken_movie_is_refused_in_one_line(bad, change, message):
    with pytest.raises(RecordingError, match=message) as caught:
        read_stimulus(bad(change))
    assert "\n" not in str(caught.value)


def shows_past_the_end(file):
    index_series(file, [0, 1, 3])


def without_an_order(file):
    index_series(file, [0, 1, 2])
    del file["stimulus/templates/pictures/order_of_images"]


def of_unequal_size(file):
    index_series(file, [0, 1, 2])
    del file["stimulus/templates/pictures/b"]
    file["stimulus/templates/pictures/b"] = np.zeros((3, 3))
    order = file["stimulus/templates/pictures/order_of_images"]
    order[1] = file["stimulus/templates/pictures/b"].ref


def unwritten_pictures(file):
    index_series(file, [0, 1, 2])
    order = file["stimulus/templates/pictures/order_of_images"]
    order[1] = file["stimulus/templates/pictures/b"].ref
    del file["stimulus/templates/pictures/b"]


def index_series(file, index):
    del file[MOVIE]
    images = file.create_group("stimulus/templates/pictures")
    for name in "abc":
        images[name] = np.random.default_rng(0).integers(1, 9, (12, 10))
    references = np.array([images[name].ref for name in "abc"], h5py.ref_dtype)
    images.create_dataset("order_of_images", data=references, dtype=h5py.ref_dtype)
    series = file.create_group(MOVIE)
    series.attrs["neurodata_type"] = "IndexSeries"
    series["data"], series["timestamps"] = index, np.arange(len(index)) / 30
    series["indexed_images"] = h5py.SoftLink("/stimulus/templates/pictures")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shows_past_the_end, "noise shows picture 3 in frame 2, but there are only 3"),
        (without_an_order, r"does not say the order of its pictures \(order_of_images\)"),
        (of_unequal_size, r"have sizes \[\(3, 3\), \(12, 10\)\]"),
    ],
)
def test_broken_picture_numbers_are_refused(bad, change, message):
    with pytest.raises(RecordingError, match=message):
        read_stimulus(bad(change), pixel_um=50)


def external_file(file):
    del file[f"{MOVIE}/data"]
    file[f"{MOVIE}/external_file"] = np.array([b"/etc/passwd"])
    file[f"{MOVIE}/external_file"].attrs["starting_frame"] = [0]


def test_pixels_in_another_file_are_not_opened_but_the_spikes_are_read(bad):
    path = bad(external_file)
    with pytest.raises(RecordingError, match=r"pixels of noise are in another file"):
        read_stimulus(path)
    assert read_nwb(path)["spike_count"].sizes["time"] == 300


def test_an_unknown_type_beside_the_data_does_no_harm(bad):
    def extension(file):
        group = file.create_group("acquisition/ünbekannt")
        group.attrs["neurodata_type"], group.attrs["namespace"] = "NewThing", "ndx-new"

    assert describe(bad(extension)).problems == ()


def test_the_cause_is_kept_for_debugging(bad):
    with pytest.raises(RecordingError, match="cannot be read: KeyError") as caught:
        read_stimulus(bad(unwritten_pictures), pixel_um=50)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 11)])
def test_movies_of_one_pixel_and_of_odd_sizes_are_read(bad, size):
    pixels = np.random.default_rng(0).integers(0, 255, (300, *size))
    path = bad(put(f"{MOVIE}/data", lambda values: pixels))
    movie = read_stimulus(path, pixel_um=50)
    assert movie["contrast"].shape == (300, size[1], size[0])
    expected = (pixels / pixels.mean() - 1).transpose(0, 2, 1)
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-5)
