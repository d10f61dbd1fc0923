"""The parts of a receptive field that pass through each channel of a layer, by sign."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.circuit import Circuit, evaluating
from retinacodec.errors import InputError
from retinacodec.field_paths import FieldPaths, Run, cell_positions, path_rule
from retinacodec.field_rows import batch_starts
from retinacodec.gradients import latent_fields
from retinacodec.latents import LatentFields
from retinacodec.path_mean_fields import integrated_fields
from retinacodec.progress import track
from retinacodec.rules import Rule, Secant
from retinacodec.schema import SIGNS
from retinacodec.source_fields import SourceFields
from retinacodec.targets import Target, describe_target

__all__ = ["field_sources"]

_log = logging.getLogger(__name__)

_BATCHED_BYTES = 256e6  # most memory of parts that are pulled back together


def field_sources(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    layer: str | None = None,
    cells: Sequence[int | str] | int | str | None = None,
    frames: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | xr.DataArray | None = None,
    split_signs: bool = True,
    target: Target | None = None,
    rule: Rule | None = None,
    integrated: bool = False,
    batch: int = 8,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> SourceFields:
    """Divide the fields of cells into the parts that pass through each channel of a layer.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    layer : str, optional
        A layer of the model, as `Circuit` names them; the circuit's first if left out.
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames whose responses are asked about; all that have a response if left out.
    groups : array_like (group, channel), optional
        Weight of each channel in each group; each channel by itself if left out. The names of
        a DataArray's first dimension become those of the sources.
    split_signs : bool, default True
        Divide each channel by the sign of its interneurons' contributions.
    target : Target, optional
        The contributions that set the signs are those to this target, alike for all cells, such
        as ``Surprisal()``; those to each cell's own rate if left out.
    rule : Rule, optional
        The rule of these contributions and, where `integrated`, of the field; ``Secant(10)`` if
        left out.
    integrated : bool, default False
        Divide `integrated_fields`, not instantaneous ones.
    batch : int, default 8
        Frames computed at a time; the result does not depend on it.
    budget_gb : float, default 2.0
        Largest result, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    SourceFields
        Parts (time, cell, source[, sign]), with the contributions that set the signs.

    Raises
    ------
    InputError
        If the movie, a layer, cell or frame does not fit, groups are not finite or misshapen,
        the target is several, the rule has no path, or the result is larger than the budget.

    Notes
    -----
    ``F_n(t) = dr_n/dx = sum_u (dr_n/dh_u) (dh_u/dx)`` over the interneurons u of a full cut. The
    part of channel c and sign s is the sum over the positions of c whose contribution has sign
    s; a contribution of 0 counts as negative, as in input maps. Contributions are along the path
    from the baseline, the field is at its end, or, where `integrated`, the mean over the path:
    then a part's product with ``x - x0`` is the contribution of its interneurons, exactly so with
    the secant rule. A part is one masked product with the Jacobian from the layer to the first
    convolution. Where a layer is no full cut, or groups are no partition, ``rest`` is not zero.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Definition 1 (interneurons' receptive times projective
       fields).

    Examples
    --------
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> movie = make_stimulus(np.ones((3, 3, 3)), frame_rate=60, pixel_um=50, name="white")
    >>> parts = field_sources(Circuit(ToyCircuit(), ["relu1"]), movie, progress=False)
    >>> dict(parts.latent.sizes)["source"], float(abs(parts.rest.latent).max())
    (2, 0.0)
    """
    rule = Secant() if rule is None else rule
    name = next(iter(circuit.taps), "") if layer is None else layer
    if not name:
        raise InputError("field_sources: no layer; pass layer=, or name layers in the circuit")
    where: dict[str, Any] = {"cells": cells, "frames": frames, "budget_gb": budget_gb}
    where |= {"device": device, "progress": False}
    if integrated:
        total = integrated_fields(circuit, movie, rule=path_rule(rule), batch=batch, **where)
    else:
        total = latent_fields(circuit, movie, **where)
    asked = (circuit, movie, rule, target, device, integrated)
    job = _Division.prepare(*asked, name, total, split_signs)
    if job.paths.upstream(name, total.rate["frame"].values):
        raise InputError(
            f"field_sources: {name!r} lies before the first convolution {total.filters.name!r}; "
            "name that or a later layer"
        )
    weights, names = job.weights(groups)
    job.check_size(len(weights), budget_gb)
    return job.collect(weights, names, batch, progress)


@dataclass(frozen=True)
class _Division:
    """What is divided, at which layer, and by which signs."""

    paths: FieldPaths
    signs: FieldPaths | None
    shared: bool
    layer: str
    total: LatentFields
    cells: list[int]
    integrated: bool

    @classmethod
    def prepare(
        cls,
        circuit: Circuit,
        movie: xr.Dataset,
        rule: Rule,
        target: Target | None,
        device: str | torch.device | None,
        integrated: bool,
        layer: str,
        total: LatentFields,
        split: bool,
    ) -> _Division:
        """Make ready the passes for the field and for the signs."""
        paths, signs = (
            FieldPaths.prepare(
                circuit, movie, rule, root=root, layers=[layer], target=aim, device=device
            )
            for root, aim in ((total.filters.name, None), (layer, target))
        )
        if integrated and target is None:  # one pass serves both
            signs = paths
        cells = cell_positions(circuit, total)
        shared = target is not None
        return cls(paths, signs if split else None, shared, layer, total, cells, integrated)

    def weights(self, groups: npt.ArrayLike | None) -> tuple[Tensor, npt.NDArray[Any]]:
        """Return weights (source, channel) and the names of the sources."""
        with evaluating(self.paths.circuit.model, self.paths.generic.device):
            run = self.paths.run(self.total.rate["frame"].values[:1], local=True)
        channels = self._channels(run.one.captured[self.layer][0]).shape[1]
        if groups is None:
            return torch.eye(channels), np.arange(channels)
        values = torch.as_tensor(np.array(groups, dtype=np.float64))
        if values.ndim != 2 or values.shape[1] != channels or not bool(values.isfinite().all()):
            raise InputError(
                f"field_sources: expected finite weights (group, {channels}), got "
                f"{tuple(values.shape)}"
            )
        names = np.arange(len(values))
        if isinstance(groups, xr.DataArray) and groups.dims[0] in groups.coords:
            names = groups[groups.dims[0]].values
        return values, names

    def check_size(self, sources: int, budget_gb: float) -> None:
        """Raise `InputError` if the parts would be larger than the budget."""
        count = sources * (2 if self.signs is not None else 1)
        need = count * self.total.latent.nbytes / 1e9
        if need > budget_gb:
            raise InputError(
                f"field_sources: {count} parts of {self.total.rate.size} fields need {need:.2g} "
                f"GB, the budget is {budget_gb:g} GB; pass fewer frames=, cells= or groups="
            )

    def collect(
        self, weights: Tensor, names: npt.NDArray[Any], batch: int, progress: bool
    ) -> SourceFields:
        """Compute everything into one record."""
        like, frames = self.total.latent, self.total.rate["frame"].values
        split = (len(SIGNS),) if self.signs is not None else ()
        shape = (*like.shape[:2], len(weights), *split, *like.shape[2:])
        values, given = np.empty(shape, like.dtype), []
        with evaluating(self.paths.circuit.model, self.paths.generic.device):
            starts = batch_starts(len(frames), batch)
            for at in track(starts, "sources of fields", enabled=progress):
                parts, contributions = self._compute(frames[at : at + batch], weights)
                values[at : at + batch] = parts.cpu().numpy().reshape(len(parts), *shape[1:])
                given.append(contributions)
        return self._record(values, names, given, weights)

    def _compute(self, frames: npt.NDArray[Any], weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return parts (frame, cell, source, sign, ...) and contributions (frame, cell, ...)."""
        run = self.paths.run(frames, local=not self.integrated)
        masks, contributions = self._signs(frames, run)
        calls = run.one.captured[self.layer]
        found = []
        for place, cell in enumerate(self.cells):
            slopes = torch.autograd.grad(
                run.one.score[..., cell], calls, run.one.weights, retain_graph=True
            )
            mask = masks[0 if self.shared else place] if masks else None
            found.append(self._parts(run, slopes, mask, weights))
        return torch.stack(found, dim=1), contributions

    def _signs(
        self, frames: npt.NDArray[Any], run: Run
    ) -> tuple[list[list[Tensor]], Tensor | None]:
        """Return for each cell, or once, which interneurons contribute more than 0, and sums."""
        if self.signs is None:
            return [], None
        run = run if self.signs is self.paths else self.signs.run(frames)
        calls, score, rule = run.one.captured[self.layer], run.one.score, self.signs.rule
        if self.shared and score.shape[-1] != 1:
            raise InputError(f"field_sources: expected one target, got {score.shape[-1]}")
        masks, sums = [], []
        for cell in [0] if self.shared else self.cells:
            slopes = torch.autograd.grad(
                score[..., cell], calls, run.one.weights, retain_graph=True
            )
            own = [
                rule.combine(run.by_path(call.detach()), run.by_path(slope))
                for call, slope in zip(calls, slopes, strict=True)
            ]
            masks.append([one > 0 for one in own])
            sums.append(torch.stack([self._sum(own, False), self._sum(own, True)], dim=-1))
        whole = torch.stack(sums, dim=1).cpu()
        return masks, whole[:, 0] if self.shared else whole

    def _sum(self, own: Sequence[Tensor], positive: bool) -> Tensor:
        """Return contributions (frame, channel) of one sign."""
        total = torch.zeros((), dtype=torch.float64)
        for one in own:
            kept = self._channels(torch.where((one > 0) == positive, one, 0)).flatten(2)
            total = total + kept.sum(2, dtype=torch.float64).cpu()
        return total

    def _parts(
        self, run: Run, slopes: Sequence[Tensor], mask: list[Tensor] | None, weights: Tensor
    ) -> Tensor:
        """Return the parts (frame, part, ...) of every source, negative before positive."""
        points = run.points
        if self.layer == self.paths.root:  # a mask and the mean over the path commute
            slopes, points = [self.paths.average(run.by_path(slopes[0]))], 1
        signs: Sequence[bool | None] = (None,) if mask is None else (False, True)
        wanted = [(weight, sign) for weight in weights for sign in signs]
        each = run.root.nbytes + 3 * sum(slope.nbytes for slope in slopes)
        some = max(int(_BATCHED_BYTES / each), 1)
        found = []
        for at in range(0, len(wanted), some):
            chosen = [self._chosen(points, slopes, mask, *one) for one in wanted[at : at + some]]
            columns = [torch.stack(column) for column in zip(*chosen, strict=True)]
            pulled = self._pull(run, columns).transpose(0, 1)
            found.append(self.paths.average(pulled.unflatten(0, (-1, points))))
        return torch.cat(found, dim=1)

    def _chosen(
        self,
        points: int,
        slopes: Sequence[Tensor],
        mask: list[Tensor] | None,
        weight: Tensor,
        positive: bool | None,
    ) -> list[Tensor]:
        """Return the slopes of one source and sign, one for each call of the layer."""
        scaled = [self._scaled(slope, weight) for slope in slopes]
        if mask is None:
            return scaled
        has = [(one if positive else ~one).repeat_interleave(points, dim=0) for one in mask]
        return [one * two for one, two in zip(scaled, has, strict=True)]

    def _pull(self, run: Run, chosen: Sequence[Tensor]) -> Tensor:
        """Return products (part, row, ...) of slopes at the layer with its Jacobian at the root."""
        if self.layer == self.paths.root:
            return chosen[0]
        calls = run.one.captured[self.layer]
        if not (self.integrated and self.paths.rule.chords):  # chords cannot be batched
            try:
                return torch.autograd.grad(
                    calls, run.root, chosen, retain_graph=True, is_grads_batched=True
                )[0]
            except RuntimeError as reason:
                _log.debug("parts are computed one by one: %s", reason)
        rows = [
            torch.autograd.grad(calls, run.root, one, retain_graph=True)[0]
            for one in zip(*chosen, strict=True)
        ]
        return torch.stack(rows)

    def _scaled(self, slope: Tensor, weight: Tensor) -> Tensor:
        """Return slopes times the weight of their channel."""
        mask = torch.zeros_like(slope, memory_format=torch.contiguous_format)
        view = self._channels(mask)
        view.copy_(weight.view(1, -1, *[1] * (view.ndim - 2)).expand_as(view))
        return slope * mask

    def _channels(self, values: Tensor) -> Tensor:
        """Return a view (batch, channel, ...) of values at the layer."""
        tap = self.paths.circuit.taps[self.layer]
        return tap.by_channel(self.paths.circuit.model.get_submodule(tap.name), values)

    def _record(
        self,
        values: npt.NDArray[Any],
        names: npt.NDArray[Any],
        given: Sequence[Tensor | None],
        weights: Tensor,
    ) -> SourceFields:
        """Put names to the numbers."""
        like, rate = self.total.latent, self.total.rate
        split = self.signs is not None
        dims = ("source", "sign") if split else ("source",)
        named: dict[str, Any] = {"source": names} | ({"sign": list(SIGNS)} if split else {})
        attrs = {**like.attrs, "sources": self.layer, "rule": repr(self.paths.rule)}
        latent = xr.DataArray(
            values,
            dims=("time", "cell", *dims, *like.dims[2:]),
            coords={**like.coords, **named},
            name="latent",
            attrs=attrs,
        )
        contribution = None
        if self.signs is not None:
            whole = torch.cat([one for one in given if one is not None])
            whole = torch.einsum("...cs,gc->...gs", whole, weights.double())
            outer = ("time",) if self.shared else ("time", "cell")
            target = self.signs.generic.target
            coords = rate.coords if not self.shared else rate.isel(cell=0, drop=True).coords
            contribution = xr.DataArray(
                whole.numpy(),
                dims=(*outer, *dims),
                coords={**coords, **named},
                name="contribution",
                attrs={
                    "units": getattr(target, "units", ""),
                    "target": describe_target(target) if self.shared else "each cell's rate",
                },
            )
        bypass = self.paths.bypasses.get(self.layer)
        return SourceFields(self.total, latent, contribution, bypass)
