"""Assembly: arrays of contributions put together as a tree with one node a layer."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from retinacodec.circuit import Circuit
from retinacodec.schema import SIGNS
from retinacodec.tally import Array

__all__ = ["Assembler", "Summary"]

_log = logging.getLogger(__name__)
_SPACE: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("position",),
    2: ("y", "x"),
    3: ("depth", "y", "x"),
}
_ALARM = 0.1


@dataclass(frozen=True)
class Assembler:
    """Names the arrays of one computation.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    coordinate : xarray.DataArray (time,) or (image,)
        Times or names of all samples.
    names : sequence of str
        Names of the outputs.
    labels : sequence of str or None
        Names of the targets, None for one.
    units : str
        Units of the target.
    bypasses : dict of str to (str or None)
        For each layer that is not a full cut the reason.
    """

    circuit: Circuit
    coordinate: xr.DataArray
    names: Sequence[str]
    labels: Sequence[str] | None
    units: str
    bypasses: Mapping[str, str | None]

    @property
    def nodes(self) -> dict[str, str]:
        """Name of each layer's node in the tree: the layer with underscores, numbered if taken."""
        taken = {"value", "baseline_value", "steps", "target", "rate", "output"}
        taken |= {self.circuit.sample, self.circuit.output, *map(str, self.coordinate.coords)}
        named: dict[str, str] = {}
        for layer in self.circuit.taps:
            plain = re.sub(r"[.:/]", "_", layer)
            free = itertools.chain([plain], (f"{plain}_{n}" for n in itertools.count(2)))
            named[layer] = next(name for name in free if name not in taken)
            taken.add(named[layer])
        return named

    def tree(self, found: Mapping[str, Array], start: int) -> xr.DataTree:
        """Return the tree of a stretch of samples.

        Parameters
        ----------
        found : dict of str to ndarray
            As from `Tally.found`.
        start : int
            Number of the first sample.
        """
        sample = self.circuit.sample
        stop = start + len(found["value"])
        output = "rate" if sample == "time" else "output"
        said = {"units": "Hz", "long_name": "model firing rate"}
        said = said if sample == "time" else {"long_name": "model output"}
        root = xr.Dataset(
            {
                output: ((sample, self.circuit.output), found["output"], said),
                "value": self._variable(found["value"], (), "target"),
                "baseline_value": self._variable(
                    found["baseline_value"], (), "target at the baseline"
                ),
            },
            coords={
                sample: self.coordinate[start:stop],
                self.circuit.output: (self.circuit.output, np.asarray(self.names)),
            },
        )
        if "steps" in found:
            root["steps"] = ((sample,), found["steps"], {"long_name": "intervals of the path"})
        if self.labels is not None:
            root = root.assign_coords(target=("target", np.asarray(self.labels)))
        nodes = {"/": root}
        for layer, name in self.nodes.items():
            nodes[name] = self._node(layer, found)
        return xr.DataTree.from_dict(nodes)

    def _variable(
        self, values: Array, dims: Sequence[str], name: str, units: str | None = None
    ) -> tuple[Any, ...]:
        units = self.units if units is None else units
        said = {"long_name": name} | ({"units": units} if units else {})
        if self.labels is None:
            return ((self.circuit.sample, *dims), values[:, 0], said)
        return ((self.circuit.sample, "target", *dims), values, said)

    def _node(self, layer: str, found: Mapping[str, Array]) -> xr.Dataset:
        """Return the dataset of one layer."""
        values = found[f"{layer}/contribution"]
        tap = self.circuit.taps[layer]
        space = _SPACE[values.ndim - 4]
        if tap.heads is not None and len(space) == 2:
            space = ("position", "value")
        said = "sum of contributions less change of the target"
        data: dict[str, Any] = {
            "contribution": self._variable(
                values, ("sign", "channel", *space), "contribution to the target"
            ),
            "residual": self._variable(found[f"{layer}/residual"], (), said),
        }
        if f"{layer}/gradient" in found:
            gradient = found[f"{layer}/gradient"]
            data["gradient"] = self._variable(gradient, ("sign", "channel"), "gradient", "")
        if f"{layer}/activation" in found:
            activation = found[f"{layer}/activation"]
            data["activation"] = ((self.circuit.sample, "sign", "channel"), activation)
        coords = {"sign": ("sign", np.asarray(SIGNS)), "channel": np.arange(values.shape[3])}
        reason = self.bypasses.get(layer)
        attrs = {"kind": "contributions", "layer": layer, "full_cut": reason is None}
        attrs |= {} if reason is None else {"bypass": reason}
        return xr.Dataset(data, coords=coords, attrs=attrs)


class Summary:
    """What the contributions leave unexplained, gathered stretch by stretch."""

    def __init__(self, bypasses: Mapping[str, str | None], complete: bool) -> None:
        self.bypasses, self.complete = bypasses, complete
        self.changes: list[Array] = []
        self.residuals: dict[str, list[Array]] = {}

    def add(self, found: Mapping[str, Array]) -> None:
        """Note a stretch of samples."""
        self.changes.append(np.abs(found["value"] - found["baseline_value"]))
        for key, values in found.items():
            layer, _, what = key.rpartition("/")
            if what == "residual":
                self.residuals.setdefault(layer, []).append(np.abs(values))

    def shares(self) -> dict[str, float]:
        """Return each layer's median residual over the median change, where it is finite."""
        changes = np.concatenate(self.changes)
        known = np.isfinite(changes)
        if not known.any():
            return dict.fromkeys(self.residuals, float("nan"))
        scale = max(float(np.median(changes[known])), 1e-30)
        return {
            layer: float(np.median(np.concatenate(values)[known])) / scale
            for layer, values in self.residuals.items()
        }

    def say(self, level: int) -> None:
        """Log the shares, and warn where they say that something is wrong."""
        shares = self.shares()
        finite = np.concatenate([np.isfinite(one).all(axis=1) for one in self.changes])
        if not finite.all():
            _log.warning(
                "the target is NaN or infinite for %d of %d samples, or at their baseline; their "
                "contributions mean nothing; check target and model there",
                np.sum(~finite),
                len(finite),
            )
        if not self.complete:
            _log.log(level, "contributions of this rule do not sum to the change of the target")
            return
        whole = {name: share for name, share in shares.items() if not self.bypasses.get(name)}
        around = {name: reason for name, reason in self.bypasses.items() if reason}
        if around:
            _log.warning(
                "contributions of %s need not sum to the change of the target: %s%s",
                ", ".join(around),
                next(iter(around.values())),
                "; for the others see their attribute 'bypass'" if len(around) > 1 else "",
            )
        said = ", ".join(f"{name} {share:.0e}" for name, share in whole.items())
        if whole:
            _log.log(level, "unexplained share of the target (median over samples): %s", said)
        lost = [name for name, share in whole.items() if share > _ALARM]
        if lost:
            _log.warning(
                "contributions at %s leave over a tenth of the target unexplained; take Secant, "
                "which needs few steps, or more steps, or a tolerance",
                ", ".join(lost),
            )
