"""Tables with known modes, and what is run along paths, for several tests of the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retinacodec.secant import SecantMode


def plant(rows: int, features: int, modes: int, *, seed: int = 0, **recipe: Any) -> SimpleNamespace:
    """A table made of modes, with its atoms, loadings and the signs of its features."""
    from retinacodec.analyses import Planted

    recipe = {"active": 3.0, "support": 0.25} | recipe
    table = Planted(rows, features, modes, **recipe).draw(seed)
    return SimpleNamespace(
        x=table["x"].values,
        atoms=table["atom"].values,
        loadings=table["loading"].values,
        signs=table["sign"].values,
    )


@pytest.fixture(scope="session")
def planted() -> Callable[..., Any]:
    """The maker of tables with known modes."""
    return plant


def paths(samples, steps):
    """Return (sample * point, ...): each sample's path from zero, points together."""
    fractions = torch.linspace(0, 1, steps + 1, dtype=samples.dtype)
    fractions = fractions.view(1, -1, *([1] * (samples.ndim - 1)))
    return (samples.unsqueeze(1) * fractions).flatten(0, 1)


def contributions(function, values, steps, target=None, chords=True):
    """Return what each value gave (sample, ...) and the change of the target (sample,).

    Parameters
    ----------
    function : callable
        From values (row, ...) to outputs (row, ...).
    values : torch.Tensor (row, ...)
        Activations along paths of ``steps + 1`` points.
    target : callable, optional
        From outputs to (row,); else a fixed mixture of all outputs.
    chords : bool
        With the secant rule; else by the trapezoid.
    """
    leaf = values.detach().requires_grad_()
    mode = SecantMode(steps + 1, [leaf]) if chords else torch.enable_grad()
    with mode:
        score = (target or mixture)(function(leaf.clone()))
    if chords:
        mode.check(score)
    score = score.unflatten(0, (-1, steps + 1))
    weights = torch.ones_like(score)
    if chords:
        weights[:, 0] = 0
    (slope,) = torch.autograd.grad(score, leaf, weights)
    slope = slope.unflatten(0, (-1, steps + 1))
    mean = slope[:, 1:] if chords else (slope[:, 1:] + slope[:, :-1]) / 2
    part = (mean * values.unflatten(0, (-1, steps + 1)).diff(dim=1)).sum(dim=1)
    return part, (score[:, -1] - score[:, 0]).detach()


def mixture(outputs):
    flat = outputs.flatten(1) if outputs.ndim > 1 else outputs[:, None]
    weights = torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(2))
    return flat @ weights.to(flat)


def residual(function, values, steps, target=None):
    """Return how far the contributions are from the change of the target, relative to it."""
    part, change = contributions(function, values, steps, target)
    return float((part.flatten(1).sum(1) - change).abs().max() / change.abs().max())


@pytest.fixture(scope="session")
def along() -> SimpleNamespace:
    """Return what runs a function along paths."""
    return SimpleNamespace(paths=paths, contributions=contributions, residual=residual)


@pytest.fixture
def lab_file(tmp_path):
    """Return a function that has pynwb, which nobody here wrote, write what a caller adds."""
    from datetime import UTC, datetime

    pynwb = pytest.importorskip("pynwb")

    def write(*stimuli, templates=(), acquisition=(), change=None, name="lab.nwb"):
        nwb = pynwb.NWBFile("made for a test", "lab-1", datetime(2026, 1, 2, tzinfo=UTC))
        for series in templates:
            nwb.add_stimulus_template(series)
        for series in stimuli:
            nwb.add_stimulus(series)
        for series in acquisition:
            nwb.add_acquisition(series)
        if change is not None:
            change(nwb)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pynwb.NWBHDF5IO(tmp_path / name, "w") as io:
                io.write(nwb)
        return tmp_path / name

    return write


class NwbLab:
    """A file of sampled responses that pynwb writes, as a laboratory would fill it."""

    def __init__(self, path):
        from datetime import UTC, datetime

        import pynwb

        self.path, self.pynwb = path, pynwb
        self.nwb = pynwb.NWBFile("a retina", "lab", datetime(2026, 1, 1, tzinfo=UTC))
        self.device = self.nwb.create_device("rig")

    def module(self, name="ophys"):
        if name in self.nwb.processing:
            return self.nwb.processing[name]
        return self.nwb.create_processing_module(name, "results")

    def regions(self, ids, chosen):
        from pynwb.ophys import ImageSegmentation, OpticalChannel

        module = self.module()
        if "ImageSegmentation" not in module.data_interfaces:
            plane = self.nwb.create_imaging_plane(
                name="plane",
                optical_channel=OpticalChannel("green", "light", 500.0),
                description="inner plexiform layer",
                device=self.device,
                excitation_lambda=920.0,
                indicator="GCaMP",
                location="retina",
            )
            segmentation = ImageSegmentation()
            module.add(segmentation)
            self.cut = segmentation.create_plane_segmentation("regions", plane, "cut")
            for one in ids:
                self.cut.add_roi(image_mask=[[1.0, 1.0]], id=one)
        return self.cut.create_roi_table_region(region=chosen, description="shown")

    def fluorescence(self, data, *, name="RoiResponseSeries", box="Fluorescence", **timing):
        rois = self.regions([10, 11, 12, 13, 14], [3, 0, 4, 1])
        timing = timing or {"rate": 7.5, "starting_time": 2.0}
        ophys = self.pynwb.ophys
        series = ophys.RoiResponseSeries(name, data, unit="lumens", rois=rois, **timing)
        held = getattr(ophys, box)(roi_response_series=[series]) if box else series
        self.module().add(held)

    def electrode(self, name="electrode0", **more):
        return self.nwb.create_icephys_electrode(
            name=name, description="sharp", device=self.device, **more
        )

    def sweep(self, name, electrode, data, kind="CurrentClampSeries", **more):
        more = {"rate": 100.0, "starting_time": 0.0, "conversion": 1e-3} | more
        make = getattr(self.pynwb.icephys, kind)
        series = make(name=name, data=data, electrode=electrode, **more)
        self.nwb.add_acquisition(series)
        return series

    def rates(self, data, unit, name="rates", room="ecephys"):
        timing = {"rate": 60.0, "starting_time": 1.0}
        series = self.pynwb.TimeSeries(name=name, data=data, unit=unit, **timing)
        if room == "analysis":
            self.nwb.add_analysis(series)
        else:
            self.module(room).add(series)

    def write(self, change=None):
        import h5py

        if not self.path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with self.pynwb.NWBHDF5IO(self.path, "w") as io:
                    io.write(self.nwb)
        if change is not None:
            with h5py.File(self.path, "a") as file:
                change(file)

    def read(self, *names, change=None, **settings):
        from retinacodec.hdf5_safety import open_hdf5
        from retinacodec.nwb_series import read_series

        self.write(change)
        with open_hdf5(self.path) as file:
            return read_series(file, str(self.path), *names, **settings)

    def found(self):
        from retinacodec.hdf5_safety import open_hdf5
        from retinacodec.nwb_series import find_responses

        self.write()
        with open_hdf5(self.path) as file:
            return find_responses(file)


@pytest.fixture
def lab(tmp_path) -> NwbLab:
    """Return a laboratory that writes sampled responses with pynwb and has them read."""
    pytest.importorskip("pynwb")
    return NwbLab(tmp_path / "lab.nwb")
