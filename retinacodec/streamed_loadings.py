"""The modes of a streamed table as a folder: loadings are written a stretch at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.atoms import Dictionary
from retinacodec.column_statistics import ColumnStatistics
from retinacodec.plain_trees import plain_attrs, to_plain_tree
from retinacodec.row_source import Columns
from retinacodec.stream_tallies import ScoreTally
from retinacodec.zarr_folder import seal, write_zarr

__all__ = ["LoadingsFolder", "streamed_head", "streamed_scores"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LoadingsFolder:
    """A Zarr folder that `open_result` opens once it is finished.

    Parameters
    ----------
    path : Path
        The folder.
    """

    path: Path

    def begin(self, head: xr.Dataset, rows: int, chunk: int) -> None:
        """Lay the folder out anew.

        Parameters
        ----------
        head : xarray.Dataset
            All that is known, with one row in place of all in what lies along the rows.
        rows : int
            Number of rows.
        chunk : int
            Rows of a chunk; stretches that are written begin and end with one.
        """
        if self.path.exists():
            shutil.rmtree(self.path)
        write_zarr(to_plain_tree(head), self.path)
        sample = head["loading"].dims[0]
        for name in map(str, head.variables):
            if sample in head[name].dims:
                self._lengthen(name, rows, min(chunk, rows))

    def coordinate(self, name: str, values: Array) -> None:
        """Write the names of all rows."""
        stored = values.astype(object) if values.dtype.kind in "UT" else values
        self._group()[name][...] = stored

    def write(self, first: int, loading: Array, r2: Array) -> None:
        """Write a stretch of whole chunks, but for the last."""
        group, stop = self._group(), first + len(loading)
        group["loading"][first:stop] = loading.astype(np.float32)
        group["reconstruction_r2"][first:stop] = r2

    def finish(self, share: Array, attrs: Mapping[str, Any]) -> None:
        """Write what is known only now, and note that the folder is complete."""
        group = self._group()
        group["share"][...] = share
        group.attrs.update(plain_attrs(attrs))
        seal(self.path)

    def _group(self) -> Any:
        import zarr

        return zarr.open_group(self.path, mode="r+")

    def _lengthen(self, name: str, rows: int, chunk: int) -> None:
        """Make an array anew, as it is but for its length."""
        group = self._group()
        array = group[name]
        group.create_array(
            name,
            shape=(rows, *array.shape[1:]),
            dtype=array.dtype,
            chunks=(chunk, *array.shape[1:]),
            filters=array.filters,
            serializer=array.serializer,
            compressors=array.compressors,
            fill_value=array.fill_value,
            attributes=dict(array.attrs),
            dimension_names=array.metadata.dimension_names,
            overwrite=True,
        )


def streamed_head(found: Dictionary, columns: Columns, statistics: ColumnStatistics) -> xr.Dataset:
    """Return the result with one row in place of all, and without what the rows will tell.

    Parameters
    ----------
    found : Dictionary
        Atoms, with a coder; its loadings are not looked at.
    columns : Columns
        What the columns are.
    statistics : ColumnStatistics
        Those of all rows.

    Returns
    -------
    xarray.Dataset
        Atoms, columns, the log of the search; ``loading`` and ``reconstruction_r2`` of one row.
    """
    dims, shape, modes = tuple(columns.sizes), tuple(columns.sizes.values()), len(found.atoms)
    scaled = {"units": "1", "long_name": "atom, in units of the scale"}
    deviation = np.sqrt(statistics.spread / max(statistics.count, 1))
    data: dict[str, Any] = {
        "atom": (("mode", *dims), found.atoms.reshape(modes, *shape), scaled),
        "loading": (
            (columns.sample, "mode"),
            np.zeros((1, modes), np.float32),
            {"units": "1", "long_name": "loading"},
        ),
        "reconstruction_r2": (columns.sample, np.zeros(1), {"units": "1"}),
        "alive": ("mode", np.ones(modes, dtype=bool)),
        "share": ("mode", np.zeros(modes), {"units": "1"}),
        "agreement": ("mode", found.agreement, {"units": "1"}),
        "column_mean": (dims, statistics.mean.reshape(shape)),
        "column_deviation": (dims, deviation.reshape(shape)),
        "varies": (dims, (statistics.spread > 0).reshape(shape)),
    }
    for name, array in found.pack()[0].items():
        if name not in ("atoms", "loadings", "agreement") and array is not found.atoms:
            data[name] = (tuple(f"{name}_{axis}" for axis in range(array.ndim)), array)
    coords = dict(columns.coords)
    if columns.sample in coords:
        coords[columns.sample] = coords[columns.sample][:1]
    attrs = {
        "kind": "modes",
        "signed": 0,
        "scale": found.scale.deviation,
        "seed": found.seed,
        "method": found.method,
        "quantity": columns.quantity,
        "packed": json.dumps(found.pack()[1]),
        "alive": modes,
        "dead": found.tried - modes,
    }
    named = {name: (name, values) for name, values in coords.items()}
    return xr.Dataset(data, coords=named | {"mode": np.arange(modes)}, attrs=attrs)


def streamed_scores(tally: ScoreTally, *, draws: int, seed: int) -> dict[str, Any]:
    """Return what is known once all rows are coded, as attributes.

    Parameters
    ----------
    tally : ScoreTally
        After the last row.
    draws : int
        Number of resamples for the interval.
    seed : int
        Seed of the resamples.

    Returns
    -------
    dict
        ``r2`` of rows held out with ``r2_low`` and ``r2_high``, ``r2_fitted``, ``l0`` and
        ``report`` in words.
    """
    rows, modes = len(tally.held), len(tally.atoms)
    r2, l0 = tally.r2(draws, seed), float(tally.active[0]) / rows
    value, low, high = float(r2.value), float(r2.low), float(r2.high)
    report = (
        f"modes: {modes} in use, {l0:.2f} active in a row of {rows}\n"
        f"R2: {value:.3f} of rows held out ({low:.3f} to {high:.3f}), {tally.r2_fitted:.3f} of "
        "rows fitted"
    )
    scores = {"r2": value, "r2_low": low, "r2_high": high, "r2_fitted": tally.r2_fitted, "l0": l0}
    return scores | {"report": report}
