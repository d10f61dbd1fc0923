"""A wrong clock is seen before any model is fitted, and a right one is not suspected."""

import numpy as np
import pytest

from retinacodec.analyses import alignment_figure, alignment_words, check_alignment
from retinacodec.errors import InputError
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.traces import make_traces

RATE, FRAMES, DELAY = 50.0, 6000, 4


def noise(size=(6, 8), seed=0):
    contrast = np.random.default_rng(seed).choice([-1.0, 1.0], (FRAMES, *size))
    return make_stimulus(contrast, frame_rate=RATE, pixel_um=50, name="noise")


def cells_of(movie, *, delay=DELAY, pixels=((1, 2), (4, 5)), signs=(1, -1), gain=0.8, seed=1):
    """Poisson cells, each driven by one pixel some frames ago, smoothed over three frames."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((FRAMES, len(pixels)))
    for cell, ((row, column), sign) in enumerate(zip(pixels, signs, strict=True)):
        pixel = movie["contrast"].values[:, row, column]
        drive = sum(w * np.roll(pixel, delay + k) for k, w in ((-1, 0.5), (0, 1.0), (1, 0.5)))
        counts[:, cell] = rng.poisson(0.3 * np.exp(gain * sign * drive - 0.3))
    return recording_of(movie, counts)


def recording_of(movie, counts):
    names = [f"c{cell}" for cell in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=RATE, cells=names)


def test_the_peak_is_where_the_cell_was_driven():
    movie = noise()
    found = check_alignment(movie, cells_of(movie))
    assert found["responds"].values.all() and not found["foresees"].values.any()
    np.testing.assert_allclose(found["peak_lag"], -DELAY / RATE, atol=1e-9)
    np.testing.assert_allclose(found["peak_y"], movie["y"].values[[1, 4]])
    np.testing.assert_allclose(found["peak_x"], movie["x"].values[[2, 5]])
    assert found["polarity"].values.tolist() == [1, -1]
    assert found["course"].sizes["lag"] == 25 + 12
    np.testing.assert_allclose(np.diff(found["lag"]), 1 / RATE, atol=1e-9)
    words, fine = alignment_words(found)
    assert fine and "2 of 2 cells follow" in words[0] and "1 are ON and 1 OFF" in words[1]


def test_spikes_of_another_movie_are_found_out():
    words, fine = alignment_words(check_alignment(noise(seed=10), cells_of(noise())))
    assert not fine and words[0].startswith("None of 2 cells")


def test_a_clock_that_runs_ahead_makes_cells_foresee():
    movie = noise()
    found = check_alignment(movie, cells_of(movie, delay=-5))
    assert found["foresees"].values.all()
    words, fine = alignment_words(found)
    assert not fine and "came after their spikes" in words[-1]
    peak = found["lag"].values[np.abs(found["course"].values).argmax(axis=1)]
    assert (peak < 0).all()  # the course is that of the pixel with the largest past


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_frames_lost_without_a_trace_show_as_a_drift_of_their_own_length(lost):
    movie = noise()
    good = cells_of(movie, pixels=((1, 2), (4, 5), (0, 0), (5, 7)), signs=(1, -1, 1, -1))
    counts = good["spike_count"].values.copy()
    if lost:
        counts[FRAMES // 2 + lost :] = counts[FRAMES // 2 : -lost]
    found = check_alignment(movie, recording_of(movie, counts))
    drift = found["delay"].values[4:].mean() - found["delay"].values[:4].mean()
    assert drift == pytest.approx(lost / RATE, abs=0.35 / RATE)
    words, fine = alignment_words(found)
    assert fine == (lost == 0)
    assert lost == 0 or "dropped without a trace" in words[-1]


def test_a_steady_clock_is_rarely_suspected():
    movie, alarms = noise(size=(2, 2)), 0
    for seed in range(20):
        cells = cells_of(movie, pixels=((0, 0), (1, 1)), seed=seed)
        alarms += not alignment_words(check_alignment(movie, cells))[1]
    assert alarms == 0


def test_chance_levels_hold_for_cells_that_do_not_respond():
    movie = noise(size=(3, 3))
    rng = np.random.default_rng(5)
    found = check_alignment(movie, recording_of(movie, rng.poisson(0.4, (FRAMES, 40))))
    assert (found["p_past"].values < 0.1).mean() == pytest.approx(0.1, abs=0.12)
    assert found["responds"].values.sum() <= 1


def test_large_frames_are_averaged_and_a_full_field_needs_none():
    movie = noise(size=(40, 60))
    blocky = movie.copy()
    blocky["contrast"].values[:] = np.repeat(
        np.repeat(movie["contrast"].values[:, ::4, ::4], 4, 1), 4, 2
    )
    found = check_alignment(blocky, cells_of(blocky, pixels=((9, 9), (30, 41))))
    assert found["responds"].values.all()
    np.testing.assert_allclose(found["peak_y"], blocky["y"].values[[9, 30]], atol=100)
    np.testing.assert_allclose(found["peak_x"], blocky["x"].values[[9, 41]], atol=100)
    field = noise(size=(1, 1))
    assert check_alignment(field, cells_of(field, pixels=((0, 0), (0, 0))))["responds"].values.all()


def test_a_silent_cell_is_nan_and_harmless():
    movie = noise()
    good = cells_of(movie)["spike_count"].values.copy()
    good[:, 1] = 0
    found = check_alignment(movie, recording_of(movie, good))
    assert found["responds"].values.tolist() == [True, False]
    assert np.isnan(found["drift"].values[1]) and np.isfinite(found["drift"].values[0])
    assert alignment_words(found)[1]


@pytest.mark.parametrize("size", [(6, 8), (1, 1)])
def test_the_figure_has_a_panel_for_every_question(size):
    movie = noise(size=size)
    drawn = alignment_figure(check_alignment(movie, cells_of(movie, pixels=((0, 0), (0, 0)))))
    assert len(drawn.axes) == (5 if size != (1, 1) else 2)
    assert any("2 of 2 cells" in ax.get_title() for ax in drawn.axes)


def test_numbers_out_of_range_are_named_together():
    movie = noise()
    with pytest.raises(InputError, match=r"past_s.*blocks: expected 3"):
        check_alignment(movie, cells_of(movie), past_s=0, blocks=2)
    with pytest.raises(InputError, match="expected what check_alignment"):
        alignment_figure(movie)


def test_traces_are_aligned_whatever_their_unit_and_offset():
    """Membrane potentials below zero, one of them sampled in half of the time, one constant."""
    movie, rng = noise(), np.random.default_rng(3)
    pixels = movie["contrast"].values[:, [1, 4], [2, 5]].astype(float)
    drive = np.roll(pixels, DELAY, axis=0) * [1, -1] + rng.standard_normal((FRAMES, 2))
    volts = np.column_stack([-0.06 + 1e-3 * drive, np.full(FRAMES, -0.05)])
    volts[: FRAMES // 2, 1] = np.nan
    how = {"time": movie["time"].values, "frame_rate": RATE, "cells": ["on", "off", "dead"]}
    found = check_alignment(movie, make_traces(volts, units="volts", **how))
    assert found["responds"].values.tolist() == [True, True, False]
    assert not found["foresees"].values.any()
    np.testing.assert_allclose(found["peak_lag"][:2], -DELAY / RATE, atol=1e-9)
    assert found["polarity"].values[:2].tolist() == [1, -1]
    other = check_alignment(movie, make_traces(1e3 * volts + 7, units="mV", **how))
    np.testing.assert_allclose(other["peak_past"], found["peak_past"], rtol=1e-3)
    assert alignment_words(found)[0][0].startswith("2 of 3 cells")
    wrong = check_alignment(noise(seed=10), make_traces(volts, units="volts", **how))
    assert not wrong["responds"].values.any()
