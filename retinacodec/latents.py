"""Receptive fields kept as gradients at the first convolution's output, projected on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.errors import InputError
from retinacodec.field_rows import mean_weights, positions
from retinacodec.first_layer import Filters
from retinacodec.separable import describe, separate

__all__ = ["LatentFields", "mean_of_blocks", "membership"]

Array = npt.NDArray[Any]

_BATCH = 64  # fields projected at a time: bounds the memory of the work in hand


@dataclass(frozen=True)
class LatentFields:
    """Instantaneous receptive fields of cells at frames, stored small.

    Every field is kept as the gradient of the cell's rate with respect to the output of the
    model's first convolution, a tenth of the size of the field, and turned into the field when
    it is asked for. Means and inner products of fields need no field at all.

    Parameters
    ----------
    latent : xarray.DataArray (time, cell, channel, y, x)
        Gradients at the layer, Hz per unit of its output.
    rate : xarray.DataArray (time, cell)
        Rate of each cell at the same frames, Hz.
    filters : Filters
        The map from a stimulus window to the layer.
    lag, y, x : xarray.DataArray
        Axes of the fields: s before (negative) the frame on screen in the response bin, and um.

    Notes
    -----
    ``dr/dx = W^T dr/dz`` with ``z = W x + b`` the layer's output, exact as long as the rate
    depends on the stimulus through ``z`` alone, which `latent_fields` verifies.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8 (instantaneous receptive fields); Maheswaranathan
       et al., Neuron 111, 2742 (2023).
    """

    latent: xr.DataArray
    rate: xr.DataArray
    filters: Filters
    lag: xr.DataArray
    y: xr.DataArray
    x: xr.DataArray

    def select(self, *, time: Any = None, cell: Any = None) -> LatentFields:
        """Return the fields of some frames and cells.

        Parameters
        ----------
        time, cell : array_like or slice, optional
            Positions or a mask; all if left out.

        Returns
        -------
        LatentFields
            The selection.

        Raises
        ------
        InputError
            If there is no such frame or cell.
        """
        chosen = positions(self.rate, time=time, cell=cell)
        return replace(self, latent=self.latent.isel(chosen), rate=self.rate.isel(chosen))

    def window(self, rows: slice, columns: slice) -> LatentFields:
        """Return the fields inside a window of the frame only.

        Parameters
        ----------
        rows, columns : slice
            Pixels of the frame along y and x; without a step.

        Returns
        -------
        LatentFields
            The same fields, cut; latents from which nothing reaches the window are left out.

        Raises
        ------
        InputError
            If the window is empty or has a step.
        """
        if rows.step not in (None, 1) or columns.step not in (None, 1):
            raise InputError(f"window: expected slices without a step, got {rows} and {columns}")
        down, across = (
            slice(*index.indices(axis.size)) for index, axis in ((rows, self.y), (columns, self.x))
        )
        if down.start >= down.stop or across.start >= across.stop:
            raise InputError(f"window: expected some rows and columns, got {rows} and {columns}")
        filters, near = self.filters.window(down, across, self.latent.shape[-2:])
        latent = self.latent.isel(y=near[0], x=near[1])
        y, x = self.y[down], self.x[across]
        return replace(self, latent=latent, filters=filters, y=y, x=x)

    def project(self, *, budget_gb: float = 2.0) -> xr.DataArray:
        """Return the receptive fields themselves.

        Parameters
        ----------
        budget_gb : float, default 2.0
            Largest result, GB.

        Returns
        -------
        xarray.DataArray (time, cell, lag, y, x)
            Fields, Hz per unit contrast.

        Raises
        ------
        InputError
            If the fields would be larger than the budget.
        """
        each = self.lag.size * self.y.size * self.x.size * self.latent.dtype.itemsize
        need = self.rate.size * each / 1e9
        if need > budget_gb:
            raise InputError(
                f"project: {self.rate.size} fields need {need:.2f} GB, the budget is "
                f"{budget_gb:g} GB; select fewer frames or cells, or use separable() or mean()"
            )
        return self.field(self.latent)

    def mean(self, weights: xr.DataArray | npt.ArrayLike | None = None) -> xr.DataArray:
        """Return the weighted mean field of a set of frames, or of many sets at once.

        Parameters
        ----------
        weights : xarray.DataArray (time[, cell][, ...]) or array_like (time[, cell]), optional
            Weight or mask of each frame, at least 0; every frame counts once if left out. Any
            other dimension, such as ``mode``, stands for separate sets.

        Returns
        -------
        xarray.DataArray ([...,] cell, lag, y, x)
            Mean fields, Hz per unit contrast; NaN where the weights of a set are all 0.

        Notes
        -----
        The mean of projections is the projection of the mean, so that a set costs one projection.
        """
        given = mean_weights(weights, self.latent.sizes["time"])
        total = given.sum("time")
        return self.field(self.weighted_sum(given) / total.where(total > 0))

    def weighted_sum(self, weights: xr.DataArray) -> xr.DataArray:
        """Return sums of latents over time, for means that are gathered from many records.

        Parameters
        ----------
        weights : xarray.DataArray (time[, cell][, ...])
            Weight of each frame; other dimensions stand for separate sets.

        Returns
        -------
        xarray.DataArray ([...,] cell, channel, y, x)
            Sums of latents in double precision; `field` turns them, or their means, into fields.

        Raises
        ------
        InputError
            If there is not one weight for each frame.
        """
        weights = mean_weights(weights, self.latent.sizes["time"])
        weights = weights.drop_vars(("time", "cell"), errors="ignore")
        weights = weights.broadcast_like(self.rate.drop_vars(self.rate.coords))
        weights = weights.transpose("cell", ..., "time")
        sets = weights.shape[1:-1]
        rows = torch.from_numpy(np.array(weights.values, dtype=np.float64))
        rows = rows.reshape(len(rows), -1, rows.shape[-1])
        latent = torch.from_numpy(self.latent.values).flatten(2).transpose(0, 1)
        sums = torch.stack([row @ one.double() for row, one in zip(rows, latent, strict=True)])
        shape = (len(rows), *sets, *self.latent.shape[2:])
        kept = {
            name: coord
            for name, coord in (self.latent.coords | weights.coords).items()
            if "time" not in coord.dims
        }
        dims = ("cell", *weights.dims[1:-1], "channel", "y", "x")
        whole = xr.DataArray(sums.numpy().reshape(shape), dims=dims, coords=kept)
        return whole.transpose(..., "cell", "channel", "y", "x")

    def field(self, latent: xr.DataArray) -> xr.DataArray:
        """Project latents of this record's layer into fields.

        Parameters
        ----------
        latent : xarray.DataArray (..., channel, y, x)
            Latents, or sums or means of them.

        Returns
        -------
        xarray.DataArray (..., lag, y, x)
            Fields in the unit of the latents' rate per unit contrast.
        """
        like = self._like(latent)
        values = np.empty(like.shape, dtype=like.dtype)
        rows, done = torch.from_numpy(values).view(-1, *like.shape[-3:]), 0
        for part in self._tensors(latent):
            rows[done : done + len(part)] = self.filters.project(part)
            done += len(part)
        return like.copy(data=values)

    def separable(self, latent: xr.DataArray | None = None) -> xr.Dataset:
        """Return the separable form of every field, without keeping the fields.

        Parameters
        ----------
        latent : xarray.DataArray (..., channel, y, x), optional
            Latents, such as means; those of the record if left out.

        Returns
        -------
        xarray.Dataset
            ``spatial`` (time, cell, y, x) in Hz per unit contrast, ``temporal`` (time, cell,
            lag), ``separability`` and ``gain`` (time, cell); see
            `retinacodec.separable.separable`. NaN where a latent is NaN.
        """
        latent = self.latent if latent is None else latent
        basis, filters = self.filters.temporal or (None, self.filters)
        parts = [separate(filters.project(part), basis) for part in self._tensors(latent)]
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        return describe(self._like(latent), *columns)

    def gram(self) -> xr.DataArray:
        """Return the inner product of the fields of every two frames of a cell.

        Returns
        -------
        xarray.DataArray (cell, time, other_time)
            ``<F_i, F_j>`` over lags and pixels, in the unit of the fields squared. No field is
            projected; see `Filters.features`.
        """
        cells = [(rows @ rows.mT).numpy() for rows in self._vectors()]
        return self._pairs(cells, "inner_product", "Hz2", "inner product of receptive fields")

    def cosines(self) -> xr.DataArray:
        """Return the cosine between the fields of every two frames of a cell.

        Returns
        -------
        xarray.DataArray (cell, time, other_time)
            Cosines of the whole space-time fields, -1 to 1; NaN where a field is zero.
        """
        cells = []
        for rows in self._vectors():
            norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            unit = rows / torch.where(norms > 0, norms, torch.nan)
            cells.append((unit @ unit.mT).numpy())
        return self._pairs(cells, "cosine", "1", "cosine of instantaneous receptive fields")

    def _vectors(self) -> Iterator[Tensor]:
        """Yield for each cell vectors (time, feature) with the inner products of its fields."""
        for position in range(self.latent.sizes["cell"]):
            rows = self._tensors(self.latent.isel(cell=[position]))
            yield torch.cat([self.filters.features(row) for row in rows])

    def _pairs(self, cells: list[Array], name: str, units: str, words: str) -> xr.DataArray:
        """Name the values of every two frames."""
        coords = dict(self.rate.coords)
        coords["other_time"] = ("other_time", self.rate["time"].values, self.rate["time"].attrs)
        return xr.DataArray(
            np.stack(cells),
            dims=("cell", "time", "other_time"),
            coords=coords,
            name=name,
            attrs={"units": units, "long_name": words},
        )

    def _tensors(self, latent: xr.DataArray) -> Iterator[Tensor]:
        """Yield latents (..., channel, y, x) as tensors (batch, channel, y, x)."""
        flat = latent.values.astype(self.latent.dtype, copy=False)
        flat = flat.reshape(-1, *latent.shape[-3:])
        yield from torch.from_numpy(flat).split(_BATCH)

    def _like(self, latent: xr.DataArray) -> xr.DataArray:
        """Return the frame of the fields (..., lag, y, x) of latents, without values."""
        outer = latent.isel(channel=0, y=0, x=0, drop=True)
        axes = {"lag": self.lag, "y": self.y, "x": self.x}
        shape = (*outer.shape, *(axis.size for axis in axes.values()))
        return xr.DataArray(
            np.broadcast_to(np.zeros((), dtype=self.latent.dtype), shape),
            dims=(*outer.dims, *axes),
            coords={**outer.coords, **axes},
            name="field",
            attrs={"units": "Hz", "long_name": "rate change per unit contrast"},
        )


def mean_of_blocks(blocks: Iterable[LatentFields], weights: xr.DataArray) -> xr.DataArray:
    """Return weighted mean fields of frames that come a block at a time.

    Parameters
    ----------
    blocks : iterable of LatentFields
        Consecutive runs of frames, of the same cells.
    weights : xarray.DataArray (time[, cell][, ...])
        Weight of each frame of all blocks together; other dimensions stand for separate sets.

    Returns
    -------
    xarray.DataArray ([...,] cell, lag, y, x)
        Mean fields, as `LatentFields.mean` gives them of the whole. One block is held at a time.

    Raises
    ------
    InputError
        If there is no block.
    """
    total = weights.sum("time")
    done, sums, block = 0, None, None
    for block in blocks:
        count = block.rate.sizes["time"]
        part = block.weighted_sum(weights.isel(time=slice(done, done + count)))
        sums, done = part if sums is None else sums + part, done + count
    if block is None or sums is None:
        raise InputError("fields: no frames")
    return block.field((sums / total.where(total > 0)).transpose(*sums.dims))


def membership(labels: npt.ArrayLike) -> xr.DataArray:
    """Return which frames belong to which group, as weights of means.

    Parameters
    ----------
    labels : array_like (time,)
        Name or number of the group of each frame, such as its cluster or set of modes.

    Returns
    -------
    xarray.DataArray (time, group)
        1 or 0, to be given to `LatentFields.mean` or `PackedFields.mean`.

    Raises
    ------
    InputError
        If labels are not one a frame.

    Examples
    --------
    >>> membership(["on", "off", "on"]).values.tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    each = np.asarray(labels)
    if each.ndim != 1:
        raise InputError(f"membership: expected labels (time,), got shape {each.shape}")
    groups, number = np.unique(each, return_inverse=True)
    member = (number[:, None] == np.arange(groups.size)).astype(np.float64)
    return xr.DataArray(member, dims=("time", "group"), coords={"group": groups})
