"""Dynamic fields of a circuit with an ON and an OFF pathway in two places, known exactly."""

import importlib

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from retinacodec.analyses.dynamic_fields import (
    draw_dynamic_field,
    draw_mode_field,
    dynamic_fields,
)
from retinacodec.analyses.dynamics_figure import dynamics_figure, dynamics_numbers
from retinacodec.analyses.field_frames import firing_frames, mode_sets
from retinacodec.analyses.field_persistence import field_persistence
from retinacodec.analyses.field_similarity import draw_similarity, field_similarity
from retinacodec.analyses.field_variance import field_variance
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.field_files import stream_fields
from retinacodec.gradients import instantaneous_fields, latent_fields
from retinacodec.models import ToyCircuit
from retinacodec.plotting import figure
from retinacodec.schema import make_stimulus

HISTORY, SIDE, PIXEL = 6, 24, 50.0
PLACES = {"on": (5, 6), "off": (13, 15)}  # upper left corners of the pathways' kernels
COURSE = np.array([0.0, 0.1, 0.3, 1.0, 0.4, 0.0])


class TwoPathways(nn.Module):
    """rate = 20 (relu(z_on) + weight relu(z_off)), each pathway one convolution and one place."""

    history = HISTORY
    size = (SIDE, SIDE)
    cell_names = ("even", "mostly on")

    def __init__(self):
        super().__init__()
        bump = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 1.3**2))
        kernel = COURSE[:, None, None] * bump[:, None] * bump / 8
        self.conv1 = nn.Conv2d(HISTORY, 2, 7)
        weight = torch.tensor(np.stack([kernel, -kernel]), dtype=torch.float32)
        self.conv1.load_state_dict({"weight": weight, "bias": torch.tensor([-0.25, -0.25])})
        self.kernel = kernel
        self.eval()

    def drives(self, x):
        z = torch.relu(self.conv1(x))
        return z[:, 0, 5, 6], z[:, 1, 13, 15]

    def forward(self, x):
        on, off = self.drives(x)
        return 20 * torch.stack([on + off, on + 0.2 * off], dim=1)


def _kernel_at(model, place, weight):
    field = np.zeros((HISTORY, SIDE, SIDE))
    field[:, place[0] : place[0] + 7, place[1] : place[1] + 7] = 20 * weight * model.kernel
    return field


@pytest.fixture(scope="module")
def planted():
    contrast = np.random.default_rng(0).normal(0, 1, (900, SIDE, SIDE))
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=PIXEL, name="noise")
    model = TwoPathways()
    circuit = Circuit(model, layers=["conv1"])
    with torch.no_grad():
        windows = circuit.windows(torch.from_numpy(movie["contrast"].values))
        loading = torch.stack(model.drives(windows), dim=1).numpy()
    modes = xr.Dataset(
        {
            "loading": (("time", "mode"), loading),
            "atom": (("mode", "sign", "channel"), np.zeros((2, 2, 2))),
        },
        coords={"time": movie["time"][HISTORY - 1 :]},
        attrs={"scale": 1.0},
    )
    return circuit, movie, modes


@pytest.fixture(scope="module")
def found(planted):
    circuit, movie, modes = planted
    return dynamic_fields(circuit, movie, modes, share=0.0, max_frames=2000, progress=False)


def test_fields_are_those_of_the_active_pathways(planted, found):
    circuit, movie, _ = planted
    whole = instantaneous_fields(
        circuit, movie, frames=found["frame"].values[:40], progress=False
    ).values
    np.testing.assert_allclose(
        found["gain"][:40], np.linalg.norm(whole.reshape(40, 2, -1), axis=2), rtol=1e-4
    )
    only = {name: found["mode_set"].values == label for name, label in (("on", "0"), ("off", "1"))}
    assert only["on"].sum() > 50 and only["off"].sum() > 50
    for name, polarity in (("on", 1), ("off", -1)):
        even = found.isel(time=only[name], cell=0)
        middle = [movie[axis].values[PLACES[name][k] + 3] for k, axis in enumerate("yx")]
        assert (even["polarity"] == polarity).all()
        np.testing.assert_allclose(even["centre_y"], middle[0], atol=1e-3)
        np.testing.assert_allclose(even["centre_x"], middle[1], atol=1e-3)
        np.testing.assert_allclose(even["latency"], 2 / 60)
        assert (even["separability"] > 0.9).all()


def test_only_firing_frames_are_chosen_and_counted(planted, found):
    circuit, movie, _ = planted
    rate = predict(circuit, movie)
    firing = rate.values > 1.0
    expected = np.flatnonzero(firing.any(axis=1)) + HISTORY - 1
    np.testing.assert_array_equal(found["frame"], expected)
    np.testing.assert_array_equal(found["firing"], firing[expected - HISTORY + 1])
    np.testing.assert_allclose(found["rate"], rate.values[expected - HISTORY + 1], rtol=1e-5)


