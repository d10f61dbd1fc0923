import numpy as np
import pytest
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.nwb_coding import block_of, read_note, restored
from retinacodec.nwb_levels import Levels, find_levels
from retinacodec.schema import make_stimulus


def movie_of(values, frames=40):
    rng = np.random.default_rng(0)
    movie = rng.choice(np.asarray(values, np.float32), (frames, 3, 4))
    movie.ravel()[: len(values)] = values
    return movie


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([-0.35, 0.35], [0, 255]),
        ([-1, 0, 1], [0, 127, 254]),
        ([0.25], [128]),
        ((np.arange(200) - 99.7) / 99.7, list(range(200))),
        ([0.0, 0.1, 1.0], [0, 25, 250]),
        ([0.0, 0.13, 1.0], [0, 33, 255]),
    ],
)
def test_levels_are_spaced_like_their_contrasts(values, codes):
    movie = movie_of(values)
    levels = find_levels(movie)
    assert list(levels.codes) == codes
    np.testing.assert_array_equal(levels.table()[levels.encode(movie)], movie)
    slope, offset = levels.line()
    half_a_grey = 0.51 * (max(values) - min(values)) / 255
    np.testing.assert_allclose(
        levels.encode(movie) * slope + offset, movie, atol=max(half_a_grey, 1e-6)
    )


def test_more_than_256_contrasts_or_too_close_ones_are_kept_as_floats():
    assert find_levels(movie_of(np.linspace(-1, 1, 257))) is None
    assert find_levels(movie_of([0.0, 1e-5, 1.0])) is None
    assert len(find_levels(movie_of(np.linspace(-1, 1, 256))).codes) == 256


def test_levels_that_first_appear_late_are_found(monkeypatch):
    monkeypatch.setattr("retinacodec.nwb_levels._SLAB", 24)
    movie = np.zeros((40, 3, 4), np.float32)
    movie[37, 1, 2] = 0.5
    assert find_levels(movie).values == (0.0, 0.5)


def test_a_block_restores_its_stimulus_with_static_variables_and_attributes():
    movie = make_stimulus(
        movie_of([-1, 1]),
        frame_rate=60,
        pixel_um=7,
        name="a/b",
        seed=4,
        first_frame=11,
        parameters={"deep": [1, {"x": None}]},
    )
    movie["patch"] = ("patch", np.array(["sky", "tree"]), {"units": "1"})
    movie = movie.assign_coords(patch_um=("patch", [1.5, 2.5]))
    movie.attrs["numpy"] = np.float64(0.1)
    block = block_of(movie)
    note = read_note(block.note)
    assert block.name == "a_b" and note["first_frame"] == 11
    whole = slice(None)
    again = restored(note, movie["contrast"].values, movie["time"].values, {}, whole, whole)
    xr.testing.assert_identical(again, movie)


def test_presentations_follow_each_other_without_overlap():
    movie = make_stimulus(movie_of([-1, 1]), frame_rate=10, pixel_um=7, name="a")
    onsets = block_of(movie, 3).all_onsets()
    np.testing.assert_allclose(onsets, np.arange(120) / 10)


def test_comments_of_others_are_no_notes():
    assert read_note("no comments") is None
    assert read_note("retinacodec: {broken") is None
    assert read_note("retinacodec: [1]") is None


def test_an_attribute_that_is_no_data_is_named():
    movie = make_stimulus(movie_of([-1, 1]), frame_rate=60, pixel_um=7, name="a")
    movie.attrs["thing"] = object()
    with pytest.raises(InputError, match="cannot be kept as JSON"):
        block_of(movie)


def test_levels_have_a_table_with_nan_for_greys_not_in_use():
    table = Levels((0, 255), (-1.0, 1.0)).table()
    assert table[0] == -1 and table[255] == 1 and np.isnan(table[1:255]).all()
