"""Concepts: where named things are, from pixel labels, classes, their ancestors and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["attribute_concepts", "label_concepts", "pixel_concepts"]

Array = npt.NDArray[Any]


def pixel_concepts(
    labels: npt.ArrayLike, names: Mapping[int, str], *, stride: int = 1, least: int = 1
) -> xr.DataArray:
    """Return where each labelled thing is, at a grid of pixels of each image.

    Parameters
    ----------
    labels : array_like of int (image, y, x)
        What is at each pixel.
    names : mapping of int to str
        Names of the labels; pixels with other labels (void) belong to no concept. Labels of one
        name make one concept.
    stride : int, default 1
        Take every pixel in so many, in rows and columns, from the middle of the first so many.
    least : int, default 1
        Leave out concepts at fewer positions.

    Returns
    -------
    xarray.DataArray of bool (concept, position)
        Positions are images, then rows, then columns; coordinates ``image``, ``y`` and ``x``
        (pixel numbers) along them, and the size of the images, pixels, as attribute ``pixels``.

    Raises
    ------
    InputError
        If labels are no whole numbers (image, y, x), or no named label occurs.

    Examples
    --------
    >>> found = pixel_concepts([[[0, 1], [1, 9]]], {0: "sky", 1: "road"})
    >>> found["concept"].values.tolist(), found.values.tolist()
    (['sky', 'road'], [[True, False, False, False], [False, True, True, False]])
    """
    values = np.asarray(labels)
    problems = Problems()
    fits = values.ndim == 3 and values.dtype.kind in "iu" and values.size > 0
    problems.require(
        fits, f"labels: expected whole numbers (image, y, x), got {values.dtype} {values.shape}"
    )
    problems.require(stride >= 1, f"stride: expected at least 1 pixel, got {stride}")
    problems.require(len(names) > 0, "names: there are none")
    problems.raise_as("pixel_concepts")
    rows, columns = (_grid(size, stride) for size in values.shape[1:])
    small = values[:, rows[:, None], columns]
    table: dict[str, Array] = {}
    for label, name in names.items():
        here = (small == label).ravel()
        table[str(name)] = table[str(name)] | here if str(name) in table else here
    kept = {name: on for name, on in table.items() if np.count_nonzero(on) >= least}
    if not kept:
        raise InputError("pixel_concepts: none of the named labels occurs; check their numbers")
    grid = np.meshgrid(np.arange(len(values)), rows, columns, indexing="ij")
    places = zip(("image", "y", "x"), grid, strict=True)
    return xr.DataArray(
        np.stack(list(kept.values())),
        {"concept": list(kept), **{name: ("position", one.ravel()) for name, one in places}},
        ("concept", "position"),
        name="concept_mask",
        attrs={"pixels": tuple(int(size) for size in values.shape[1:]), "stride": stride},
    )


def label_concepts(
    labels: Iterable[Any],
    parents: Mapping[str, str | Iterable[str]] | None = None,
    *,
    least: int = 1,
) -> xr.DataArray:
    """Return which images belong to each class, and to each of its ancestors.

    Parameters
    ----------
    labels : iterable (image,)
        Class of each image; a DataArray keeps its ``image`` coordinate.
    parents : mapping of str to str or iterable of str, optional
        Parent, or parents, of each class and of each ancestor; what has none is a root.
    least : int, default 1
        Leave out concepts of fewer images.

    Returns
    -------
    xarray.DataArray of bool (concept, image)
        Classes first, then ancestors, each in alphabetical order. Concepts of the same images
        are one: a class goes before an ancestor, and near ancestors before far ones; the names
        of all are in ``synonyms`` (concept).

    Raises
    ------
    InputError
        If there are no images or the parents go round in a circle.

    Examples
    --------
    >>> found = label_concepts(["pug", "cat", "pug"], {"pug": "dog", "dog": "animal"})
    >>> found["concept"].values.tolist(), found["synonyms"].values.tolist()
    (['cat', 'pug'], ['', 'animal, dog'])
    """
    values = _texts(labels)
    if not values:
        raise InputError("label_concepts: there are no images")
    above = {
        str(child): [one] if isinstance(one, str) else [str(each) for each in one]
        for child, one in (parents or {}).items()
    }
    depth: dict[str, int] = {}
    members: dict[str, set[str]] = {}
    for name in sorted(set(values)):
        for ancestor, steps in _ancestors(name, above).items():
            members.setdefault(ancestor, set()).add(name)
            depth[ancestor] = min(steps, depth.get(ancestor, steps))
    order = sorted(members, key=lambda name: (depth[name] > 0, depth[name], name))
    table = np.array(values)
    found = {name: np.isin(table, sorted(members[name])) for name in order}
    return _merged(found, least, depth, labels)


def attribute_concepts(
    labels: Iterable[Any], attributes: Mapping[str, Iterable[str]], *, least: int = 1
) -> xr.DataArray:
    """Return which images have each attribute of their class.

    Parameters
    ----------
    labels : iterable (image,)
        Class of each image, or its own name where attributes are given image by image.
    attributes : mapping of str to iterable of str
        Attributes of each class; classes without any may be missing.
    least : int, default 1
        Leave out attributes of fewer images.

    Returns
    -------
    xarray.DataArray of bool (concept, image)
        Attributes in alphabetical order. Attributes of the same images are one, as in
        `label_concepts`.

    Raises
    ------
    InputError
        If there are no images, or none has an attribute.

    Examples
    --------
    >>> attribute_concepts(["pug", "car"], {"pug": ["furry"], "car": ["metal"]}).values.tolist()
    [[True, False], [False, True]]
    """
    values = _texts(labels)
    sets = {str(name): {str(one) for one in group} for name, group in attributes.items()}
    every = sorted({one for name in set(values) for one in sets.get(name, ())})
    if not values or not every:
        raise InputError("attribute_concepts: no image has an attribute; do the names match?")
    found = {one: np.array([one in sets.get(name, ()) for name in values]) for one in every}
    return _merged(found, least, dict.fromkeys(every, 0), labels)


def _texts(labels: Any) -> list[str]:
    """Return the labels as text, whether they came as a list or as an array."""
    return [str(one) for one in getattr(labels, "values", labels)]


def _grid(size: int, stride: int) -> Array:
    return np.arange(min((stride - 1) // 2, size - 1), size, stride)


def _ancestors(name: str, above: Mapping[str, list[str]]) -> dict[str, int]:
    """Return a class and everything above it, with the least number of steps to it."""
    found, edge, steps = {name: 0}, [name], 0
    while edge:
        steps += 1
        edge = sorted({parent for one in edge for parent in above.get(one, ())})
        if name in edge:
            raise InputError(f"parents: {name!r} is its own ancestor")
        edge = [one for one in edge if one not in found]
        found.update(dict.fromkeys(edge, steps))
    return found


def _merged(
    found: dict[str, Array], least: int, depth: dict[str, int], labels: Any
) -> xr.DataArray:
    """Join concepts of the same images, the first of which gives the name."""
    kept: dict[bytes, str] = {}
    names: dict[str, list[str]] = {}
    for name, on in found.items():
        if np.count_nonzero(on) >= least:
            first = kept.setdefault(on.tobytes(), name)
            names.setdefault(first, []).append(name)
    if not names:
        raise InputError(f"concepts: none is on in at least {least} images")
    order = sorted(names, key=lambda name: (depth[name] > 0, name))
    images = {"image": labels["image"].values} if hasattr(labels, "coords") else {}
    return xr.DataArray(
        np.stack([found[name] for name in order]),
        {
            "concept": order,
            "synonyms": ("concept", [", ".join(sorted(names[name][1:])) for name in order]),
            **images,
        },
        ("concept", "image"),
        name="concept_mask",
    )
