import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb import Contrast, read_nwb, read_stimulus
from retinacodec.schema import make_stimulus

FLIPS = 3.0 + np.arange(60) / 30
TRAINS = [np.sort(np.random.default_rng(k).uniform(2, 6, 40 * k)) for k in (1, 2, 0)]


@pytest.fixture
def file(tmp_path):
    """An NWB 2 file as other laboratories write it, with bare HDF5 so that anything goes."""
    with h5py.File(tmp_path / "lab.nwb", "w") as opened:
        opened.attrs["nwb_version"] = "2.6.0"
        opened["identifier"] = "lab-1"
        add_units(opened, TRAINS, [4, 11, 27])
        yield opened


def add_units(file, trains, ids, place="units"):
    units = file.create_group(place)
    units.attrs["neurodata_type"] = "Units"
    units["id"] = ids
    units["spike_times"] = np.concatenate(trains)
    units["spike_times_index"] = np.cumsum([train.size for train in trains])
    return units


def add_movie(file, data, name="movie", room="stimulus/presentation", side_um=50.0, **times):
    group = file.create_group(f"{room}/{name}")
    group.attrs["neurodata_type"] = "OpticalSeries"
    group["data"] = data
    group["field_of_view"] = np.array(data.shape[1:3]) * side_um * 1e-6
    if times.get("rate"):
        group["starting_time"] = 3.0
        group["starting_time"].attrs["rate"] = times["rate"]
    else:
        group["timestamps"] = times.get("timestamps", FLIPS)
    return group


def greys(shape=(60, 8, 5), seed=0):
    return np.random.default_rng(seed).integers(20, 220, shape, dtype=np.uint8)


def path_of(file):
    file.flush()
    return file.filename


def test_values_become_weber_contrast_about_the_mean_of_the_whole_movie(file):
    data = greys()
    add_movie(file, data)
    movie = read_stimulus(path_of(file))
    expected = (data.astype(float) / data.mean() - 1).transpose(0, 2, 1)
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)
    assert movie.attrs["pixel_um"] == pytest.approx(50) and movie.sizes["x"] == 8
    np.testing.assert_array_equal(movie["time"], FLIPS)
    part = read_stimulus(path_of(file), frames=(20, 30), crop=(1, 3, 2, 7))
    np.testing.assert_array_equal(part["contrast"], movie["contrast"][20:30, 1:3, 2:7])


def test_the_axes_are_what_the_user_says(file):
    data = greys()
    add_movie(file, data)
    with pytest.raises(RecordingError, match=r"80 by 31\.25 um, which are not square"):
        read_stimulus(path_of(file), spatial_order="yx")  # the field of view gives it away
    upright = read_stimulus(path_of(file), spatial_order="yx", pixel_um=50)
    assert upright["contrast"].shape == data.shape
    np.testing.assert_array_equal(
        upright["contrast"].transpose("time", "x", "y"), read_stimulus(path_of(file))["contrast"]
    )
    with pytest.raises(InputError, match="expected 'xy' or 'yx', got 'rows'"):
        read_stimulus(path_of(file), spatial_order="rows")


def test_conversion_offset_colours_and_a_stated_contrast_are_applied(file):
    data = greys((60, 8, 5, 3))
    group = add_movie(file, data)
    group["data"].attrs["conversion"], group["data"].attrs["offset"] = 2.0, 10.0
    movie = read_stimulus(path_of(file), contrast=Contrast(grey=200.0, span=50.0))
    expected = (data.mean(3) * 2 + 10 - 200) / 50
    np.testing.assert_allclose(movie["contrast"], expected.transpose(0, 2, 1), atol=1e-5)


