"""Masks and concepts on the same positions, and which images or frames these belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bitsets import Bitsets, count_and, pack
from retinacodec.errors import InputError, Problems

__all__ = ["Places", "line_up"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Places:
    """Masks and concepts over positions; those of one image are never divided.

    Parameters
    ----------
    masks : ndarray of bool (mask, position)
        Where each mask is on.
    concepts : ndarray of bool (concept, position)
        Where each concept holds.
    image : ndarray of int (position,)
        Number of the image or frame of each position, 0, 1, ...; a position each without images.
    masks_names, names : list of str
        Names of masks and concepts.
    dim : str
        The dim that both share.
    """

    masks: npt.NDArray[np.bool_]
    concepts: npt.NDArray[np.bool_]
    image: npt.NDArray[np.int64]
    masks_names: list[Any]
    names: list[str]
    dim: str

    @property
    def images(self) -> int:
        """Number of images or frames."""
        return int(self.image[-1]) + 1

    @property
    def single(self) -> bool:
        """Whether every image is one position."""
        return self.images == self.image.size

    def of(self, images: Array) -> npt.NDArray[np.bool_]:
        """Return which positions (position,) belong to these images."""
        return np.isin(self.image, images)

    def moved(self, masks: Array, order: Array) -> npt.NDArray[np.bool_]:
        """Return masks (mask, position of some images) with the images in another order."""
        if len(order) == masks.shape[1]:
            return np.take(masks, order, axis=1)
        whole = masks.reshape(len(masks), len(order), -1)
        return np.take(whole, order, axis=1).reshape(masks.shape)

    def together(self, masks: Bitsets, concepts: Bitsets, here: Array) -> npt.NDArray[np.bool_]:
        """Return whether mask and concept (mask, concept) are both on in some image of these.

        Parameters
        ----------
        masks, concepts : Bitsets
            Those of the positions `here`.
        here : ndarray of bool (position,)
            Which positions these are.
        """
        if self.single:
            return np.ones((len(masks), len(concepts)), np.bool_)
        starts = np.flatnonzero(np.diff(self.image[here], prepend=-1))
        on = [np.logical_or.reduceat(one.unpack(), starts, axis=1) for one in (masks, concepts)]
        return np.asarray(count_and(pack(on[0]), pack(on[1])) > 0)


def line_up(masks: xr.DataArray, concepts: xr.DataArray) -> Places:
    """Check masks and concepts and put them on the same positions.

    Parameters
    ----------
    masks : xarray.DataArray of bool (mask, position)
        Any two dims, in any order; a coordinate ``image`` along the positions says which of them
        belong to one image, in order.
    concepts : xarray.DataArray of bool (concept, position)
        The same positions.

    Returns
    -------
    Places
        Both, as arrays.

    Raises
    ------
    InputError
        If they do not fit together; all problems at once.
    """
    problems = Problems()
    for name, table in (("masks", masks), ("concepts", concepts)):
        what = f"{table.dtype} {table.dims}" if isinstance(table, xr.DataArray) else type(table)
        fits = isinstance(table, xr.DataArray) and table.ndim == 2 and table.dtype == np.bool_
        problems.require(
            fits, f"{name}: expected a DataArray of True and False with two dims, got {what}"
        )
    problems.raise_as("explain")
    shared = [str(dim) for dim in masks.dims if dim in concepts.dims]
    if len(shared) != 1:
        raise InputError(
            f"explain: expected masks {masks.dims} and concepts {concepts.dims} to share one dim, "
            f"their positions; they share {', '.join(shared) or 'none'}"
        )
    dim = shared[0]
    ours, theirs = masks.transpose(..., dim), concepts.transpose(..., dim)
    _check_positions(ours, theirs, dim)
    names = [str(name) for name in _names(theirs)]
    image = _images(ours, theirs, dim)
    twice = sorted({name for name in names if names.count(name) > 1})
    problems.require(not twice, f"concepts: {', '.join(twice[:3])} named twice")
    steps = np.diff(image)
    problems.require(bool((steps >= 0).all()), "image: positions of one image must lie together")
    problems.require(bool(names), "there are no concepts")
    problems.require(len(ours) > 0, "there are no masks")
    problems.raise_as("explain")
    number = np.cumsum(np.concatenate([[0], steps != 0])).astype(np.int64)
    return Places(ours.values, theirs.values, number, _names(ours), names, dim)


def _names(table: xr.DataArray) -> list[Any]:
    dim = table.dims[0]
    return list(table[dim].values.tolist())


def _images(masks: xr.DataArray, concepts: xr.DataArray, dim: str) -> Array:
    for table in (masks, concepts):
        if dim != "image" and "image" in table.coords and table["image"].dims == (dim,):
            return np.asarray(table["image"].values)
    return np.arange(masks.sizes[dim])


def _check_positions(masks: xr.DataArray, concepts: xr.DataArray, dim: str) -> None:
    """Refuse masks and concepts of other positions than each other's."""
    problems = Problems()
    counts = masks.sizes[dim], concepts.sizes[dim]
    if counts[0] != counts[1] or not counts[0]:
        raise InputError(
            f"explain: expected the same positions along {dim}, got {counts[0]} of masks and "
            f"{counts[1]} of concepts"
        )
    for name in (dim, "image", "y", "x"):
        if all(name in one.coords and one[name].dims == (dim,) for one in (masks, concepts)):
            one, other = masks[name].values, concepts[name].values
            numeric = all(values.dtype.kind in "iuf" for values in (one, other))
            same = np.allclose(one, other) if numeric else np.array_equal(one, other)
            problems.require(same, f"{name}: masks and concepts have other values")
    problems.raise_as("explain")
