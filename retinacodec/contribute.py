"""The verb: what every interneuron contributed to the target at every moment."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from retinacodec.capture import Taps, output_bytes, tapped
from retinacodec.circuit import Circuit, evaluating, movie_tensor, predict
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.progress import track
from retinacodec.reduce import channel_last, split_signs, sum_space
from retinacodec.rules import Rule, Secant
from retinacodec.schema import SIGNS, check_contributions
from retinacodec.secant import SecantMode
from retinacodec.targets import Target, bind_target, target_labels

__all__ = ["contributions"]

_log = logging.getLogger(__name__)


def contributions(
    circuit: Circuit,
    movie: xr.Dataset,
    target: Target,
    *,
    rule: Rule | None = None,
    maps: bool = False,
    activations: bool = False,
    gradients: bool = False,
    batch: int | None = None,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.DataTree:
    """Return what every interneuron contributed to the target at every moment.

    Parameters
    ----------
    circuit : Circuit
        The model and the layers whose interneurons are asked about.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    target : Target
        The scalar of the outputs that is explained, or several of them.
    rule : Rule, optional
        How gradients along the path from zero contrast to the movie are summed;
        ``Secant(10)`` if left out.
    maps : bool, default False
        Keep the contribution of every position; else only the sum over positions.
    activations : bool, default False
        Keep the activation at the movie too, split and summed like the contributions.
    gradients : bool, default False
        Keep the gradient at the movie too, split and summed like the contributions.
    batch : int, optional
        Frames computed at a time; chosen from the budget if left out. The result does not
        depend on it.
    budget_gb : float, default 2.0
        Working memory, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far the computation has come.

    Returns
    -------
    xarray.DataTree
        A node for each layer with ``contribution`` (time[, target], sign, channel[, y, x]) in
        units of the target, split by sign before the sum over positions, and ``residual``
        (time[, target]), the sum of all contributions less the change of the target; the root
        holds ``rate`` (time, cell) in Hz, ``value`` and ``baseline_value`` of the target.

    Raises
    ------
    InputError
        If the movie does not fit the circuit, an operation of the model has no secant rule, or
        a result would not fit the budget.

    Notes
    -----
    For a layer with activation a and gradient g of the target along ``x0 + t (x - x0)``,
    ``C = sum_k g_k (a_k - a_{k-1})`` with g by the rule. If every path from the stimulus to
    the outputs crosses the layer, the contributions sum to ``S(x) - S(x0)``.

    References
    ----------
    Melander et al., "Causal interpretation of neural network computations with contribution
    decomposition", ICLR 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> toy = ToyCircuit()
    >>> frames = np.random.default_rng(0).normal(size=(8, *toy.size))
    >>> movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    >>> parts = contributions(Circuit(toy, ["relu1"]), movie, Cell(0), progress=False)
    >>> bool(abs(parts["relu1"]["residual"]).max() < 1e-5)
    True
    """
    rule = Secant() if rule is None else rule
    contrast = movie_tensor(circuit, movie)
    where = resolve_device(device, circuit.model)
    rate = predict(circuit, movie, device=where)
    names = circuit.output_names(rate.sizes["cell"])
    target = bind_target(target, names, lambda: torch.from_numpy(rate.values))
    labels = target_labels(target, names)
    windows = circuit.windows(contrast)
    job = _Job(circuit, target, rule, maps, activations, gradients, where)
    with evaluating(circuit.model, where):
        size = batch or job.batch_for(windows, budget_gb)
        job.check_size(windows, len(labels or "1"), budget_gb)
        starts = range(0, len(windows), size)
        parts = [
            job.run(windows[start : start + size].contiguous())
            for start in track(starts, "contributions", enabled=progress)
        ]
    tree = _assemble(circuit, rate, labels, parts)
    tree.attrs.update(_provenance(circuit, movie, target, rule, where))
    _summarise(tree)
    return check_contributions(tree)


@dataclass(frozen=True)
class _Job:
    """Everything that stays the same from batch to batch."""

    circuit: Circuit
    target: Target
    rule: Rule
    maps: bool
    activations: bool
    gradients: bool
    device: torch.device

    def run(self, samples: Tensor) -> dict[str, np.ndarray[Any, Any]]:
        """Return contributions, residuals and target values of a batch of windows."""
        fractions = self.rule.points()
        points = len(fractions)
        path = _path(samples.to(self.device), fractions)
        with torch.enable_grad(), tapped(self.circuit.model, self.circuit.layers) as taps:
            mode = SecantMode(points, [path]) if self.rule.chords else nullcontext()
            with mode:
                outputs = self.circuit.model(path)
            target = self._at_end(outputs, points)
            with mode:
                score = target(outputs)
            score = score.unflatten(0, (-1, points))
            score = score if score.ndim == 3 else score.unsqueeze(-1)
            weights = torch.ones_like(score[..., 0])
            if self.rule.chords:
                weights[:, 0] = 0
            found = self._collect(taps, score, weights, points)
        ends = score.detach()[:, [0, -1]].to(torch.float64)
        found["baseline_value"], found["value"] = (_numpy(ends[:, i]) for i in (0, 1))
        change = found["value"] - found["baseline_value"]
        for layer in self.circuit.layers:
            found[f"{layer}/residual"] = found[f"{layer}/total"] - change
        return found

    def _at_end(self, outputs: Tensor, points: int) -> Target:
        at = getattr(self.target, "at", None)
        if at is None:
            return self.target
        end = outputs.detach()[points - 1 :: points]
        return at(end.repeat_interleave(points, dim=0))

    def _collect(
        self, taps: Taps, score: Tensor, weights: Tensor, points: int
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Differentiate each target and reduce each layer, one target at a time."""
        tensors = [tensor for layer in self.circuit.layers for tensor in taps[layer]]
        rows: dict[str, list[np.ndarray[Any, Any]]] = {}
        for number in range(score.shape[-1]):
            slopes = iter(
                torch.autograd.grad(
                    score[..., number],
                    tensors,
                    weights,
                    retain_graph=number < score.shape[-1] - 1,
                    allow_unused=True,
                )
            )
            for layer in self.circuit.layers:
                calls = [(tensor.detach(), next(slopes)) for tensor in taps[layer]]
                for key, values in self._reduce(layer, calls, points).items():
                    rows.setdefault(f"{layer}/{key}", []).append(values)
        stacked = {key: np.stack(values, axis=1) for key, values in rows.items()}
        for layer in self.circuit.layers:
            if f"{layer}/activation" in stacked:
                stacked[f"{layer}/activation"] = stacked[f"{layer}/activation"][:, 0]
        return stacked

    def _reduce(
        self, layer: str, calls: Sequence[tuple[Tensor, Tensor | None]], points: int
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return the split and summed contribution of a layer, over all its calls."""
        if not calls:
            raise InputError(f"layer {layer!r} was not called while the model ran; tap another")
        found: dict[str, np.ndarray[Any, Any]] = {}
        for values, slope in calls:
            activation = values.unflatten(0, (-1, points))
            gradient = torch.zeros_like(values) if slope is None else slope
            gradient = gradient.unflatten(0, (-1, points))
            part = self.rule.combine(activation, gradient)
            last = channel_last(part)
            pieces = {"contribution": self._sums(part, last, self.maps)}
            pieces["total"] = _numpy(part.to(torch.float64).flatten(1).sum(dim=1))
            if self.activations:
                pieces["activation"] = self._sums(activation[:, -1], last, False)
            if self.gradients:
                pieces["gradient"] = self._sums(gradient[:, -1], last, False)
            for key, piece in pieces.items():
                found[key] = found[key] + piece if key in found else piece
        return found

    def _sums(self, part: Tensor, last: bool, maps: bool) -> np.ndarray[Any, Any]:
        """Return (batch, sign, channel[, ...]) of signed values (batch, ...)."""
        signs = split_signs(part).transpose(0, 1)
        if maps:
            return _numpy(signs.movedim(-1, 2) if last else signs).astype(np.float32)
        return _numpy(sum_space(signs, last=last, batch_dims=2))

    def batch_for(self, windows: Tensor, budget_gb: float) -> int:
        """Return how many windows fit the budget along a whole path."""
        points = len(self.rule.points())
        sample = windows[:1].contiguous().to(self.device)
        layers = output_bytes(self.circuit.model, sample)
        need = points * (6 * layers + 3 * sample.numel() * sample.element_size())
        return int(max(1, min(256, budget_gb * 1e9 // max(need, 1), len(windows))))

    def check_size(self, windows: Tensor, targets: int, budget_gb: float) -> None:
        """Raise `InputError` if full maps would not fit the budget."""
        if not self.maps:
            return
        with torch.no_grad(), tapped(self.circuit.model, self.circuit.layers) as taps:
            self.circuit.model(windows[:1].contiguous().to(self.device))
        values = sum(tensor.numel() for calls in taps.values() for tensor in calls)
        size = 2 * 4 * values * len(windows) * targets / 1e9
        if size > budget_gb:
            raise InputError(
                f"contributions: full maps would take {size:.1f} GB of {budget_gb:g} GB; take a "
                "shorter movie, fewer targets, or maps=False"
            )


def _path(samples: Tensor, fractions: Tensor) -> Tensor:
    """Return (batch * point, ...): each sample's path from zero contrast, points together."""
    steps = fractions.to(samples.device, samples.dtype)
    steps = steps.view(1, -1, *([1] * (samples.ndim - 1)))
    return (samples.unsqueeze(1) * steps).flatten(0, 1)


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    return values.detach().cpu().numpy()


def _assemble(
    circuit: Circuit,
    rate: xr.DataArray,
    labels: Sequence[str] | None,
    parts: Sequence[dict[str, np.ndarray[Any, Any]]],
) -> xr.DataTree:
    """Put the batches together into a tree with one node a layer."""
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    squeeze = labels is None
    axes = (circuit.sample,) if squeeze else (circuit.sample, "target")

    def variable(key: str, dims: Sequence[str], **attrs: str) -> tuple[Any, ...]:
        values = whole[key]
        return ((*axes, *dims), values[:, 0] if squeeze else values, attrs)

    root = xr.Dataset(
        {
            "rate": rate,
            "value": variable("value", (), long_name="target"),
            "baseline_value": variable("baseline_value", (), long_name="target at the baseline"),
        }
    )
    if not squeeze:
        root = root.assign_coords(target=("target", np.asarray(labels)))
    nodes: dict[str, xr.Dataset] = {"/": root}
    for layer in circuit.layers:
        channels = whole[f"{layer}/contribution"].shape[3]
        space = [("position",), ("y", "x")][whole[f"{layer}/contribution"].ndim == 6]
        extra = whole[f"{layer}/contribution"].ndim - 4
        dims = ("sign", "channel", *(space if extra else ()))
        data: dict[str, Any] = {
            "contribution": variable(
                f"{layer}/contribution", dims, long_name="contribution to the target"
            ),
            "residual": variable(
                f"{layer}/residual", (), long_name="sum of contributions less change of target"
            ),
        }
        if f"{layer}/gradient" in whole:
            data["gradient"] = variable(f"{layer}/gradient", ("sign", "channel"))
        if f"{layer}/activation" in whole:
            data["activation"] = (
                (circuit.sample, "sign", "channel"),
                whole[f"{layer}/activation"],
            )
        coords = {"sign": ("sign", np.asarray(SIGNS)), "channel": np.arange(channels)}
        node = xr.Dataset(data, coords=coords, attrs={"kind": "contributions", "layer": layer})
        nodes[layer.replace(".", "_")] = node
    return xr.DataTree.from_dict(nodes)


def _provenance(
    circuit: Circuit, movie: xr.Dataset, target: Target, rule: Rule, device: torch.device
) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "kind": "contributions",
        "target": repr(target),
        "rule": repr(rule),
        "baseline": "zero contrast",
        "layers": list(circuit.layers),
        "history": circuit.history,
        "latency": circuit.latency,
        "model": type(circuit.model).__name__,
        "movie": movie.attrs.get("name", ""),
        "frame_rate": movie.attrs["frame_rate"],
        "device": str(device),
    }
    condition = getattr(target, "condition_number", None)
    if condition is not None:
        attrs["condition_number"] = condition()
    return attrs


def _summarise(tree: xr.DataTree) -> None:
    """Log the share of the target's change that the contributions leave unexplained."""
    values = tree.to_dataset()
    change = np.abs(values["value"].values - values["baseline_value"].values)
    for name, node in tree.children.items():
        scale = max(float(np.median(change)), 1e-30)
        residual = node.to_dataset()["residual"].values
        share = float(np.median(np.abs(residual))) / scale
        node.attrs["relative_residual"] = share
        level = logging.WARNING if share > 0.1 else logging.INFO
        _log.log(level, "%s: median residual %.1e of the change of the target", name, share)
