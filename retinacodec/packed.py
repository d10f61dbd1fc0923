"""Receptive fields kept as what changes from frame to frame: slopes that all cells share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.descent import Descent
from retinacodec.errors import InputError
from retinacodec.field_rows import batch_starts, mean_weights, positions
from retinacodec.first_layer import Filters
from retinacodec.latents import LatentFields, mean_of_blocks

__all__ = ["PackedFields", "pack_slopes"]

Array = npt.NDArray[Any]

_BLOCK_BYTES = 128e6  # latents unpacked at a time


@dataclass(frozen=True)
class PackedFields:
    """Instantaneous receptive fields of cells at frames, in the smallest exact form.

    In a stack of convolutions the field of every cell follows from which rectifiers are open,
    one bit each, shared by all cells, and one gain for each cell. These are kept, in memory or
    on disk, and unpacked into `LatentFields` a block at a time. Of other circuits the latents
    themselves are kept.

    Parameters
    ----------
    rows : xarray.Dataset
        ``rate`` (time, cell) Hz; of a stack ``gain`` (time, cell[, drive]) and for each layer
        ``gate_l`` (time, byte_l), bits packed eight to a byte, or ``slope_l`` (time, channel_l,
        y_l, x_l); of another circuit ``latent`` (time, cell, channel, y, x). On disk, if it was
        opened so.
    descent : Descent or None
        How gains and slopes become latents; None where latents are kept.
    filters : Filters
        The map from a stimulus window to the layer.
    lag, y, x : xarray.DataArray
        Axes of the fields, as in `LatentFields`.

    Notes
    -----
    ``dr/dx = W_1^T a_1 s_1 W_2^T a_2 s_2 ... R^T g``: s are slopes of the frame, g gains of the
    cell, all else belongs to the network. Exact, as the latents are.
    """

    rows: xr.Dataset
    descent: Descent | None
    filters: Filters
    lag: xr.DataArray
    y: xr.DataArray
    x: xr.DataArray

    @property
    def rate(self) -> xr.DataArray:
        """Rate of each cell at the same frames (time, cell), Hz."""
        return self.rows["rate"]

    @property
    def nbytes(self) -> int:
        """Bytes of what belongs to frames."""
        return sum(self.rows[name].nbytes for name in self.rows.data_vars)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent."""
        if self.descent is not None:
            return self.descent.shape
        channels, rows, columns = self.rows["latent"].shape[2:]
        return channels, rows, columns

    def select(self, *, time: Any = None, cell: Any = None) -> PackedFields:
        """Return the fields of some frames and cells.

        Parameters
        ----------
        time, cell : array_like or slice, optional
            Positions or a mask; all if left out.

        Returns
        -------
        PackedFields
            The selection, without reading it.

        Raises
        ------
        InputError
            If there is no such frame or cell.
        """
        chosen = positions(self.rate, time=time, cell=cell)
        descent = self.descent
        if descent is not None and descent.owners is not None and "cell" in chosen:
            kept = np.asarray(descent.owners)[chosen["cell"]]
            descent = replace(descent, owners=tuple(kept.tolist()))
        return replace(self, rows=self.rows.isel(chosen), descent=descent)

    def blocks(self, batch: int | None = None) -> Iterator[LatentFields]:
        """Yield the latents of some frames at a time.

        Parameters
        ----------
        batch : int, optional
            Frames at a time; chosen for about 128 MB if left out.

        Yields
        ------
        LatentFields
            Fields of the next frames.

        Raises
        ------
        InputError
            If a batch holds no frame.
        """
        if batch is None:
            each = 4 * self.rate.sizes["cell"] * float(np.prod(self.latent_shape))
            batch = int(max(_BLOCK_BYTES // each, 1))
        for start in batch_starts(self.rate.sizes["time"], batch):
            part = self.select(time=slice(start, start + batch))
            yield part._unpacked()

    def latents(self, *, budget_gb: float = 2.0) -> LatentFields:
        """Return the fields as gradients at the first layer, in memory.

        Parameters
        ----------
        budget_gb : float, default 2.0
            Largest result, GB.

        Returns
        -------
        LatentFields
            All frames and cells.

        Raises
        ------
        InputError
            If they would be larger than the budget.
        """
        need = 4 * self.rate.size * float(np.prod(self.latent_shape)) / 1e9
        if need > budget_gb:
            raise InputError(
                f"latents: {self.rate.size} fields need {need:.2f} GB, the budget is "
                f"{budget_gb:g} GB; select fewer frames or cells, or use blocks() or mean()"
            )
        return self._unpacked()

    def mean(self, weights: xr.DataArray | npt.ArrayLike | None = None) -> xr.DataArray:
        """Return the weighted mean field of a set of frames, or of many sets at once.

        Parameters
        ----------
        weights : xarray.DataArray (time[, cell][, ...]) or array_like (time[, cell]), optional
            As in `LatentFields.mean`.

        Returns
        -------
        xarray.DataArray ([...,] cell, lag, y, x)
            Mean fields, Hz per unit contrast; NaN where the weights of a set are all 0.
        """
        return mean_of_blocks(self.blocks(), mean_weights(weights, self.rate.sizes["time"]))

    def _unpacked(self) -> LatentFields:
        """Return the latents of all rows."""
        rows = self.rows.load() if _on_disk(self.rows) else self.rows
        values = rows["latent"].values if self.descent is None else self._descended(rows).numpy()
        outer = {name: rows[name] for name in ("time", "cell", "frame") if name in rows.coords}
        latent = xr.DataArray(
            values,
            dims=("time", "cell", "channel", "y", "x"),
            coords={**outer, **self.filters.places(self.y, self.x, values.shape[-2:])},
            name="latent",
            attrs={"units": "Hz", "layer": self.filters.name},
        )
        return LatentFields(latent, rows["rate"], self.filters, self.lag, self.y, self.x)

    def _descended(self, rows: xr.Dataset) -> Tensor:
        """Return latents (time, cell, channel, y, x) from gains and slopes."""
        descent = self.descent
        assert descent is not None
        slopes = []
        for number, layer in enumerate(descent.layers):
            if f"gate_{number}" in rows:
                bits = np.unpackbits(rows[f"gate_{number}"].values, axis=1)
                values = bits[:, : layer.scale.numel()].reshape(-1, *layer.shape)
                slopes.append(torch.from_numpy(values).to(layer.scale.dtype))
            else:
                slopes.append(torch.from_numpy(rows[f"slope_{number}"].values))
        return descent.latents(slopes, torch.from_numpy(rows["gain"].values))


def pack_slopes(descent: Descent, slopes: list[Tensor]) -> dict[str, tuple[tuple[str, ...], Array]]:
    """Return the slopes of some frames as variables of rows.

    Parameters
    ----------
    descent : Descent
        The network.
    slopes : list of torch.Tensor (frame, channel, y, x)
        Slopes of each layer.

    Returns
    -------
    dict of str to (dims, ndarray)
        ``gate_l`` of rectifiers, ``slope_l`` of other nonlinearities.
    """
    found: dict[str, tuple[tuple[str, ...], Array]] = {}
    for number, (slope, bits) in enumerate(zip(slopes, descent.rectified, strict=True)):
        if bits:
            packed = np.packbits((slope > 0).flatten(1).cpu().numpy(), axis=1)
            found[f"gate_{number}"] = (("time", f"byte_{number}"), packed)
        else:
            dims = ("time", *(f"{axis}_{number}" for axis in ("channel", "y", "x")))
            found[f"slope_{number}"] = (dims, slope.cpu().numpy())
    return found


def _on_disk(rows: xr.Dataset) -> bool:
    """Return whether values have yet to be read."""
    return not all(variable._in_memory for variable in rows.variables.values())
