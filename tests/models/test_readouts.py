"""Readouts look where they should and weigh what they should."""

from __future__ import annotations

import json

import pytest
import torch

from retinacodec.errors import InputError
from retinacodec.models import DeepRetina, LinearReadout, OnePositionReadout
from retinacodec.models.readouts import Surface, readout_config, readout_from_config

SURFACE = Surface(channels=3, height=8, width=10, field=7)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "choice",
    [LinearReadout(), LinearReadout(bias=True), OnePositionReadout(3, [(5, 6), (9, 12)])],
    ids=repr,
)
def test_dense_weights_give_what_forward_gives(choice):
    readout = choice.build(SURFACE, 2, _generator())
    maps = torch.randn((4, 3, 8, 10), generator=_generator(1))
    weight, bias = readout.dense()
    whole = torch.einsum("bcyx,ncyx->bn", maps, weight) + bias
    torch.testing.assert_close(readout(maps), whole)


def test_the_position_is_the_centre_less_half_the_field_clamped():
    # Field 7 and kernel 3: an index sees 9 pixels, so its centre is 4 pixels further on.
    centres = [(4, 4), (6, 8), (0, 0), (30, 30)]
    readout = OnePositionReadout(3, centres).build(SURFACE, 4, _generator())
    assert readout.positions.tolist() == [[0, 0], [2, 4], [0, 0], [5, 7]]


def test_the_paper_sees_35_pixels_and_clamps_to_16_positions():
    surface = Surface(channels=8, height=26, width=26, field=25)
    readout = OnePositionReadout(11, [(21, 18), (49, 17), (3, 40)]).build(surface, 3, _generator())
    assert readout.positions.tolist() == [[4, 1], [15, 0], [0, 15]]


def test_a_cell_sees_exactly_the_field_around_its_centre():
    model = DeepRetina(
        2,
        size=(20, 24),
        history=3,
        channels=(2, 2),
        kernels=(5, 3),
        readout=OnePositionReadout(3, [(7, 12), (11, 8)]),
    ).eval()
    window = torch.randn((8, 3, 20, 24), generator=_generator(2)).requires_grad_()
    for cell, (row, column) in enumerate([(7, 12), (11, 8)]):
        (grad,) = torch.autograd.grad(model(window)[:, cell].sum(), window)
        seen = grad.abs().sum((0, 1)).nonzero()
        assert seen.amin(0).tolist() == [row - 4, column - 4]
        assert seen.amax(0).tolist() == [row + 4, column + 4]


def test_without_positions_cells_look_from_the_middle():
    readout = OnePositionReadout(3).build(SURFACE, 2, _generator())
    assert readout.positions.tolist() == [[2, 3], [2, 3]] and not readout.fixed


@pytest.mark.parametrize(
    "choice", [LinearReadout(True), OnePositionReadout(5), OnePositionReadout(3, [(1, 2)])]
)
def test_a_choice_survives_json(choice):
    assert readout_from_config(json.loads(json.dumps(readout_config(choice)))) == choice


def test_what_does_not_fit_is_named_in_one_message():
    with pytest.raises(InputError, match=r"kernel 9 does not fit maps of 8 x 10.*2 cells, got 1"):
        OnePositionReadout(9, [(1, 1)]).build(SURFACE, 2, _generator())
    with pytest.raises(InputError, match="expected one of LinearReadout, OnePositionReadout"):
        readout_from_config({"kind": "Nearest"})
