"""Fields on disk: the same as in memory, resumed to the same bits, their size said beforehand."""

import numpy as np
import pytest
import xarray as xr
from torch import nn

from retinacodec import field_files
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.field_files import open_fields, plan_fields, stream_fields
from retinacodec.gradients import packed_fields
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus
from retinacodec.store import save


def _circuit(seed=1):
    options = {"size": (14, 13), "history": 6, "channels": (4, 3), "kernels": (5, 3)}
    return Circuit(DeepRetina(3, seed=seed, **options).eval(), [])


@pytest.fixture(scope="module")
def movie():
    pixels = np.random.default_rng(0).normal(size=(60, 14, 13)).astype(np.float32)
    return make_stimulus(pixels, frame_rate=60, pixel_um=50, name="noise")


class KilledError(Exception):
    pass


def _killed_after(monkeypatch, parts):
    done = []

    def save_some(*args, **options):
        if len(done) == parts:
            raise KilledError
        done.append(args)
        return save(*args, **options)

    monkeypatch.setattr(field_files, "save", save_some)


def test_what_is_read_back_is_what_was_in_memory(movie, tmp_path):
    circuit = _circuit()
    kept = stream_fields(circuit, movie, out=tmp_path / "f.zarr", batch=16, progress=False)
    held = packed_fields(circuit, movie, batch=16, progress=False)
    assert kept.rows.drop_attrs().identical(held.rows.drop_attrs())
    found, expected = kept.latents(), held.latents()
    xr.testing.assert_identical(found.latent, expected.latent)
    xr.testing.assert_identical(
        found.select(time=[3]).project(), expected.select(time=[3]).project()
    )
    np.testing.assert_array_equal(kept.mean(), held.mean())
    assert not list(tmp_path.glob("*.unfinished"))


def test_opened_fields_need_no_model_and_are_read_when_asked_for(movie, tmp_path):
    circuit = _circuit()
    stream_fields(circuit, movie, out=tmp_path / "f.zarr", progress=False)
    fields = open_fields(tmp_path / "f.zarr")
    assert not fields.rows.variables["gate_0"]._in_memory
    one = fields.select(time=[10], cell=[1]).latents().project()
    assert not fields.rows.variables["gate_0"]._in_memory
    held = packed_fields(circuit, movie, frames=[15], cells=[1], progress=False)
    scale = float(abs(one).max())
    np.testing.assert_allclose(one / scale, held.latents().project() / scale, atol=1e-5)
    assert fields.rows.attrs["kind"] == "packed_fields"


def test_a_killed_run_goes_on_to_the_same_bits(movie, tmp_path, monkeypatch):
    circuit, options = _circuit(), {"batch": 16, "progress": False}
    whole = stream_fields(circuit, movie, out=tmp_path / "whole.zarr", **options)
    with monkeypatch.context() as patched:
        _killed_after(patched, 2)
        with pytest.raises(KilledError):
            stream_fields(circuit, movie, out=tmp_path / "cut.zarr", **options)
    assert not (tmp_path / "cut.zarr").exists()
    with pytest.raises(InputError, match="resume=True"):
        stream_fields(circuit, movie, out=tmp_path / "cut.zarr", **options)
    with monkeypatch.context() as patched:
        _killed_after(patched, 2)  # two of the four batches are there already
        cut = stream_fields(circuit, movie, out=tmp_path / "cut.zarr", resume=True, **options)
    whole.rows.load(), cut.rows.load()
    assert cut.rows.drop_attrs().identical(whole.rows.drop_attrs())


def test_another_model_or_movie_is_not_gone_on_with(movie, tmp_path, monkeypatch):
    out = tmp_path / "cut.zarr"
    with monkeypatch.context() as patched:
        _killed_after(patched, 1)
        with pytest.raises(KilledError):
            stream_fields(_circuit(), movie, out=out, batch=16, progress=False)
    with pytest.raises(InputError, match="another one: input was"):
        stream_fields(_circuit(seed=2), movie, out=out, batch=16, resume=True, progress=False)
    stream_fields(_circuit(seed=2), movie, out=out, batch=16, overwrite=True, progress=False)


@pytest.mark.parametrize("change", ["latency", "outputs", "head", "frame rate", "pixels"])
def test_another_circuit_of_the_same_weights_is_not_gone_on_with(
    movie, tmp_path, monkeypatch, change
):
    first, frames = _circuit(), np.arange(10, 50)
    other, shown = _circuit(), movie
    if change == "latency":
        other = Circuit(other.model, [], latency=2)
    elif change == "outputs":
        other = Circuit(other.model, [], outputs=("a", "b", "c"))
    elif change == "head":
        other.model.added = nn.ReLU()
    elif change == "frame rate":
        shown = movie.assign_attrs(frame_rate=30.0)
    else:
        shown = movie.assign_coords(y=2 * movie["y"])
    options = {"out": tmp_path / "cut.zarr", "frames": frames, "batch": 16, "progress": False}
    with monkeypatch.context() as patched:
        _killed_after(patched, 1)
        with pytest.raises(KilledError):
            stream_fields(first, movie, **options)
    with pytest.raises(InputError, match="another one: input was"):
        stream_fields(other, shown, resume=True, **options)


def test_the_size_is_said_before_and_is_right(movie, tmp_path):
    plan = plan_fields(_circuit(), movie)
    kept = stream_fields(_circuit(), movie, out=tmp_path / "f.zarr", progress=False)
    assert plan.stored_gb == pytest.approx(kept.nbytes / 1e9)
    latents = kept.latents()
    assert plan.latent_gb == pytest.approx(latents.latent.nbytes / 1e9)
    assert plan.field_gb == pytest.approx(latents.project().nbytes / 1e9)
    assert (plan.frames, plan.cells, plan.form) == (55, 3, "slopes")
    assert "55 frames of 3 cells" in str(plan)


def test_circuits_that_are_no_stack_are_stored_too(movie, tmp_path):
    circuit = Circuit(_circuit().model.double(), [])
    assert plan_fields(circuit, movie).form == "latents"
    kept = stream_fields(circuit, movie, out=tmp_path / "f.zarr", batch=20, progress=False)
    held = packed_fields(circuit, movie, batch=20, progress=False).latents()
    xr.testing.assert_identical(kept.latents().latent, held.latent)


def test_refusals_are_in_words(movie, tmp_path):
    with pytest.raises(InputError, match="ending in"):
        stream_fields(_circuit(), movie, out=tmp_path / "f.nc", progress=False)
    with pytest.raises(InputError, match="at least 1 frame"):
        stream_fields(_circuit(), movie, out=tmp_path / "f.zarr", batch=0, progress=False)
    save(xr.Dataset({"a": ("time", [1.0])}), tmp_path / "other.zarr")
    with pytest.raises(InputError, match="expected fields"):
        open_fields(tmp_path / "other.zarr")
