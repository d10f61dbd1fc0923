"""Runs cover their set, never leave it, and bring the right frames along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retinacodec.recordings import split_blocks
from retinacodec.runs import Runs, segments

FRAMES, HISTORY = 600, 7


def _runs(frames: np.ndarray, *, latency: int = 0, length: int = 16) -> Runs:
    contrast = torch.arange(FRAMES, dtype=torch.float32)[:, None, None].expand(-1, 2, 2)
    counts = torch.arange(FRAMES, dtype=torch.float32)[:, None].repeat(1, 3)
    return Runs(contrast, counts, HISTORY, latency, length, frames)


def test_segments_are_the_contiguous_stretches():
    parts = segments(np.array([0, 1, 2, 7, 9, 10]))
    assert [part.tolist() for part in parts] == [[0, 1, 2], [7], [9, 10]]


@pytest.mark.parametrize("latency", [0, 3])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_runs_cover_the_set_and_nothing_else(name, latency):
    split = split_blocks(FRAMES, history=HISTORY, latency=latency, blocks=12)
    frames = getattr(split, name)
    runs = _runs(frames, latency=latency)
    covered = runs.responses(runs.starts).flatten().unique()
    assert covered.tolist() == frames.tolist()


def test_movie_ends_latency_frames_before_the_last_response():
    runs = _runs(np.arange(50, 100), latency=2, length=10)
    movie = runs.movie(torch.tensor([60]))
    assert movie[0, :, 0, 0].tolist() == list(range(60 - 2 - HISTORY + 1, 69 - 2 + 1))


def test_training_runs_see_no_frame_of_the_other_sets():
    split = split_blocks(FRAMES, history=HISTORY, blocks=12)
    seen = [_runs(getattr(split, name)) for name in ("train", "validation", "test")]
    frames = [set(runs.movie(runs.starts)[..., 0, 0].flatten().tolist()) for runs in seen]
    assert not frames[0] & frames[1] and not frames[0] & frames[2] and not frames[1] & frames[2]


def test_a_short_stretch_shortens_all_runs():
    assert _runs(np.r_[20:60, 80:84]).length == 4


def test_statistics_are_those_of_the_set_alone():
    runs = _runs(np.r_[20:30, 50:53])
    runs.counts[21, 0] = torch.nan
    needed = np.unique(np.concatenate([np.arange(t - HISTORY + 1, t + 1) for t in runs.frames]))
    assert runs.deviation() == pytest.approx(needed.std(), rel=1e-9)
    kept = np.setdiff1d(runs.frames, [21])
    assert runs.spikes().tolist() == [kept.sum(), runs.frames.sum(), runs.frames.sum()]
    np.testing.assert_allclose(runs.mean_counts(), [kept.mean(), *[runs.frames.mean()] * 2])
    hidden = runs.only_here()
    assert hidden[22].tolist() == [22, 22, 22] and hidden[31].isnan().all()
