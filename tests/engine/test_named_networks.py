"""Networks that a text names, from a file of code."""

from __future__ import annotations

import sys

import pytest
import torch

from retinacodec.errors import InputError
from retinacodec.named_networks import load_network

CODE = """
from __future__ import annotations
import dataclasses
import torch

@dataclasses.dataclass
class Sizes:
    given: int = 3
    wanted: "int" = 2

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(*dataclasses.astuple(Sizes()))
"""


def test_a_file_may_hold_dataclasses_and_gives_a_network_that_is_settled(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(CODE)
    model = load_network(f"{path}:Net")
    assert not model.training
    assert model(torch.zeros(1, 3)).shape == (1, 2)
    assert sys.modules[type(model).__module__].Net is type(model)


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("raise KeyError('odd')", "Net", "cannot be run"),
        ("x = 1", "Net", "no 'Net'"),
        ("def net(a): pass", "net", "without arguments"),
        ("def net(): return 3", "net", "made int"),
    ],
)
def test_code_that_gives_no_network_is_said_in_one_line(tmp_path, code, name, message):
    path = tmp_path / "wrong_nets.py"
    path.write_text(code)
    with pytest.raises(InputError, match=message) as caught:
        load_network(f"{path}:{name}")
    assert "\n" not in str(caught.value)