def test_counts_follow_the_flips_on_the_file_s_clock(file):
    add_movie(file, greys())
    recording = read_nwb(path_of(file))
    edges = np.append(FLIPS, FLIPS[-1] + 1 / 30)
    expected = np.stack([np.histogram(train, edges)[0] for train in TRAINS], 1)
    inside = np.concatenate([train[train < edges[-1]] for train in TRAINS])
    np.testing.assert_array_equal(recording["spike_count"], expected)
    assert recording["spike_count"].sum() == (inside >= 3.0).sum()
    assert recording["cell"].values.tolist() == ["4", "11", "27"]
    assert recording.attrs["frame_rate"] == pytest.approx(30)


def test_cells_are_chosen_by_id_and_named_by_a_column(file):
    add_movie(file, greys())
    file["units/type"] = np.array([b"on", b"off", b"slow"])
    path = path_of(file)
    chosen = read_nwb(path, cells=["27", "4"])
    assert chosen["cell"].values.tolist() == ["27", "4"]
    np.testing.assert_array_equal(chosen["spike_count"][:, 1], read_nwb(path)["spike_count"][:, 0])
    assert read_nwb(path, names="type")["cell"].values.tolist() == ["on", "off", "slow"]
    with pytest.raises(RecordingError, match=r"no cells \['5'\]; it has \['4', '11', '27'\]"):
        read_nwb(path, cells=["5"])
    with pytest.raises(RecordingError, match=r"no column 'kind'; they have .*'type'"):
        read_nwb(path, names="kind")


def test_a_constant_rate_works_as_well_as_timestamps(file):
    add_movie(file, greys(), rate=30.0)
    np.testing.assert_allclose(read_nwb(path_of(file))["time"], FLIPS)


def test_one_dropped_frame_is_reported_and_moves_no_spike(file, caplog):
    flips = FLIPS.copy()
    flips[30:] += 1 / 30
    file["units/spike_times"][...] = np.concatenate([np.sort(flips[5:45] + 1e-3), TRAINS[1]])
    add_movie(file, greys(), timestamps=flips)
    recording = read_nwb(path_of(file))
    assert recording["spike_count"][:, 0].values.tolist() == [0] * 5 + [1] * 40 + [0] * 15
    assert '"dropped_frames": 1' in recording.attrs["parameters"]
    assert "movie has 1 intervals above 1.5 frames" in caplog.text


def test_bins_that_were_not_observed_are_nan(file):
    add_movie(file, greys())
    file["units/obs_intervals"] = np.array([[0.0, 9.0], [3.5, 4.0], [0.0, 9.0]])
    file["units/obs_intervals_index"] = [1, 2, 3]
    counts = read_nwb(path_of(file))["spike_count"].values
    assert np.flatnonzero(np.isfinite(counts[:, 1])).tolist() == list(range(15, 30))
    assert np.isfinite(counts[:, [0, 2]]).all()


def test_an_index_series_shows_its_pictures_in_their_stated_order(file):
    pictures = greys((3, 8, 5))
    images = file.create_group("stimulus/templates/pictures")
    order = [2, 0, 1]  # names sort differently from the stated order
    for place, name in enumerate(order):
        images[f"image{name}"] = pictures[place]
        images[f"image{name}"].attrs["resolution"] = 1e4 / 25.0  # pixels per cm
    references = np.array([images[f"image{name}"].ref for name in order], h5py.ref_dtype)
    images.create_dataset("order_of_images", data=references, dtype=h5py.ref_dtype)
    index = np.random.default_rng(1).integers(0, 3, 60)
    series = file.create_group("stimulus/presentation/shown")
    series.attrs["neurodata_type"] = "IndexSeries"
    series["data"], series["timestamps"] = index.astype(np.uint32), FLIPS
    series["indexed_images"] = h5py.SoftLink("/stimulus/templates/pictures")
    movie = read_stimulus(path_of(file), contrast=Contrast(100.0))
    expected = (pictures[index].astype(float) / 100 - 1).transpose(0, 2, 1)
    np.testing.assert_allclose(movie["contrast"], expected, atol=1e-6)
    assert movie.attrs["pixel_um"] == pytest.approx(25)
    del series["indexed_images"]
    add_movie(file, pictures, "old", room="stimulus/templates", timestamps=FLIPS[:3])
    series["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/old")
    again = read_stimulus(path_of(file), contrast=Contrast(100.0))
    np.testing.assert_array_equal(again["contrast"], movie["contrast"])


