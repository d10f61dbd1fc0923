import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec.analyses import channel_activations, line_movie, pad_movie
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import ToyCircuit
from retinacodec.schema import make_stimulus


def test_activations_of_a_layer_are_what_the_module_put_out():
    movie = make_stimulus(
        np.random.default_rng(0).normal(size=(40, 3, 3)), frame_rate=60, pixel_um=50, name="noise"
    )
    toy = ToyCircuit()
    circuit = Circuit(toy, ["relu1"])
    found = channel_activations(circuit, movie, batch=7)
    x = circuit.windows(torch.from_numpy(movie.contrast.values))
    np.testing.assert_allclose(found, toy.relu1(toy.conv1(x)), atol=1e-6)
    assert float(found.time[0]) == pytest.approx(2 / 60)
    assert channel_activations(circuit, movie, "relu2").sizes["channel"] == 2
    with pytest.raises(InputError, match="over budget_gb"):
        channel_activations(circuit, movie, budget_gb=1e-9)


def test_several_layers_in_one_pass_are_the_layers_one_by_one():
    movie = make_stimulus(
        np.random.default_rng(0).normal(size=(40, 3, 3)), frame_rate=60, pixel_um=50, name="noise"
    )
    toy, calls = ToyCircuit(), []
    handle = toy.register_forward_hook(lambda *_: calls.append(1))
    circuit = Circuit(toy, [])
    both = channel_activations(circuit, movie, ["relu1", "relu2"], batch=100)
    handle.remove()
    assert len(calls) == 1
    assert list(both) == ["relu1", "relu2"]
    for name, found in both.items():
        xr.testing.assert_identical(found, channel_activations(circuit, movie, name, batch=100))
    assert both["relu1"].attrs["history"] == toy.history
    with pytest.raises(InputError, match="layer"):
        channel_activations(circuit, movie, [])
    size = sum(found.nbytes for found in both.values())
    channel_activations(circuit, movie, ["relu1", "relu2"], budget_gb=1.01 * size / 1e9)
    with pytest.raises(InputError, match="over budget_gb"):
        channel_activations(circuit, movie, ["relu1", "relu2"], budget_gb=0.9 * size / 1e9)


def test_padding_is_grey_around_the_movie_and_positions_stay():
    frames = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(np.float32)
    movie = make_stimulus(frames, frame_rate=60, pixel_um=20, name="boxes", origin_um=(100, 7))
    wide = pad_movie(movie, (6, 4))
    assert wide.contrast.shape == (5, 6, 4)
    np.testing.assert_array_equal(wide.contrast[:, 1:4], frames)
    assert float(abs(wide.contrast).sum()) == pytest.approx(float(np.abs(frames).sum()))
    np.testing.assert_allclose(wide.y[1:4], movie.y)
    np.testing.assert_allclose(np.diff(wide.y), 20)
    assert wide.attrs["padding"] == [1, 0]
    np.testing.assert_array_equal(pad_movie(movie, (3, 4)).contrast, movie.contrast)
    with pytest.raises(InputError, match=r"\(3, 4\) pixels \(y, x\) do not fit into \(6, 3\)"):
        pad_movie(movie, (6, 3))


def test_lines_are_averaged_and_repeated_downwards():
    lines = np.arange(12.0).reshape(2, 6)
    movie = line_movie(lines, rows=3, pool=2, frame_rate=100, pixel_um=55)
    np.testing.assert_array_equal(movie.contrast[1], np.tile([6.5, 8.5, 10.5], (3, 1)))
    assert np.diff(movie.x)[0] == 55
    with pytest.raises(InputError, match=r"rows: expected 1 or more, got 0(.|\n)*pool: 4"):
        line_movie(lines, rows=0, pool=4, frame_rate=100, pixel_um=55)
