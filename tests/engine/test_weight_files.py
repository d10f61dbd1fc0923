"""Weights from broken and odd files: refused in one line, the network as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from retinacodec.errors import InputError
from retinacodec.weight_files import load_weights


def saved(folder):
    """Return one state in files of all kinds, old and new."""
    state = nn.Linear(3, 2).state_dict()
    arrays = {name: one.numpy() for name, one in state.items()}
    paths = [folder / name for name in ("new.pth", "old.th", "s.safetensors", "z.npz")]
    torch.save(state, paths[0])
    torch.save(state, paths[1], _use_new_zipfile_serialization=False)
    save_file(state, paths[2])
    np.savez_compressed(paths[3], **arrays)
    return paths


@pytest.mark.parametrize("place", range(4))
def test_broken_files_are_refused_and_change_nothing(tmp_path, place):
    path = saved(tmp_path)[place]
    whole, rng = path.read_bytes(), random.Random(place)
    model = nn.Linear(3, 2)
    refused = 0
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(rng.choice([1, 4, 20])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        before = {name: one.clone() for name, one in model.state_dict().items()}
        try:
            load_weights(model, path)
        except InputError:
            refused += 1
            assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert refused > 50


@pytest.mark.parametrize("prefix", ["module._orig_mod.", "_orig_mod.module.", "module.module."])
def test_prefixes_go_in_any_order(tmp_path, prefix):
    given, model = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({prefix + k: v for k, v in given.state_dict().items()}, tmp_path / "a.pth")
    assert torch.equal(load_weights(model, tmp_path / "a.pth").weight, given.weight)


def test_sparse_weights_are_filled_in(tmp_path):
    given = nn.Linear(3, 2).state_dict()
    torch.save({**given, "weight": given["weight"].to_sparse()}, tmp_path / "a.pth")
    assert torch.equal(load_weights(nn.Linear(3, 2), tmp_path / "a.pth").weight, given["weight"])


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_refused(tmp_path, kind):
    """Whole numbers of a quantised network mean nothing without their scale."""
    state = {name: one.to(kind) for name, one in nn.Linear(3, 2).state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match="without their scale"):
        load_weights(nn.Linear(3, 2), tmp_path / "a.pth")


def test_names_that_fall_together_are_refused(tmp_path):
    state = nn.Linear(3, 2).state_dict()
    torch.save({**state, "module.weight": state["weight"] + 1}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="the same"):
        load_weights(nn.Linear(3, 2), tmp_path / "a.pth")
