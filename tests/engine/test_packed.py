"""Fields from slopes and gains against whole gradients; packed, selected, averaged."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.field_engine import field_engine
from retinacodec.gradients import instantaneous_fields, latent_fields, packed_fields
from retinacodec.latents import membership
from retinacodec.models import DeepRetina
from retinacodec.models.readouts import OnePositionReadout
from retinacodec.schema import make_stimulus
from retinacodec.stack_fields import StackFields


class Retina(nn.Module):
    """Two convolutions, a readout, and a head in which cells may see each other."""

    history = 6

    def __init__(self, nonlinearity=nn.ReLU, coupled=False, padding=0, stride=1, head=nn.Softplus):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(6, 3, 5, padding=padding)
        self.second = nn.Conv2d(3, 4, 3, stride=stride)
        self.bend = nonlinearity()
        self.flat = nn.Flatten()
        self.readout = nn.LazyLinear(3)
        self.mix = nn.Linear(3, 3, bias=False)
        self.coupled, self.head = coupled, head()
        self(torch.zeros(1, 6, 14, 13))

    def forward(self, window):
        maps = self.bend(self.second(self.bend(self.first(window))))
        drive = self.readout(self.flat(maps))
        seen = self.mix(torch.sigmoid(drive)) if self.coupled else drive
        return self.head(3 * seen)


def _deep(**options):
    return DeepRetina(
        3, size=(14, 13), history=6, channels=(4, 3), kernels=(5, 3), latency=1, seed=1, **options
    ).eval()


MODELS = {
    "linear": _deep,
    "one position": lambda: _deep(readout=OnePositionReadout(kernel=3)),
    "smooth courses": lambda: _deep(bands=2),
    "plain": Retina,
    "softplus": lambda: Retina(nn.Softplus),
    "coupled": lambda: Retina(coupled=True),
    "padded": lambda: Retina(padding=2),
    "strided": lambda: Retina(stride=2),
}


@pytest.fixture(scope="module")
def movie():
    pixels = np.random.default_rng(0).normal(size=(60, 14, 13)).astype(np.float32)
    return make_stimulus(pixels, frame_rate=60, pixel_um=50, name="noise")


def _circuit(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    return Circuit(model, [])


@pytest.mark.parametrize("name", MODELS)
def test_fields_from_slopes_are_the_whole_gradients(name, movie):
    circuit = _circuit(name)
    assert isinstance(field_engine(circuit, movie, None, None, None, None), StackFields)
    packed = packed_fields(circuit, movie, batch=7, progress=False)
    whole = instantaneous_fields(circuit, movie, progress=False)
    found = packed.latents().project()
    scale = float(np.abs(whole).max())
    np.testing.assert_allclose(found.values / scale, whole.values / scale, atol=1e-5)
    xr.testing.assert_allclose(packed.rate, latent_fields(circuit, movie, progress=False).rate)
    assert found.dims == whole.dims and (found["time"] == whole["time"]).all()
    assert (found["lag"] == whole["lag"]).all() and found["cell"].equals(whole["cell"])


def test_rectifiers_take_a_bit_each_and_cells_a_number(movie):
    packed = packed_fields(_circuit("plain"), movie, progress=False)
    frames, values = packed.rate.sizes["time"], 3 * 10 * 9 + 4 * 8 * 7
    assert packed.rows["gate_0"].dtype == np.uint8 and packed.rows["gain"].dims == ("time", "cell")
    assert packed.nbytes <= frames * (values / 8 + 2 + 2 * 4 * 3)
    assert packed_fields(_circuit("coupled"), movie, progress=False).rows["gain"].ndim == 3


def test_scattered_frames_and_chosen_cells_are_those_of_the_whole(movie):
    circuit = _circuit("linear")
    whole = packed_fields(circuit, movie, progress=False)
    frames = [50, 7, 23]
    some = packed_fields(circuit, movie, cells=[2, 0], frames=frames, progress=False)
    where = [np.flatnonzero(whole.rows["frame"] == frame)[0] for frame in frames]
    same = whole.select(time=where, cell=[2, 0]).latents().latent
    scale = float(np.abs(same).max())
    np.testing.assert_allclose(some.latents().latent / scale, same.values / scale, atol=1e-5)
    assert some.rate["cell"].values.tolist() == same["cell"].values.tolist()
    mask = np.isin(np.arange(whole.rate.sizes["cell"]), [1])
    assert whole.select(cell=mask).latents().latent.equals(whole.latents().latent[:, [1]])


def test_means_of_groups_are_those_of_the_fields(movie):
    packed = packed_fields(_circuit("linear"), movie, progress=False)
    fields = packed.latents().project()
    labels = np.random.default_rng(1).choice(["a", "b", "c"], size=fields.sizes["time"])
    means = packed.mean(membership(labels))
    assert means.dims == ("group", "cell", "lag", "y", "x")
    for group in "abc":
        expected = fields[labels == group].mean("time")
        np.testing.assert_allclose(means.sel(group=group), expected, atol=1e-5 * abs(fields).max())
    np.testing.assert_allclose(packed.mean(), fields.mean("time"), atol=1e-5 * abs(fields).max())


def test_blocks_make_the_whole(movie):
    packed = packed_fields(_circuit("linear"), movie, progress=False)
    parts = [block.latent for block in packed.blocks(11)]
    assert len(parts) > 3
    xr.testing.assert_equal(xr.concat(parts, "time"), packed.latents().latent)


def test_circuits_that_are_no_stack_keep_latents(movie):
    circuit = Circuit(_deep().double(), [])
    packed = packed_fields(circuit, movie, batch=9, progress=False)
    assert packed.descent is None and packed.rows["latent"].dtype == np.float64
    whole = instantaneous_fields(circuit, movie, progress=False)
    scale = float(abs(whole).max())
    np.testing.assert_allclose(packed.latents().project() / scale, whole / scale, atol=1e-12)
    np.testing.assert_allclose(packed.mean() / scale, whole.mean("time") / scale, atol=1e-12)


def test_a_budget_too_small_and_weights_that_do_not_fit_are_named(movie):
    packed = packed_fields(_circuit("linear"), movie, progress=False)
    with pytest.raises(InputError, match="budget is 1e-06 GB"):
        packed.latents(budget_gb=1e-6)
    with pytest.raises(InputError, match="54 frames"):
        packed.mean(np.ones(3))
    with pytest.raises(InputError, match="raise budget_gb"):
        packed_fields(_circuit("linear"), movie, budget_gb=1e-9, progress=False)
    with pytest.raises(InputError, match="expected labels"):
        membership(np.ones((2, 2)))


@pytest.mark.parametrize("chosen", [{"cell": [99]}, {"time": [-1, 54]}, {"cell": [0.5]}])
def test_frames_and_cells_that_do_not_exist_are_named(movie, chosen):
    packed = packed_fields(_circuit("linear"), movie, progress=False)
    for fields in (packed, packed.latents()):
        with pytest.raises(InputError, match=r"expected positions of (cell|time) from 0 to"):
            fields.select(**chosen)
    with pytest.raises(InputError, match="a mask of 54"):
        packed.select(time=np.ones(53, dtype=bool))
    assert packed.select(cell=[]).rate.sizes["cell"] == 0
    with pytest.raises(InputError, match="at least 1 frame, got 0"):
        next(packed.blocks(0))


def test_the_model_is_left_as_it_was(movie):
    model = _deep().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packed_fields(Circuit(model, []), movie, progress=False)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("threshold", [1.0, 1e4])
def test_cells_that_are_silent_but_for_a_moment_have_their_own_fields(movie, threshold):
    model = Retina(head=nn.ReLU).eval()
    loud = movie.copy(deep=True)
    loud["contrast"][30:36] *= 30 * threshold
    with torch.no_grad():
        model.readout.bias -= threshold
    circuit = Circuit(model, [])
    packed = packed_fields(circuit, loud, progress=False)
    whole = instantaneous_fields(circuit, loud, progress=False)
    silent = (packed.rate == 0).mean("time")
    assert (silent > 0.5).all() and (silent < 1).any()
    scale = float(np.abs(whole).max())
    np.testing.assert_allclose(packed.latents().project() / scale, whole / scale, atol=1e-5)
