"""Where operations put the points of a path, and which of them lose it."""

from __future__ import annotations

import pytest
import torch

from retinacodec.path_layouts import Call, RowsLostError, layouts
from retinacodec.path_rows import FIRST

Z = torch.zeros(6, 4, 10)
"""Two paths of three points each, on the first dimension."""
FLAT = Z[:, :, 0]


def place(name, function, *args, rows=FIRST, source=Z, **kwargs):
    call = Call(name, function, args, kwargs, [(source, rows)], 3)
    result = function(*args, **kwargs)
    return [(one.dim, one.inner) for one in layouts(call, result)]


FOLLOWED = {
    "reshape": (lambda: place("reshape", torch.reshape, Z, (24, 10)), [(0, 4)]),
    "reshape, all": (lambda: place("reshape", torch.reshape, Z, (-1,)), [(0, 40)]),
    "reshape, unfolding paths": (lambda: place("view", torch.reshape, Z, (2, 3, 40)), [(1, 1)]),
    "reshape, size 1": (lambda: place("view", torch.reshape, Z, (1, 6, 1, 40)), [(1, 1)]),
    "permute": (lambda: place("permute", torch.permute, Z, (2, 1, 0)), [(2, 1)]),
    "unsqueeze": (lambda: place("unsqueeze", torch.unsqueeze, Z, 0), [(1, 1)]),
    "chunk": (lambda: place("chunk", torch.chunk, Z, 2, 1), [(0, 1), (0, 1)]),
    "select": (lambda: place("select", torch.select, Z, 1, 0), [(0, 1)]),
    "index": (lambda: place("getitem", torch.Tensor.__getitem__, Z, (..., None, 1)), [(0, 1)]),
    "index by numbers": (
        lambda: place("getitem", torch.Tensor.__getitem__, Z, (slice(None), [0, 2])),
        [(0, 1)],
    ),
    "own place of each point": (
        lambda: place(
            "getitem", torch.Tensor.__getitem__, Z, (torch.arange(6), torch.arange(6) % 4)
        ),
        [(0, 1)],
    ),
    "sum": (lambda: place("sum", torch.sum, Z, 1), [(0, 1)]),
    "stack": (lambda: place("stack", torch.stack, [Z, Z], 0), [(1, 1)]),
    "product with a vector": (lambda: place("matmul", torch.matmul, Z, torch.ones(10)), [(0, 1)]),
    "product from the left": (
        lambda: place("matmul", torch.matmul, torch.ones(2, 4), Z),
        [(0, 1)],
    ),
    "sum of letters": (lambda: place("einsum", torch.einsum, "bij->jb", Z), [(1, 1)]),
}

LOST = {
    "one point": lambda: place("select", torch.select, Z, 0, 1),
    "some points": lambda: place("getitem", torch.Tensor.__getitem__, Z, slice(0, 3)),
    "other order": lambda: place("getitem", torch.Tensor.__getitem__, Z, [1, 0, 2, 3, 4, 5]),
    "cut paths": lambda: place("reshape", torch.reshape, Z, (4, 60)),
    "split points": lambda: place("reshape", torch.reshape, Z, (3, 2, 40)),
    "mean of all": lambda: place("mean", torch.mean, Z),
    "sum over points": lambda: place("sum", torch.sum, Z, 0),
    "joined along": lambda: place("cat", torch.cat, [Z, Z], 0),
    "running sum": lambda: place("cumsum", torch.cumsum, Z, 0),
    "summed by a product": lambda: place(
        "matmul", torch.matmul, torch.ones(2, 6), FLAT, source=FLAT
    ),
    "summed letter": lambda: place("einsum", torch.einsum, "bij->ij", Z),
    "no batch": lambda: place("avg_pool2d", torch.nn.functional.avg_pool2d, Z, 2, rows=FIRST),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_points_are_followed(name):
    run, wanted = FOLLOWED[name]
    assert run() == wanted


@pytest.mark.parametrize("name", LOST)
def test_lost_points_are_noticed(name):
    with pytest.raises(RowsLostError):
        LOST[name]()