def test_mean_field_is_the_mean_over_the_firing_frames(planted, found):
    circuit, movie, _ = planted
    whole = instantaneous_fields(circuit, movie, frames=found["frame"].values, progress=False)
    firing = found["firing"].values.astype(float)
    expected = (
        np.einsum("tn,tnlyx->nlyx", firing, whole.values) / firing.sum(0)[:, None, None, None]
    )
    np.testing.assert_allclose(found["mean_field"], expected, atol=1e-5)


def test_fields_of_modes_and_sets_are_those_of_their_pathways(planted, found):
    model = planted[0].model
    assert set(found["set"].values) == {"0", "1", "0+1"}
    for cell, off_weight in enumerate((1.0, 0.2)):
        on, off = _kernel_at(model, PLACES["on"], 1), -_kernel_at(model, PLACES["off"], off_weight)
        for label, field in (("0", on), ("1", off), ("0+1", on + off)):
            one = found.sel(set=label).isel(cell=cell)
            assert float(one["set_gain"]) == pytest.approx(np.linalg.norm(field), rel=1e-4)
            around = field - field.mean()
            form = np.einsum("l,yx->lyx", one["set_temporal"], one["set_spatial"])
            np.testing.assert_allclose(form, around, atol=0.05 * np.abs(field).max())
    table = ((found["mode_set"] == "0") & found["firing"]).sum("time")
    np.testing.assert_array_equal(found["set_frames"].sel(set="0"), table)


def test_mean_field_of_a_mode_is_weighted_by_its_loading(planted, found):
    circuit, movie, modes = planted
    whole = instantaneous_fields(circuit, movie, frames=found["frame"].values, progress=False)
    weight = modes["loading"].values[found["frame"].values - HISTORY + 1, 1]
    weight = weight * found["firing"].values[:, 0]
    expected = np.tensordot(weight, whole.values[:, 0], 1) / weight.sum()
    mean = np.linalg.norm(expected)
    assert float(found["mode_gain"][1, 0]) == pytest.approx(mean, rel=1e-4)
    assert found["mode_polarity"].values[:, 0].tolist() == [1, -1]


def test_same_modes_have_the_same_field_and_a_shift_destroys_it(planted):
    circuit, movie, modes = planted
    similar = field_similarity(
        circuit, movie, modes, share=0.0, null_shifts=99, draws=100, progress=False
    )
    np.testing.assert_allclose(similar["same"], 1, atol=1e-4)
    on, off = (_kernel_at(circuit.model, place, 1).ravel() for place in PLACES.values())
    assert on @ off == 0
    assert similar["different"][0] < 0.5
    assert (similar["difference_low"] > 0.1).all()
    np.testing.assert_allclose(similar["p_value"], 0.01)
    assert similar["pooled_p_value"] == pytest.approx(0.01)
    assert abs(similar["null"].mean()) < 0.02
    small = field_similarity(
        circuit,
        movie,
        modes,
        share=0.0,
        null_shifts=99,
        draws=100,
        budget_gb=1e-9,
        progress=False,
    )
    np.testing.assert_allclose(small["difference"], similar["difference"], atol=1e-5)
    ax = draw_similarity(similar, figure().subplots())
    np.testing.assert_allclose(ax.lines[0].get_ydata()[:2], similar["difference"])


def test_frames_are_spread_evenly_over_the_firing_of_every_cell(planted):
    circuit, movie, _ = planted
    rate = predict(circuit, movie)
    rate = rate.copy(data=np.where(np.arange(len(rate))[:, None] < [[860, 30]], 5.0, 0.0))
    frames = firing_frames(circuit, rate, None, None, 1.0, 100)
    assert len(frames) == 100 and (np.diff(frames) > 0).all()
    late = frames - HISTORY + 1
    assert (late < 30).sum() == 30
    assert np.histogram(late, bins=[30, 306, 583, 860])[0] == pytest.approx([23, 23, 23], abs=1)


def test_mode_sets_name_the_active_modes():
    loading = xr.DataArray(
        [[0.0, 0.0, 5.0], [2.0, 0.0, 0.4], [2.0, 0.3, 0.6]],
        dims=("time", "mode"),
        coords={"mode": ["a", "b", "c"]},
    )
    assert mode_sets(loading, share=0.1).values.tolist() == ["c", "a", "a+b+c"]


