"""The parts of sparse networks: top codes, unit atoms, matching pursuit and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from retinacodec.errors import InputError
from retinacodec.sparse_coders import MatchingCoder, TopKCoder, matching_pursuit
from retinacodec.unit_atoms import hold_norm, narrowed, settle_atoms, signed_unit, top_codes


def test_top_codes_are_the_largest_above_zero():
    values = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
    values[0] = -1
    place = np.argsort(-values, axis=1)[:, :3]
    expected = np.zeros_like(values)
    np.put_along_axis(expected, place, np.take_along_axis(values, place, 1), 1)
    expected = np.maximum(expected, 0)
    np.testing.assert_array_equal(top_codes(torch.from_numpy(values), 3).numpy(), expected)
    np.testing.assert_array_equal(
        top_codes(torch.from_numpy(values), 99).numpy(), np.maximum(values, 0)
    )


def test_atoms_get_signs_and_unit_norm_and_are_turned_if_all_wrong():
    signs = torch.tensor([1.0, -1.0, 0.0])
    atoms = torch.tensor([[3.0, 4.0, -4.0], [-3.0, 4.0, 0.0], [0.0, -2.0, 0.0]])
    expected = [[0.6, 0, -0.8], [0.6, -0.8, 0], [0, -1, 0]]
    np.testing.assert_allclose(signed_unit(atoms, signs), expected, atol=1e-6)
    held = torch.nn.Parameter(atoms.clone())
    settle_atoms(held, None)
    np.testing.assert_allclose(held.detach().norm(dim=1), 1, atol=1e-6)
    assert (held.detach()[1] * torch.tensor([-1.0, 1, 0]) >= 0).all()


def test_held_gradient_does_not_change_the_norm():
    atoms = torch.nn.Parameter(torch.nn.functional.normalize(torch.randn(5, 7), dim=1))
    (torch.randn(5, 7) * atoms).sum().backward()
    hold_norm(atoms)
    assert (atoms.grad * atoms.detach()).sum(1).abs().max() < 1e-6
    assert atoms.grad.norm() > 1


def test_active_modes_narrow_over_the_first_half():
    assert [narrowed(epoch, 100, 20, 5) for epoch in (0, 20, 50, 99)] == [20, 14, 5, 5]


def test_pursuit_on_orthonormal_atoms_is_the_orthogonal_one():
    random = np.random.default_rng(1)
    atoms = np.linalg.qr(random.standard_normal((20, 8)))[0].T
    x = random.gamma(2, 1, (60, 8)) @ atoms + 0.1 * random.standard_normal((60, 20))
    expected = orthogonal_mp(atoms.T, x.T, n_nonzero_coefs=4).T
    loadings, left = matching_pursuit(torch.from_numpy(x), torch.from_numpy(atoms), 4, 0.0)
    np.testing.assert_allclose(loadings.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(left.numpy(), x - expected @ atoms, atol=1e-12)


def test_pursuit_takes_no_step_below_the_floor_and_none_below_zero():
    atoms = torch.eye(3)
    x = torch.tensor([[2.0, 0.5, -3.0], [0.1, 0.2, 0.3]])
    loadings, left = matching_pursuit(x, atoms, 5, 0.4)
    assert loadings.tolist() == [[2, 0.5, 0], [0, 0, 0]]
    torch.testing.assert_close(left, x - loadings)


def test_gradient_goes_through_all_steps_of_the_pursuit():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    atoms = torch.nn.functional.normalize(atoms, dim=1).requires_grad_()
    x = torch.randn(4, 9, generator=generator, dtype=torch.float64)

    def loss(atoms):
        return matching_pursuit(x, atoms, 3, 0.0)[1].square().sum()

    assert torch.autograd.gradcheck(loss, (atoms,))


def test_coders_of_no_modes_and_of_wrong_columns():
    x = np.ones((3, 4), np.float32)
    empty = np.zeros((0, 4), np.float32)
    assert TopKCoder(empty, np.zeros(0, np.float32), 2)(x).shape == (3, 0)
    assert MatchingCoder(empty, np.zeros(4, np.float32), 2, 0.1)(x).shape == (3, 0)
    reading = np.ones((2, 5), np.float32)
    with pytest.raises(InputError, match=r"expected 5 input features.*got 4"):
        TopKCoder(reading, np.zeros(2, np.float32), 1)(x)
