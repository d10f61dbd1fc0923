from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.stimuli import EyeMovements, fixational_path

RATE = 60.0


def runs(flags):
    """First and last frame of every run of True."""
    edge = np.diff(np.concatenate([[0], flags.astype(int), [0]]))
    return list(zip(np.flatnonzero(edge == 1), np.flatnonzero(edge == -1) - 1, strict=True))


def gaze(path):
    return np.stack([path.gaze_x.values, path.gaze_y.values], axis=1)


def test_velocity_is_the_derivative_of_position():
    path = fixational_path(500, frame_rate=RATE, seed=0)
    for axis in "xy":
        step = np.diff(path[f"gaze_{axis}"].values) * RATE
        assert path[f"gaze_velocity_{axis}"].values[1:] == pytest.approx(step, abs=1e-9)


def test_saccades_are_where_the_eye_jumps():
    path = fixational_path(6000, frame_rate=RATE, seed=1, field_um=(1e5, 1e5))
    step = np.hypot(*np.diff(gaze(path), axis=0).T)
    flags = path.saccade.values
    drift = np.sqrt(2 * 444 / RATE + 2 * 1.0)
    assert step[~flags[1:]].max() < 6 * drift
    for first, last in runs(flags):
        if first > 0:
            moved = np.hypot(*(gaze(path)[last] - gaze(path)[first - 1]))
            assert moved > 100 - 6 * drift


def test_saccade_amplitudes_and_fixations_follow_their_distributions():
    eye = EyeMovements(diffusion=0, tremor_um=0)
    path = fixational_path(60_000, frame_rate=RATE, seed=2, eye=eye, field_um=(1e6, 1e6))
    position, flights = gaze(path), runs(path.saccade.values)[:-1]
    amplitude = [np.hypot(*(position[b] - position[a - 1])) for a, b in flights if a > 0]
    assert min(amplitude) >= 100 - 1e-6
    small, expected = np.mean(np.array(amplitude) < 400), 1 - np.exp(-300 / 700)
    assert small == pytest.approx(expected, abs=4 * np.sqrt(0.25 / len(amplitude)))
    assert np.mean(amplitude) == pytest.approx(800, rel=0.1)
    rest = [b[0] - a[1] for a, b in pairwise(flights)]
    assert np.mean(rest) / RATE == pytest.approx(0.65, rel=0.05)
    assert min(rest) / RATE > 0.3 - 2 / RATE and max(rest) / RATE < 1.0 + 2 / RATE


def test_main_sequence_sets_the_duration():
    eye = EyeMovements(diffusion=0, tremor_um=0)
    path = fixational_path(100_000, frame_rate=1000, seed=3, eye=eye, field_um=(1e6, 1e6))
    position = gaze(path)
    for first, last in runs(path.saccade.values)[:-1]:
        amplitude = np.hypot(*(position[last] - position[first - 1]))
        assert last - first + 1 == pytest.approx(1000 * (0.021 + 1.1e-5 * amplitude), abs=2)


def test_a_saccade_is_straight_and_fastest_in_the_middle():
    eye = EyeMovements(diffusion=0, tremor_um=0)
    path = fixational_path(3000, frame_rate=1000, seed=4, eye=eye)
    position = gaze(path)
    first, last = runs(path.saccade.values)[0]
    way = position[first - 1 : last + 1] - position[first - 1]
    assert abs(way[:, 0] * way[-1, 1] - way[:, 1] * way[-1, 0]).max() < 1e-6
    speed = np.hypot(*np.diff(way, axis=0).T)
    amplitude, frames = np.hypot(*way[-1]), len(speed)
    assert speed.max() == pytest.approx(1.875 * amplitude / frames, rel=0.1)
    assert abs(int(speed.argmax()) - frames / 2) <= 2


def test_drift_is_brownian_with_the_diffusion_constant_asked_for():
    eye = EyeMovements(diffusion=300, tremor_um=0, fixation_s=(1000, 1000))
    squares = {5: [], 50: []}
    for seed in range(10):
        path = fixational_path(6000, frame_rate=100, seed=seed, eye=eye, field_um=(1e5, 1e5))
        for lag, found in squares.items():
            found.append(((gaze(path)[lag:] - gaze(path)[:-lag]) ** 2).mean())
    for lag, found in squares.items():
        assert np.mean(found) == pytest.approx(2 * 300 * lag / 100, rel=0.1)


def test_drift_with_relaxation_stays_near_the_point_of_fixation():
    eye = EyeMovements(diffusion=300, relaxation_s=0.2, tremor_um=0, fixation_s=(1000, 1000))
    path = fixational_path(30_000, frame_rate=100, seed=0, eye=eye, field_um=(1e5, 1e5))
    settled = gaze(path)[200:]
    assert settled.std(axis=0) == pytest.approx(np.sqrt(300 * 0.2), rel=0.1)
    deviation = settled - settled.mean(axis=0)
    lagged = (deviation[20:] * deviation[:-20]).mean() / (deviation**2).mean()
    assert lagged == pytest.approx(np.exp(-1), abs=0.06)


def test_tremor_fills_its_band_alone():
    eye = EyeMovements(diffusion=0, tremor_um=2.0, fixation_s=(1000, 1000))
    path = fixational_path(20_000, frame_rate=1000, seed=0, eye=eye)
    sway = path.gaze_x.values - path.gaze_x.values.mean()
    assert sway.std() == pytest.approx(2.0, rel=0.05)
    power = np.abs(np.fft.rfft(sway * np.hanning(len(sway)))) ** 2
    hz = np.fft.rfftfreq(len(sway), 1e-3)
    assert power[(hz > 49.5) & (hz < 100.5)].sum() / power.sum() > 0.999


def test_gaze_stays_in_the_field_and_uses_it():
    eye = EyeMovements(diffusion=50_000)
    path = fixational_path(20_000, seed=0, eye=eye, field_um=(200, 700))
    for axis, reach in (("x", 700), ("y", 200)):
        values = path[f"gaze_{axis}"].values
        assert np.abs(values).max() <= reach
        assert values.min() < -0.8 * reach and values.max() > 0.8 * reach


def test_no_field_means_no_movement():
    path = fixational_path(600, seed=0, field_um=(0, 0))
    assert np.abs(gaze(path)).max() < 1e-6


def test_paths_are_reproducible_and_differ_between_seeds():
    a, b, c = (gaze(fixational_path(300, seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert np.abs(a - c).max() > 10


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"frames": 0}, "frames"),
        ({"frame_rate": -1}, "frame_rate"),
        ({"field_um": 5}, "field_um"),
        ({"field_um": (5, np.nan)}, "field_um"),
        ({"eye": EyeMovements(fixation_s=(0, 1))}, "fixation_s"),
        ({"eye": EyeMovements(fixation_s=(2, 1))}, "fixation_s"),
        ({"eye": EyeMovements(saccade_um=50)}, "saccade_um"),
        ({"eye": EyeMovements(saccade_s=(1,))}, "saccade_s"),
        ({"eye": EyeMovements(relaxation_s=0)}, "relaxation_s"),
        ({"eye": EyeMovements(diffusion=-1, tremor_um=-1)}, "diffusion.*tremor_um"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(InputError, match=words):
        fixational_path(**{"frames": 10, "seed": 0, **wrong})
