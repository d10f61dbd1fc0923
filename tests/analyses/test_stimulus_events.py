"""Events of movies: against what rendered stimuli know of themselves, and noise without events."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import (
    EventRules,
    Quantile,
    image_motion,
    lagged_events,
    response_events,
    stimulus_events,
)
from retinacodec.errors import InputError
from retinacodec.schema import make_stimulus
from retinacodec.stimuli import (
    Disc,
    Grating,
    Jitter,
    Pink,
    moving_bar,
    moving_object,
    natural_movie,
    white_noise,
)

RATE = 60.0


def movie_of(frames, rate=RATE):
    return make_stimulus(frames, frame_rate=rate, pixel_um=50, name="made")


def on(events, name):
    return events.sel(event=name).values


def precision_recall(found, true, tolerance=0):
    """Of frames; an event within the tolerance (frames) of a true one is right."""
    width = np.ones(2 * tolerance + 1)
    near_true = np.convolve(true, width, "same") > 0
    near_found = np.convolve(found, width, "same") > 0
    return near_true[found].mean(), near_found[true].mean()


@pytest.fixture(scope="module")
def natural():
    return natural_movie(seconds=60, size=(40, 40), seed=0)


@pytest.fixture(scope="module")
def natural_events(natural):
    return stimulus_events(natural), stimulus_events(natural, truth=False)


def test_velocity_of_a_gaze_that_wanders_is_found(natural):
    found = image_motion(natural)
    calm = ~natural["saccade"].values & (np.diff(natural["scene"].values, prepend=0) == 0)
    calm[0] = False
    for axis in "xy":
        true = -natural[f"gaze_velocity_{axis}"].values[calm]
        error = found[f"velocity_{axis}"].values[calm] - true
        assert np.sqrt(np.mean(true**2)) > 150
        assert np.median(np.abs(error)) < 6
        assert np.quantile(np.abs(error), 0.95) < 40


def test_displacements_agree_with_phase_correlation():
    registration = pytest.importorskip("skimage.registration")
    movie = moving_object(
        frames=20, shape=Disc(1e5), surface=Pink(), motion=Jitter(60), size=(40, 40), seed=3
    )
    found = image_motion(movie)
    frames = movie["contrast"].values
    theirs = [
        registration.phase_cross_correlation(
            frames[t], frames[t - 1], upsample_factor=20, normalization=None
        )[0][::-1]
        for t in range(1, 20)
    ]
    axes = ("velocity_x", "velocity_y")
    ours = np.stack([found[name][1:] for name in axes], axis=1) / (50 * RATE)
    true = np.stack([movie[f"object_{name}"][1:] for name in axes], axis=1) / (50 * RATE)
    assert np.corrcoef(ours.ravel(), np.ravel(theirs))[0, 1] > 0.95
    assert np.abs(ours - true).max() < 0.12
    assert np.abs(ours - true).mean() < 0.08


def test_saccades_and_scenes_are_seen_in_the_pictures(natural_events):
    known, seen = natural_events
    assert set(known["source"].values) == {"truth", "pictures"}
    assert set(seen["source"].values) == {"pictures"}
    precision, recall = precision_recall(on(seen, "image switch"), on(known, "image switch"), 3)
    assert precision >= 0.95
    assert recall >= 0.75


@pytest.mark.parametrize("name", [f"motion {k} deg" for k in (0, 90, 180, 270)])
def test_direction_of_a_natural_movie_is_that_of_its_gaze(natural_events, name):
    known, seen = natural_events
    precision, recall = precision_recall(on(seen, name), on(known, name))
    assert precision >= 0.95
    assert recall >= 0.9


def test_speed_bins_of_a_natural_movie_are_those_of_its_gaze(natural_events):
    known, seen = natural_events
    for name, least in (("speed 100-400 um/s", 0.95), ("speed 400-1600 um/s", 0.85)):
        assert min(precision_recall(on(seen, name), on(known, name))) >= least


@pytest.mark.parametrize(("turn", "name"), [(0, "0"), (90, "90"), (180, "180"), (270, "270")])
def test_bars_move_in_their_direction_from_their_onset(turn, name):
    grey = np.zeros((20, 30, 30))
    bar = moving_bar(direction=turn, contrast=-0.8, size=(30, 30), sweeps=1)
    movie = movie_of(np.concatenate([grey, bar["contrast"].values]))
    events = stimulus_events(movie, truth=False)
    sweeps = np.concatenate([np.zeros(20, bool), bar["sweep"].values >= 0])
    precision, recall = precision_recall(on(events, f"motion {name} deg"), sweeps, 3)
    assert precision == 1
    assert recall >= 0.98
    assert np.abs(np.flatnonzero(on(events, "motion onset")) - 20).tolist() <= [3]
    middle = on(events, "speed 400-1600 um/s")[sweeps]
    assert middle[10:-10].mean() >= 0.95
    assert not on(events, "motion reversal").any()


def test_a_reversal_is_found_when_the_film_runs_backwards():
    there = moving_bar(contrast=-0.8, size=(30, 30), sweeps=1, gap_s=0)["contrast"].values[:120]
    events = stimulus_events(movie_of(np.concatenate([there, there[::-1]])))
    found = np.flatnonzero(on(events, "motion reversal"))
    assert len(found) == 1
    assert 120 <= found[0] <= 126


@pytest.mark.parametrize("surface", [Grating(100), Pink(0.3)], ids=["grating", "pink"])
@pytest.mark.parametrize("same", [True, False])
def test_motion_of_the_centre_against_the_background(surface, same):
    jitter = Jitter(7, direction=0)
    movie = moving_object(
        8, shape=Disc(600), surface=surface, background=surface, motion=None if same else jitter,
        background_motion=jitter, aperture=True, size=(40, 40), seed=1,
    )  # fmt: skip
    found = on(stimulus_events(movie), "differential motion")
    if same:
        assert not found.any()
        return
    differs = np.convolve(movie["differential"].values, np.ones(3))[: found.size] > 0
    precision, recall = precision_recall(found, differs)
    assert precision == 1
    assert recall >= 0.8


def test_steps_are_seen_where_and_when_they_are():
    y, x = np.meshgrid(np.arange(-500, 501, 50), np.arange(-500, 501, 50), indexing="ij")
    far = np.hypot(y - 100, x + 50)
    frames = np.zeros((120, *y.shape))
    frames[20:60, far <= 100] = 0.4
    frames[80:, (far > 100) & (far <= 300)] = -0.4
    events = stimulus_events(movie_of(frames), centre=(100.0, -50.0))
    expected = {
        "centre step up": range(20, 23),
        "centre step down": range(60, 63),
        "surround step down": range(80, 83),
        "surround step up": (),
        "centre brighter": [*range(20, 60), *range(80, 120)],
        "centre darker": (),
        "full-field step up": (),
        "flash": (),
    }
    for name, frames_on in expected.items():
        assert np.flatnonzero(on(events, name)).tolist() == list(frames_on), name
    assert events.sel(event="centre step up")["polarity"] == 1
    assert events.sel(event="surround step down")["region"] == "surround"


def test_flashes_and_the_one_that_is_left_out():
    frames = np.zeros((140, 30, 30))
    starts = [20 + 8 * k for k in range(8)]
    for start in starts:
        frames[start : start + 2] = -0.6
    events = stimulus_events(movie_of(frames))
    assert np.flatnonzero(on(events, "flash")).tolist() == starts
    assert np.flatnonzero(on(events, "flash omission")).tolist() == [starts[-1] + 8]
    assert on(events, "full-field step down").sum() > 0
    assert not on(events, "image switch").any()


def test_white_noise_has_no_events_but_its_luminance():
    events = stimulus_events(white_noise(seconds=30, size=(40, 40), seed=0))
    names = [str(name) for name in events["event"].values]
    quiet = [name for name in names if name.startswith(("motion", "speed", "full", "flash"))]
    for name in (*quiet, "image switch", "differential motion"):
        assert not on(events, name).any(), name


def test_a_quantile_is_a_share_of_the_frames():
    noise = white_noise(seconds=10, size=(20, 20), seed=0)
    rules = EventRules(step=Quantile(0.9), contrast=Quantile(0.8), motion_um=150)
    events = stimulus_events(noise, rules=rules, centre_um=100)
    either = on(events, "centre step up") | on(events, "centre step down")
    assert either.mean() == pytest.approx(0.1, abs=0.02)
    assert on(events, "contrast high").mean() == pytest.approx(0.2, abs=0.02)


def test_a_field_is_a_centre(natural):
    y, x = natural["y"], natural["x"]
    field = -np.exp(-((y - 200) ** 2 + (x + 100) ** 2) / (2 * 60.0**2))
    field = xr.DataArray(field.transpose("y", "x"))
    by_field = stimulus_events(natural, centre=field)
    by_place = stimulus_events(natural, centre=(200.0, -100.0), centre_um=70)
    same = (by_field == by_place).sel(event=["centre step up", "centre brighter"])
    assert float(same.mean()) > 0.93


def test_lags_look_back_as_far_as_they_say():
    happened = np.zeros((1, 50), bool)
    happened[0, 10] = True
    events = xr.DataArray(
        happened, {"event": ["flash"]}, ("event", "time"), attrs={"frame_rate": 60}
    )
    lagged = lagged_events(events, [(0, 0.05), (0.05, 0.1)])
    assert lagged["event"].values.tolist() == ["flash, 0-50 ms ago", "flash, 50-100 ms ago"]
    assert np.flatnonzero(lagged[0]).tolist() == [10, 11, 12]
    assert np.flatnonzero(lagged[1]).tolist() == [13, 14, 15]
    assert lagged["base"].values.tolist() == ["flash", "flash"]


def test_cells_that_fire_are_events():
    rate = xr.DataArray(
        [[0.0, 40.0], [31.0, np.nan]], {"time": [0.0, 0.01], "cell": ["a", "b"]}, ("time", "cell")
    )
    fires = response_events(rate)
    assert fires.values.tolist() == [[False, True], [True, False]]
    assert fires.attrs["frame_rate"] == pytest.approx(100)


def test_what_cannot_be_used_is_named():
    movie = movie_of(np.zeros((10, 20, 20)))
    with pytest.raises(InputError, match="step: expected a contrast > 0"):
        stimulus_events(movie, rules=EventRules(step=-1))
    with pytest.raises(InputError, match="centre: no pixel"):
        stimulus_events(movie, centre=(1e5, 0.0))
    with pytest.raises(InputError, match="field is NaN or 0"):
        stimulus_events(movie, centre=movie["contrast"][0])
    with pytest.raises(InputError, match="too many for frames"):
        image_motion(movie, reach=10)
    with pytest.raises(InputError, match="frame_rate"):
        lagged_events(stimulus_events(movie).drop_attrs())
    with pytest.raises(InputError, match="holds no frame"):
        lagged_events(stimulus_events(movie), [(0.001, 0.002)])
    assert not stimulus_events(movie).any()
