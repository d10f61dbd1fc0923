"""What picks the largest: shares of those who change places, to numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from retinacodec.path_rows import PathRows
from retinacodec.pooling_chords import max_pool, top_values


def test_the_winner_before_and_after_share_by_where_they_cross():
    """From (3, 1, 0) to (1, 2, 0): a lead of 2 turns into one of 1, at two thirds of the way."""
    values = torch.tensor([[3.0, 1, 0], [1, 2, 0]], requires_grad=True)
    out, _ = top_values(values, 1)
    out.backward(torch.tensor([[0.0], [1]]))
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, 0, 0], [2 / 3, 1 / 3, 0]]))
    change = (values.grad[1] * (values[1] - values[0])).sum()
    torch.testing.assert_close(change.detach(), torch.tensor(-1.0))


def test_those_who_stay_in_the_sum_get_the_whole():
    """The two largest of (5, 3, 1) and (5, 2, 4)."""
    values = torch.tensor([[5.0, 3, 1], [5, 2, 4]], requires_grad=True)
    out, places = top_values(values, 2)
    out.sum(-1).backward(torch.tensor([0.0, 1]))
    torch.testing.assert_close(values.grad[1], torch.tensor([1.0, 0.5, 0.5]))
    assert places.tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_each_of_the_largest_is_exact(k):
    values = torch.randn(7, 30, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    values.requires_grad_()
    out, _ = top_values(values, k)
    for rank in range(k):
        (slope,) = torch.autograd.grad(out[:, rank].sum(), values, retain_graph=True)
        change = (slope[1:] * values.diff(dim=0)).sum(-1)
        torch.testing.assert_close(
            change.detach(), out[:, rank].detach().diff(), atol=1e-13, rtol=0
        )


def test_ties_are_shared_without_loss():
    values = torch.tensor([[1.0, 1, 1], [2, 2, 2], [0, 2, 2]], dtype=torch.float64)
    values.requires_grad_()
    out, _ = top_values(values, 2)
    (slope,) = torch.autograd.grad(out.sum(), values)
    change = (slope[1:] * values.diff(dim=0)).sum(-1)
    torch.testing.assert_close(change.detach(), out.sum(-1).detach().diff())


def test_points_apart_and_on_another_dimension():
    """Two points of three values each, folded behind the points, along the second dimension."""
    values = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values.requires_grad_()
    out, _ = top_values(values, 2, PathRows(1, 3))
    (slope,) = torch.autograd.grad(out.sum(), values)
    change = (slope[:, 3:] * (values[:, 3:] - values[:, :3])).sum()
    torch.testing.assert_close(change, (out[:, 3:] - out[:, :3]).sum())


def test_max_pooling_of_planes():
    values = torch.randn(
        6, 2, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    values.requires_grad_()
    out = max_pool(values, lambda v: F.max_pool2d_with_indices(v, 3, 2, 1))
    torch.testing.assert_close(out, F.max_pool2d(values, 3, 2, 1))
    (slope,) = torch.autograd.grad(out.sum(), values)
    change = (slope[1:] * values.diff(dim=0)).sum()
    torch.testing.assert_close(change, out[-1].sum() - out[0].sum())