def add_repeats(file, lengths=(20, 20, 20)):
    table = file.create_group("intervals/trials")
    starts = np.cumsum([0, *lengths[:-1]])
    table["start_time"] = FLIPS[starts]
    table["stop_time"] = FLIPS[starts] + np.array(lengths) / 30
    table["stimulus_name"] = np.array([b"movie"] * len(lengths))
    table["repeat"] = np.arange(len(lengths))


def test_a_repeat_column_or_a_stated_length_gives_repeats(file):
    clip = greys((20, 8, 5))
    add_movie(file, np.concatenate([clip] * 3))
    path = path_of(file)
    whole = read_nwb(path)["spike_count"].values
    stated = read_nwb(path, repeat_frames=20)
    np.testing.assert_array_equal(stated["repeats"], whole.reshape(3, 20, 3))
    np.testing.assert_allclose(stated["spike_count"], whole.reshape(3, 20, 3).mean(0), rtol=1e-6)
    add_repeats(file)
    listed = read_nwb(path_of(file))
    np.testing.assert_array_equal(listed["repeats"], stated["repeats"])
    assert read_stimulus(path)["contrast"].shape == (20, 5, 8)
    with pytest.raises(RecordingError, match="60 frames, which are no whole number of repeats"):
        read_nwb(path, repeat_frames=17)


def test_repeats_that_differ_by_one_frame_are_cut_and_others_refused(file, caplog):
    clip = greys((20, 8, 5))
    add_movie(file, np.concatenate([clip, clip[:19], clip, clip[:1]]))
    add_repeats(file, (20, 19, 20))
    assert read_nwb(path_of(file))["repeats"].shape == (3, 19, 3)
    assert "differ by one frame; all are cut to 19" in caplog.text
    del file["intervals"]
    add_repeats(file, (20, 15, 25))
    with pytest.raises(RecordingError, match="repeats of movie have 15 to 25 frames"):
        read_nwb(path_of(file))


def test_repeats_that_start_with_other_pictures_are_no_repeats(file):
    add_movie(file, greys())
    add_repeats(file)
    with pytest.raises(RecordingError, match="presentation 2 of movie does not start"):
        read_stimulus(path_of(file))


def test_a_stimulus_from_elsewhere_gives_the_flips(file):
    movie = make_stimulus(np.zeros((60, 2, 2)), frame_rate=30, pixel_um=50, name="mine", time=FLIPS)
    add_movie(file, greys())
    np.testing.assert_array_equal(
        read_nwb(path_of(file), stimulus=movie)["spike_count"],
        read_nwb(path_of(file))["spike_count"],
    )


def test_units_in_a_processing_module_are_found_and_two_tables_need_a_choice(file):
    add_movie(file, greys())
    expected = read_nwb(path_of(file))["spike_count"].values
    file.move("units", "processing/ecephys/sorted")
    np.testing.assert_array_equal(read_nwb(path_of(file))["spike_count"], expected)
    add_units(file, TRAINS[:1], [0], "processing/ecephys/other")
    with pytest.raises(RecordingError, match="has 2 tables of units; choose one with units="):
        read_nwb(path_of(file))
    one = read_nwb(path_of(file), units="processing/ecephys/other")
    np.testing.assert_array_equal(one["spike_count"][:, 0], expected[:, 0])