def test_without_modes_there_are_no_means_of_modes(planted):
    circuit, movie, _ = planted
    found = dynamic_fields(circuit, movie, cells=["mostly on"], frames=[20, 300], progress=False)
    assert found.sizes["time"] == 2 and found["cell"].values.tolist() == ["mostly on"]
    assert not any(str(name).startswith(("mode", "set")) for name in found)
    with pytest.raises(InputError, match="no modes"):
        draw_mode_field(found, figure().subplots())


def test_bad_calls_are_refused(planted):
    circuit, movie, modes = planted
    with pytest.raises(InputError, match="no cell fires above 1e"):
        dynamic_fields(circuit, movie, minimum_rate=1e6, progress=False)
    with pytest.raises(InputError, match="lie on no frame"):
        late = modes.assign_coords(time=modes["time"] + 100)
        dynamic_fields(circuit, movie, late, progress=False)
    with pytest.raises(InputError, match="no loading for 1 of 2 frames, first 20"):
        short = modes.isel(time=slice(100, None))
        dynamic_fields(circuit, movie, short, frames=[20, 300], progress=False)


def test_drawings_show_the_field_in_its_window(found):
    left, right = figure().subplots(1, 2)
    number = int(np.flatnonzero(found["mode_set"].values == "1")[0])
    draw_dynamic_field(found, left, cell="even", frame=number, window=10)
    picture = np.asarray(left.images[0].get_array())
    assert picture.shape == (10, 10)
    assert picture[5, 5] == picture.min() == -np.abs(picture).max()
    draw_mode_field(found, right, mode=0, cell=1, window=10)
    assert np.asarray(right.images[0].get_array())[5, 5] > 0


def test_fields_from_disk_are_asked_like_those_in_memory(planted, tmp_path):
    circuit, movie, modes = planted
    options = {"frames": np.arange(100, 500), "progress": False}
    packed = stream_fields(circuit, movie, out=tmp_path / "fields.zarr", **options)
    whole = latent_fields(circuit, movie, **options)
    loading = modes["loading"].isel(time=options["frames"] - HISTORY + 1).drop_vars("time")
    asked = {"history": HISTORY, "frame_rate": 60, "null_shifts": 2, "draws": 5}
    one, two = (field_variance(fields, loading, **asked) for fields in (packed, whole))
    np.testing.assert_allclose(one["explained"], two["explained"], atol=1e-4)
    assert one["explained"].sel(form="shape", predictor="mode set").max() > 0.7
    one, two = (field_persistence(fields, **asked) for fields in (packed, whole))
    np.testing.assert_allclose(one["cosine"], two["cosine"], atol=1e-5)


def test_the_figure_of_the_dynamics_shows_its_numbers(planted):
    circuit, movie, modes = planted
    numbers = dynamics_numbers(
        circuit,
        movie,
        modes,
        {"same": modes},
        cell="even",
        max_frames=300,
        seconds=1,
        share=0.0,
        null_shifts=9,
        progress=False,
    )
    example = numbers["A"]
    assert example.sizes["time"] == 60 and example["cell"] == "even"
    assert (np.diff(example["frame"]) == 1).all()
    one = numbers["E"].sel(form="shape", cell="even")
    assert one["explained"].sel(predictor="mode set") > 0.95
    assert one["explained"].sel(predictor="rate") < 0.2
    assert one["beyond"] > 0.4
    np.testing.assert_allclose(
        one["explained"].sel(predictor="same"), one["explained"].sel(predictor="loadings")
    )
    off = numbers["B"]["off_share"].sel(cell="even")
    assert 0.2 < off < 0.8
    flips = numbers["D"].sel(cell="even")
    assert 0 < flips["change_rate_low"] < flips["change_rate_high"] < flips["change_rate_chance"]
    assert numbers["F"].sel(cell="even")["consistency"].max() == 1
    drawing = dynamics_figure(numbers)
    panels = [text.get_text() for part in drawing.subfigs for ax in part.axes for text in ax.texts]
    nested = [text.get_text() for ax in drawing.subfigs[0].subfigs[0].axes for text in ax.texts]
    assert set("BCDEF") <= set(panels) and "A" in nested


def test_rates_of_the_whole_movie_are_not_asked_for_where_frames_are_given(monkeypatch):
    def never(*_args, **_options):
        raise AssertionError("the whole movie was predicted")

    module = importlib.import_module("retinacodec.analyses.dynamic_fields")
    monkeypatch.setattr(module, "predict", never)
    pixels = np.random.default_rng(0).normal(size=(9, 3, 3))
    movie = make_stimulus(pixels, frame_rate=60, pixel_um=50, name="noise")
    circuit = Circuit(ToyCircuit(), ["relu1"])
    found = dynamic_fields(circuit, movie, frames=[4, 6], minimum_rate=0.0, progress=False)
    assert found.sizes["time"] == 2
