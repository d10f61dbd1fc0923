"""Movies kept as a seed: declared generators draw what numpy and Numerical Recipes draw."""

import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb import open_nwb, read_stimulus
from retinacodec.nwb_contrast import Part
from retinacodec.nwb_generators import BinaryNoise, GaussianNoise, Generator
from retinacodec.nwb_movies import find_movies, open_movie
from retinacodec.nwb_triggers import Triggers

base = pytest.importorskip("pynwb.base")
image = pytest.importorskip("pynwb.image")
epoch = pytest.importorskip("pynwb.epoch")

FLIPS = 3.0 + np.arange(60) / 30
WORDS = "type = binarywhitenoise; seed = -10000"


def opened(path, name=None, **how):
    with open_nwb(path) as file:
        movie = open_movie(file, str(path), name, **how)
        part = Part.of(movie, movie.open_pixels(), None, None, True, path)
        return movie, part.read(None, 1.0)


def series(words=WORDS, data=None, **times):
    """A series of frame numbers, or of no pixels at all."""
    times = times or {"timestamps": FLIPS}
    if data is None:
        data = np.arange(60)
    return base.TimeSeries("noise", data=data, unit="n.a.", description=words, **times)


def test_every_generator_and_order_is_what_numpy_draws():
    bits = np.random.default_rng(5).random(3 * 4 * 2) > 0.5
    for order, axes, back in (
        ("y fastest", (3, 4, 2), (0, 1, 2)),
        ("x fastest", (3, 2, 4), (0, 2, 1)),
        ("x, y, frame", (4, 2, 3), (2, 0, 1)),
        ("y, x, frame", (2, 4, 3), (2, 1, 0)),
    ):
        movie = BinaryNoise((4, 2), "PCG64", order)(3, 5)
        np.testing.assert_array_equal(movie, np.where(bits, 1, -1).reshape(axes).transpose(back))
        assert movie.dtype == np.int8
    legacy = np.random.RandomState(5).randint(0, 2, 24).reshape(3, 4, 2)
    drawn = BinaryNoise((4, 2), "MT19937 legacy", draw="integers", contrast=(-0.3, 0.3), white=0)
    np.testing.assert_array_equal(drawn(3, 5), np.where(legacy, -0.3, 0.3).astype(np.float32))
    fresh = np.random.Generator(np.random.MT19937(5))
    whole = BinaryNoise((4, 2), "MT19937", draw="integers", contrast=(0, 1))
    np.testing.assert_array_equal(whole(3, 5).ravel(), fresh.integers(0, 2, 24))
    normal = np.random.default_rng(5).standard_normal(24).reshape(3, 4, 2)
    np.testing.assert_allclose(
        GaussianNoise((4, 2), "PCG64", sd=0.5)(3, 5), 0.5 * normal, rtol=1e-6
    )
    clipped = GaussianNoise((4, 2), "PCG64", sd=0.5, mean=0.1, clip=0.4)(3, 5)
    np.testing.assert_allclose(clipped, (0.1 + 0.5 * normal).clip(-0.4, 0.4), rtol=1e-6)
    held = BinaryNoise((4, 2), "PCG64", hold=2)(5, 5)
    np.testing.assert_array_equal(held, BinaryNoise((4, 2), "PCG64")(3, 5)[[0, 0, 1, 1, 2]])
    assert isinstance(held, np.ndarray) and isinstance(whole, Generator)


@pytest.mark.parametrize("rng", ["PCG64", "MT19937", "MT19937 legacy"])
def test_drawing_in_parts_changes_no_number(monkeypatch, rng):
    declared = [BinaryNoise((5, 3), rng, draw=draw) for draw in ("uniform", "integers")]
    declared.append(GaussianNoise((5, 3), rng))
    whole = [noise(101, 3) for noise in declared]
    monkeypatch.setattr("retinacodec.nwb_generators._AT_ONCE", 64)
    for noise, expected in zip(declared, whole, strict=True):
        np.testing.assert_array_equal(noise(101, 3), expected)