def test_a_movie_in_the_wrong_place_is_found_and_two_need_a_choice(file):
    add_movie(file, greys(), room="acquisition")
    assert read_stimulus(path_of(file)).attrs["name"] == "movie"
    add_movie(file, greys(seed=1), name="a")
    assert read_stimulus(path_of(file)).attrs["name"] == "a"  # presentation comes first
    assert read_stimulus(path_of(file), "acquisition/movie").attrs["name"] == "movie"
    add_movie(file, greys(), name="b")
    with pytest.raises(RecordingError, match="has 2 movies; choose one with stimulus=: a, b"):
        read_nwb(path_of(file))
    with pytest.raises(RecordingError, match="no movie 'c'; it has a, b"):
        read_nwb(path_of(file), stimulus="c")


def test_spikes_in_samples_are_read_with_their_scale(file):
    add_movie(file, greys())
    expected = read_nwb(path_of(file))["spike_count"].values
    file["units/spike_times"][...] = np.round(file["units/spike_times"][()] * 20000)
    with pytest.raises(RecordingError, match=r"samples at about 25000 Hz\? try spike_scale"):
        read_nwb(path_of(file))
    scaled = read_nwb(path_of(file), spike_scale=1 / 20000)["spike_count"].values
    assert np.abs(scaled - expected).sum() <= 2  # rounding may carry a spike over a flip


def test_a_movie_larger_than_the_budget_is_refused_before_it_is_read(file):
    add_movie(file, greys())
    with pytest.raises(RecordingError, match=r"more than the budget of 1e-06 GB; read a part"):
        read_stimulus(path_of(file), budget_gb=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": (0, 61)}, "frames 0 to 61 is not inside movie, which has 60"),
        ({"frames": (5, 5)}, "frames 5 to 5 is not inside"),
        ({"crop": (0, 6, 0, 8)}, "crop in y 0 to 6 is not inside movie, which has 5"),
        ({"crop": (0, 5, -1, 8)}, "crop in x -1 to 8 is not inside"),
    ],
)
def test_a_part_outside_the_movie_is_refused(file, arguments, message):
    add_movie(file, greys())
    with pytest.raises(RecordingError, match=message):
        read_stimulus(path_of(file), **arguments)


def test_the_pixel_size_is_asked_for_where_the_file_does_not_say_it(file):
    group = add_movie(file, greys())
    del group["field_of_view"]
    with pytest.raises(RecordingError, match=r"does not say how large .*pixel_um="):
        read_stimulus(path_of(file))
    assert read_stimulus(path_of(file), pixel_um=33.0).attrs["pixel_um"] == 33.0
    group["field_of_view"] = np.array([400.0, 250.0])  # um, where metres are meant
    with pytest.raises(RecordingError, match=r"5e\+07 um by its field of view"):
        read_stimulus(path_of(file))
    group["field_of_view"][...] = [400e-6, 500e-6]
    with pytest.raises(RecordingError, match="50 by 100 um, which are not square"):
        read_stimulus(path_of(file))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((60, 8, 5), 7, np.uint8), "every pixel of movie is 7"),
        (np.random.default_rng(0).choice([-1.0, 1.0], (60, 8, 5)), "are no light intensities"),
        (np.where(np.arange(2400).reshape(60, 8, 5) == 77, np.nan, 1.0), "NaN or infinite"),
        (np.zeros((60, 8, 5, 2), np.uint8), r"data of shape \(60, 8, 5, 2\)"),
        (np.zeros((60, 8, 5), "S3"), "expected numbers"),
    ],
)
def test_pixels_without_a_contrast_are_refused(file, data, message):
    add_movie(file, data)
    with pytest.raises(RecordingError, match=message):
        read_stimulus(path_of(file))


def test_plus_minus_one_is_read_with_a_stated_contrast(file):
    data = np.random.default_rng(0).choice([-1.0, 1.0], (60, 8, 5))
    add_movie(file, data)
    movie = read_stimulus(path_of(file), contrast=Contrast(grey=0.0, span=1.0))
    np.testing.assert_array_equal(movie["contrast"], data.transpose(0, 2, 1))
