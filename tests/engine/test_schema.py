"""Datasets are built with their units and refused with every reason at once."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from retinacodec.errors import InputError, Problems, RecordingError
from retinacodec.schema import (
    check_contributions,
    check_fields,
    check_modes,
    check_pair,
    make_recording,
    make_stimulus,
)


def movie(frames=5, rate=60.0, **options):
    return make_stimulus(
        np.zeros((frames, 2, 3)), frame_rate=rate, pixel_um=50, name="grey", **options
    )


def test_stimulus_has_units_and_centred_positions():
    stimulus = movie(seed=3, truth={"flash": (np.zeros(5, bool), "1")}, first_frame=60)
    assert stimulus["x"].values.tolist() == [-50.0, 0.0, 50.0]
    assert stimulus["y"].values.tolist() == [-25.0, 25.0]
    assert stimulus["time"].values[0] == 1.0
    assert stimulus["x"].attrs["units"] == "um"
    assert stimulus.attrs["seed"] == 3


def test_stimulus_reports_all_problems_in_one_line():
    with pytest.raises(InputError, match=r"frame_rate.*0.*pixel_um.*-1"):
        make_stimulus(np.zeros((3, 2, 2)), frame_rate=0, pixel_um=-1, name="bad")


def test_stimulus_with_nan_names_the_frame():
    frames = np.zeros((6, 2, 2))
    frames[4, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite in 1 frames.*\[4\]"):
        make_stimulus(frames, frame_rate=60, pixel_um=50, name="bad")


@pytest.mark.parametrize(
    ("counts", "cells", "words"),
    [
        (-np.ones((4, 2)), ["a", "b"], "below zero"),
        (np.full((4, 2), np.inf), ["a", "b"], "infinite"),
        (np.zeros((4, 2)), ["a", "a"], "not unique"),
        (np.zeros((3, 2)), ["a", "b"], "do not fit"),
    ],
)
def test_recording_refuses_what_no_recording_can_be(counts, cells, words):
    with pytest.raises(InputError, match=words):
        make_recording(counts, time=np.arange(4) / 60, frame_rate=60, cells=cells)


def test_recording_keeps_unobserved_bins_as_nan():
    counts = np.array([[0.0], [np.nan], [2.0]])
    recording = make_recording(counts, time=np.arange(3) / 60, frame_rate=60, cells=["7"])
    assert np.isnan(recording["spike_count"].values[1, 0])
    assert recording["cell"].values.tolist() == ["7"]


def test_pair_must_share_frames_and_rate():
    recording = make_recording(np.zeros((4, 1)), time=np.arange(4) / 30, frame_rate=30, cells=["a"])
    with pytest.raises(InputError, match=r"5 frames but the recording 4.*60 Hz.*30 Hz"):
        check_pair(movie(), recording)


def test_modes_and_contributions_and_fields_are_checked():
    with pytest.raises(InputError, match="no variable 'atom'"):
        check_modes(xr.Dataset())
    with pytest.raises(InputError, match="no layer"):
        check_contributions(xr.DataTree())
    with pytest.raises(InputError, match="dims must be"):
        check_fields(xr.DataArray(np.zeros(3), dims="time"))


def test_problems_are_silent_when_there_are_none():
    problems = Problems()
    assert problems.require(True, "never said")
    problems.raise_as("anything")


def test_recording_error_keeps_its_parts():
    import pickle

    error = RecordingError("a.nwb", "is empty", "copy it again")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "a.nwb: is empty; copy it again"
    assert (again.path, again.what, again.hint) == ("a.nwb", "is empty", "copy it again")
