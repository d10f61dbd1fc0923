"""The verb: what every interneuron contributed to the target at every moment."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.circuit import Circuit, evaluating, movie_tensor, predict, rate_array
from retinacodec.devices import resolve_device
from retinacodec.generic_path import GenericPath
from retinacodec.movie_path import MoviePath
from retinacodec.progress import track
from retinacodec.rules import Rule, Secant
from retinacodec.schema import SIGNS, check_contributions
from retinacodec.targets import Target, bind_target, target_labels

__all__ = ["contributions"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]


def contributions(
    circuit: Circuit,
    movie: xr.Dataset,
    target: Target,
    *,
    rule: Rule | None = None,
    maps: bool = False,
    activations: bool = False,
    gradients: bool = False,
    fast: bool = True,
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
    fast : bool, default True
        Take the fast path where the model is a stack of convolutions: the same numbers to
        rounding, hundreds of times sooner. The attribute ``path`` says which one was taken.
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
    >>> from retinacodec.targets import Cell
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
    windows = circuit.windows(contrast)
    options = (maps, activations, gradients, where)
    size = (int(contrast.shape[1]), int(contrast.shape[2]))
    short = MoviePath.match(circuit, target, rule, size, *options) if fast else None
    first = predict(circuit, movie.isel(time=slice(circuit.first_frame + 1)), device=where)
    names = circuit.output_names(first.sizes["cell"])
    target = bind_target(target, names, lambda: _rates(circuit, movie, contrast, short, where))
    labels = target_labels(target, names)
    job = GenericPath(circuit, target, rule, *options)
    with evaluating(circuit.model, where):
        job.check_size(windows, len(labels or "1"), budget_gb)
        if short is None:
            step = batch or job.batch_for(windows, budget_gb)
            run = job.run_windows
        else:
            step, run = short.block, partial(short.bound(target).run, batch=batch)
        starts = range(0, len(windows), step)
        parts = [
            run(contrast, start, min(start + step, len(windows)))
            for start in track(starts, "contributions", enabled=progress)
        ]
    tree = _assemble(circuit, movie, labels, getattr(target, "units", ""), parts)
    tree.attrs.update(_provenance(circuit, movie, target, rule, where))
    tree.attrs["path"] = "generic" if short is None else "movie"
    _summarise(tree, level=logging.INFO if progress else logging.DEBUG)
    return check_contributions(tree)


def _rates(
    circuit: Circuit,
    movie: xr.Dataset,
    contrast: torch.Tensor,
    short: MoviePath | None,
    device: torch.device,
) -> torch.Tensor:
    """Return the rates (time, cell) of the whole movie."""
    if short is None:
        return torch.from_numpy(predict(circuit, movie, device=device).values)
    with evaluating(circuit.model, device):
        return short.rates(contrast)


def _assemble(
    circuit: Circuit,
    movie: xr.Dataset,
    labels: Sequence[str] | None,
    units: str,
    parts: Sequence[dict[str, Array]],
) -> xr.DataTree:
    """Put the batches together into a tree with one node a layer."""
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    single = labels is None
    axes = (circuit.sample,) if single else (circuit.sample, "target")

    def variable(key: str, *dims: str, name: str = "") -> tuple[Any, ...]:
        values = whole[key][:, 0] if single else whole[key]
        said = {"long_name": name or key} | ({"units": units} if units and name else {})
        return ((*axes, *dims), values, said)

    root = xr.Dataset(
        {
            "rate": rate_array(circuit, movie, whole["rate"]),
            "value": variable("value", name="target"),
            "baseline_value": variable("baseline_value", name="target at the baseline"),
        }
    )
    if not single:
        root = root.assign_coords(target=("target", np.asarray(labels)))
    nodes: dict[str, xr.Dataset] = {"/": root}
    for layer in circuit.layers:
        nodes[layer.replace(".", "_")] = _node(layer, whole, variable, circuit.sample)
    return xr.DataTree.from_dict(nodes)


def _node(layer: str, whole: dict[str, Array], variable: Any, sample: str) -> xr.Dataset:
    """Return the dataset of one layer."""
    shape = whole[f"{layer}/contribution"].shape
    space: dict[int, tuple[str, ...]] = {4: (), 5: ("position",), 6: ("y", "x")}
    dims = ("sign", "channel", *space[len(shape)])
    data: dict[str, Any] = {
        "contribution": variable(f"{layer}/contribution", *dims, name="contribution to the target"),
        "residual": variable(
            f"{layer}/residual", name="sum of contributions less change of the target"
        ),
    }
    if f"{layer}/gradient" in whole:
        data["gradient"] = variable(f"{layer}/gradient", "sign", "channel")
    if f"{layer}/activation" in whole:
        data["activation"] = ((sample, "sign", "channel"), whole[f"{layer}/activation"])
    coords = {"sign": ("sign", np.asarray(SIGNS)), "channel": np.arange(shape[3])}
    return xr.Dataset(data, coords=coords, attrs={"kind": "contributions", "layer": layer})


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


def _summarise(tree: xr.DataTree, level: int) -> None:
    """Log the share of the target's change that the contributions leave unexplained."""
    values = tree.to_dataset()
    change = np.abs(values["value"].values - values["baseline_value"].values)
    scale = max(float(np.median(change)), 1e-30)
    for node in tree.children.values():
        residual = node.to_dataset()["residual"].values
        node.attrs["relative_residual"] = float(np.median(np.abs(residual))) / scale
    shares = {name: node.attrs["relative_residual"] for name, node in tree.children.items()}
    said = ", ".join(f"{name} {share:.0e}" for name, share in shares.items())
    _log.log(level, "unexplained share of the target (median over frames): %s", said)
    lost = [name for name, share in shares.items() if share > 0.1]
    if lost:
        _log.warning(
            "contributions at %s leave over a tenth of the target unexplained: the layer is not a "
            "full cut of the circuit, or the rule needs more steps (Secant needs none)",
            ", ".join(lost),
        )
