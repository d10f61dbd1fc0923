"""Sums of windows before spikes, both ways, against the loop that defines them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retinacodec.triggered_sums import sparse_is_faster, stretch_sum, triggered_sum


def _definition(movie, counts, history, latency):
    truth = torch.zeros(counts.shape[1], history, *movie.shape[1:], dtype=torch.float64)
    for time in range(history - 1 + latency, len(movie)):
        window = movie[time - latency - history + 1 : time - latency + 1].double()
        for cell, count in enumerate(counts[time].tolist()):
            if not np.isnan(count):
                truth[cell] += count * window
    return truth


@pytest.mark.parametrize("sparse", [True, False, None])
@pytest.mark.parametrize("latency", [0, 2])
@pytest.mark.parametrize("chunk", [4096, 7, 1])
def test_windows_before_spikes_are_added(latency, sparse, chunk):
    generator = torch.Generator().manual_seed(3)
    movie = torch.randn((30, 3, 4), generator=generator, dtype=torch.float64)
    counts = torch.poisson(torch.full((30, 2), 0.7, dtype=torch.float64), generator=generator)
    counts[17, 0], counts[0, 1], counts[-1, 1] = torch.nan, 3, 2.5
    found = triggered_sum(movie, counts, 5, latency, sparse=sparse, chunk=chunk)
    torch.testing.assert_close(found, _definition(movie, counts, 5, latency))


@pytest.mark.parametrize("sparse", [True, False])
def test_single_precision_is_within_a_millionth_of_double(sparse):
    generator = torch.Generator().manual_seed(4)
    movie = torch.randn((9000, 4, 5), generator=generator)
    counts = torch.poisson(torch.full((9000, 3), 0.15), generator=generator)
    found = triggered_sum(movie, counts, 6, sparse=sparse).double()
    truth = triggered_sum(movie.double(), counts.double(), 6, sparse=False)
    assert (found - truth).abs().max() < 1e-6 * truth.abs().max()
    np.testing.assert_allclose(found / counts.sum(0).view(-1, 1, 1, 1), 0, atol=0.2)


def test_views_and_whole_numbers_are_summed_as_what_they_hold():
    generator = torch.Generator().manual_seed(5)
    whole = torch.randint(-1, 2, (40, 4, 3), generator=generator, dtype=torch.int8)
    counts = torch.rand((40, 2), generator=generator)
    expected = _definition(whole, counts, 4, 1).float()
    for movie in (whole, whole.float(), whole.float().transpose(1, 2).contiguous().transpose(1, 2)):
        for sparse in (True, False):
            found = triggered_sum(movie, counts, 4, 1, sparse=sparse)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cells", [4, 8, 32])
def test_few_spikes_are_walked_over_and_many_multiplied(cells, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    generator = np.random.default_rng(0)
    few, many = (
        torch.from_numpy((generator.random((2000, cells)) < share).astype(np.float32))
        for share in (0.2, 0.8)
    )
    assert sparse_is_faster(few, 40, 2500) and not sparse_is_faster(many, 40, 2500)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (3, 9), (20, 60), (59, 60)])
def test_a_stretch_is_the_sum_without_all_other_counts(start, stop):
    generator = torch.Generator().manual_seed(0)
    movie = torch.randn((60, 3, 4), generator=generator, dtype=torch.float64)
    counts = torch.rand((60, 2), generator=generator, dtype=torch.float64)
    inside = counts.clone()
    inside[:start] = inside[stop:] = 0
    found = stretch_sum(movie, counts, start, stop, history=5, latency=2)
    torch.testing.assert_close(found, triggered_sum(movie, inside, 5, 2))