def test_the_twister_with_a_seed_is_the_one_of_its_authors():
    """mt19937ar.c after init_genrand(5489) begins with 3499211612 581869302 3890346734."""
    first = np.array([3499211612, 581869302, 3890346734, 3586334585], np.uint64)
    doubles = ((first[::2] >> 5) * 67108864.0 + (first[1::2] >> 6)) / 9007199254740992.0
    np.testing.assert_array_equal(np.random.RandomState(5489).random(2), doubles)
    assert BinaryNoise((1, 1), "MT19937 legacy")(2, 5489).ravel().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": (0, 4)}, r"size: expected \(x, y\)"),
        ({"rng": "rand"}, "rng: expected one of ran1, PCG64"),
        ({"order": "random"}, "order: expected one of 'y fastest'"),
        ({"white": 2}, "white: expected bit 1 or 0"),
        ({"hold": 0}, "hold: expected 1"),
        ({"rng": "ran1", "draw": "integers"}, "ran1 draws no integers"),
        ({"contrast": (np.nan, 1)}, "contrast: expected"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        BinaryNoise(**({"size": (4, 2), "rng": "PCG64"} | bad))


def test_a_seed_only_movie_is_drawn_only_as_declared(lab_file):
    path = lab_file(series())
    with open_nwb(path) as file:
        assert list(find_movies(file)) == ["noise"]
        np.testing.assert_array_equal(open_movie(file, str(path)).flips[0], FLIPS)
    with pytest.raises(
        RecordingError, match=r"noise has no pixels \('type = b.*-10000'\); .*gener"
    ):
        read_stimulus(path, pixel_um=50)
    movie, contrast = opened(path, generator=BinaryNoise((4, 2), "ran1"))
    bits = "0101111011010000" + "0010111100001011"  # the first 32 of the published stream
    np.testing.assert_array_equal(
        contrast[:4].transpose(0, 2, 1).ravel(), [2 * int(bit) - 1 for bit in bits]
    )
    assert contrast.shape == (60, 2, 4) and movie.frame_rate == pytest.approx(30)


def test_the_seed_comes_from_the_declaration_the_words_or_nowhere(lab_file):
    noise = BinaryNoise((4, 2), "PCG64")
    expected = BinaryNoise((4, 2), "PCG64")(60, 77).transpose(0, 2, 1)
    for number, words in enumerate(("Seed: 77", "noise (random seed 77)", "seed=77, seed=77")):
        path = lab_file(series(words), name=f"{number}.nwb")
        np.testing.assert_array_equal(opened(path, generator=noise)[1], expected)
    path = lab_file(series("white noise"), name="none.nwb")
    with pytest.raises(RecordingError, match=r"noise has no seed in its description \('white no"):
        opened(path, "noise", generator=noise)
    declared = BinaryNoise((4, 2), "PCG64", seed=77)
    np.testing.assert_array_equal(opened(path, "noise", generator=declared)[1], expected)
    path = lab_file(series("seed 1 then seed 2"), name="two.nwb")
    with pytest.raises(RecordingError, match=r"has 2 seeds \(1, 2\) in its description"):
        opened(path, generator=noise)


def test_an_image_series_without_pixels_is_drawn_by_any_function(lab_file):
    empty = image.OpticalSeries(
        "noise",
        data=np.zeros((60, 3, 3), np.uint8),
        unit="n.a.",
        distance=0.1,
        field_of_view=[150e-6, 100e-6],
        orientation="x, y",
        description="seed 9",
        timestamps=FLIPS,
    )
    path = lab_file(empty)
    with h5py.File(path, "r+") as file:
        del file["stimulus/presentation/noise/data"]
        file["stimulus/presentation/noise"].create_dataset("data", (0, 0, 0), "u1")

    def draw(frames, seed):
        return np.full((frames, 3, 2), seed / 10) * np.arange(frames)[:, None, None] / frames

    movie, contrast = opened(path, generator=draw)
    np.testing.assert_allclose(contrast[30], 0.45)
    assert movie.name == "noise"
    for wrong in (lambda frames, seed: np.zeros((frames, 3)), lambda f, s: np.zeros((2, 3, 2))):
        with pytest.raises(RecordingError, match="generator= returned float64 of shape"):
            opened(path, generator=wrong)
    with pytest.raises(RecordingError, match="ran1: expected a negative seed"):
        opened(path, generator=BinaryNoise((3, 2), "ran1"))


def test_pixels_are_never_drawn_over(lab_file):
    shown = image.ImageSeries(
        "shown", data=np.ones((60, 3, 2), np.uint8), unit="n.a.", timestamps=FLIPS
    )
    with pytest.raises(RecordingError, match="shown has pixels; generator= is for movies kept as"):
        opened(lab_file(shown), generator=BinaryNoise((3, 2), "PCG64", seed=1))


def table(seeds, starts=(1.0, 5.0, 9.0), seconds=2.0, rates=None):
    rows = epoch.TimeIntervals("noise", "white noise")
    rows.add_column("seed", "of PCG64")
    if rates:
        rows.add_column("frame_rate", "Hz")
    for number, (seed, start) in enumerate(zip(seeds, starts, strict=True)):
        more = {"frame_rate": rates[number]} if rates else {}
        rows.add_row(start_time=start, stop_time=start + seconds, seed=seed, **more)
    return rows


def with_table(lab_file, *arguments, name="lab.nwb", **more):
    rows = table(*arguments, **more)
    return lab_file(change=lambda nwb: nwb.add_time_intervals(rows), name=name)


def test_rows_with_one_seed_are_repeats(lab_file):
    path = with_table(lab_file, (8, 8, 8))
    movie, contrast = opened(path, "intervals/noise", generator=NOISE, frame_rate=30.0)
    assert movie.found_by == "rows of intervals/noise with one seed" and len(movie.flips) == 3
    for start, flips in zip((1.0, 5.0, 9.0), movie.flips, strict=True):
        np.testing.assert_allclose(flips, start + np.arange(60) / 30)
    np.testing.assert_array_equal(contrast, NOISE(60, 8).transpose(0, 2, 1))


NOISE = BinaryNoise((4, 2), "PCG64")


def test_rows_with_different_seeds_are_one_movie_and_a_seed_chooses(lab_file):
    path = with_table(lab_file, (8, 3, 8), rates=(30.0, 30.0, 30.0))
    movie, contrast = opened(path, "intervals/noise", generator=NOISE)
    parts = [NOISE(60, seed) for seed in (8, 3, 8)]
    np.testing.assert_array_equal(contrast, np.concatenate(parts).transpose(0, 2, 1))
    assert movie.found_by == "one showing" and movie.flips[0].size == 180
    frozen = BinaryNoise((4, 2), "PCG64", seed=8)
    assert len(opened(path, "intervals/noise", generator=frozen)[0].flips) == 2
    with pytest.raises(RecordingError, match=r"no row with seed 4; its seeds are \[3, 8\]"):
        opened(path, "intervals/noise", generator=BinaryNoise((4, 2), "PCG64", seed=4))


def test_rows_need_a_clock(lab_file):
    path = with_table(lab_file, (8, 3, 8))
    with pytest.raises(RecordingError, match="not the flips of frames; give frame_rate= or trigge"):
        opened(path, "intervals/noise", generator=NOISE)
    with pytest.raises(RecordingError, match=r"tables of parameters: .* or name intervals/noise"):
        opened(path)
    with pytest.raises(RecordingError, match="declare how it was drawn"):
        opened(path, "intervals/noise")
    rows, pulses = table((8, 3, 8)), np.arange(0, 12, 4 / 30) + 0.01
    ttl = base.TimeSeries("ttl", data=np.ones(pulses.size), unit="n.a.", timestamps=pulses)
    path = lab_file(
        acquisition=[ttl], change=lambda nwb: nwb.add_time_intervals(rows), name="ttl.nwb"
    )
    how = {"generator": NOISE, "triggers": Triggers("ttl", every=4)}
    movie, _ = opened(path, "intervals/noise", **how)
    inside = [pulses[(pulses >= start) & (pulses < start + 2)] for start in (1, 5, 9)]
    expected = np.concatenate([(part[:, None] + np.arange(4) / 30).ravel() for part in inside])
    np.testing.assert_allclose(movie.flips[0], expected)


@pytest.mark.realdata
def test_the_mouse_s_checkers_are_drawn_again_from_nwb_2(lab_file, data_dir):
    folder = data_dir / "rgc_mouse_ret1"
    with h5py.File(folder / "20080606_R2.nwb") as old:
        held = old["stimulus/presentation/rec_stim_2"]
        flips, words = held["timestamps"][:4000], held.attrs["description"]
    path = lab_file(series(words, data=np.arange(flips.size), timestamps=flips))
    _, contrast = opened(path, generator=BinaryNoise((64, 48), "ran1"))
    stored = np.load(folder / "checkers_64x48_crop_x20-44_y12-36.npz")
    bits = np.unpackbits(stored["packed"][:4000], axis=1)[:, :576].reshape(4000, 24, 24)
    np.testing.assert_array_equal(
        contrast[:, 12:36, 20:44], (2.0 * bits - 1).transpose(0, 2, 1).astype(np.float32)
    )


@pytest.mark.parametrize("number", [-10000, 0])
def test_a_seed_whose_series_has_one_number_and_one_time_needs_pulses(lab_file, number):
    """A checker of which nothing but its seed and beginning is kept; pulses come every 3 frames."""
    flips = 2 + np.cumsum(np.random.default_rng(1).uniform(0.9, 1.1, 60)) / 60
    pulses = base.TimeSeries("ttl", data=np.ones(20), unit="n.a.", timestamps=flips[::3])
    seed = series("ran1, seed -10000", data=np.array([number]), timestamps=flips[:1])
    path = lab_file(seed, change=lambda nwb: nwb.add_acquisition(pulses))
    noise, ttl = BinaryNoise((5, 4), "ran1"), Triggers("acquisition/ttl", every=3)
    movie, contrast = opened(path, generator=noise, triggers=ttl)
    np.testing.assert_array_equal(movie.flips[0][::3], flips[::3])
    np.testing.assert_array_equal(contrast, noise(60, -10000).transpose(0, 2, 1))
    for how, words in (({}, "BinaryNoise"), ({"generator": noise}, "Triggers")):
        with pytest.raises(RecordingError, match="but not the flips") as caught:
            opened(path, **how)
        assert words in caught.value.hint and "triggers=" in caught.value.hint
