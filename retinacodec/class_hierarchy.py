"""A hierarchy over classes, such as WordNet's over ImageNet, and who belongs to what in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["ClassHierarchy", "image_masks", "read_hierarchy", "superclass_masks"]


@dataclass(frozen=True)
class ClassHierarchy:
    """Which nodes lie under which.

    Parameters
    ----------
    parents : mapping of str to sequence of str
        The parents of each node that has any; a node may have several.

    Raises
    ------
    InputError
        If a node is above itself.

    Examples
    --------
    >>> tree = ClassHierarchy({"poodle": ["dog"], "dog": ["animal"], "cat": ["animal"]})
    >>> sorted(tree.above("poodle"))
    ['animal', 'dog']
    """

    parents: Mapping[str, Sequence[str]] = field(repr=False)

    def __post_init__(self) -> None:
        plain = {node: tuple(dict.fromkeys(found)) for node, found in self.parents.items()}
        object.__setattr__(self, "parents", plain)
        for node in plain:
            if node in self.above(node):
                raise InputError(f"hierarchy: {node!r} is above itself; break the circle")

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, in the order in which they were first named."""
        pairs = ((node, *found) for node, found in self.parents.items())
        return tuple(dict.fromkeys(one for pair in pairs for one in pair))

    def above(self, node: str) -> frozenset[str]:
        """Return every node above one, on any path."""
        found: set[str] = set()
        waiting = list(self.parents.get(node, ()))
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(self.parents.get(one, ()))
        return frozenset(found)


def read_hierarchy(path: str | Path) -> ClassHierarchy:
    """Read a hierarchy from a table.

    Parameters
    ----------
    path : str or Path
        Text with a tab between columns, lines that begin with ``#`` left out. Either two columns,
        a child and its parent, a line for each pair; or paths with slashes from the top to a
        class, such as ``animal/dog/poodle``, alone or behind the name of the class
        (``n02113799<tab>animal/dog``). A class may have several lines.

    Returns
    -------
    ClassHierarchy
        The hierarchy.

    Raises
    ------
    InputError
        If the file is empty or a line is neither; all such lines in one message.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter="\t")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"hierarchy {path}: cannot be read as a table ({error})") from error
    parents: dict[str, list[str]] = {}
    problems = Problems()
    for number, row in enumerate(rows, 1):
        if not any(row) or row[0].startswith("#"):
            continue
        chain = _chain(row)
        if not problems.require(len(chain) > 1 and all(chain), f"line {number} is {row}"):
            continue
        for parent, child in pairwise(chain):
            parents.setdefault(child, []).append(parent)
    problems.require(bool(parents) or bool(problems.found), "there is nothing in it")
    problems.raise_as(f"hierarchy {Path(path).name}, expected child<tab>parent or a/path")
    return ClassHierarchy(parents)


def _chain(row: list[str]) -> list[str]:
    """Return the nodes of a line from the top down."""
    if len(row) == 1:
        return row[0].strip("/").split("/")
    if len(row) == 2:
        return [*row[1].strip("/").split("/"), row[0]]
    return []


def superclass_masks(hierarchy: ClassHierarchy, classes: Iterable[str]) -> xr.DataArray:
    """Say for every class and superclass which of a network's classes belong to it.

    Parameters
    ----------
    hierarchy : ClassHierarchy
        The hierarchy.
    classes : iterable of str
        Names of the network's classes in its order, as they stand in the hierarchy; one that is
        not in it belongs only to itself.

    Returns
    -------
    xarray.DataArray (superclass, class)
        bool; each class first, in order, then the superclasses from the largest to the smallest.
        ``merged`` (superclass) lists other nodes with the same classes, ``size`` counts them.

    Raises
    ------
    InputError
        If no class is in the hierarchy, or one is there twice.

    Notes
    -----
    Of nodes with the same classes one is kept, the nearest to the classes; a node with only one
    class is that class.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, modes and superclasses.

    Examples
    --------
    >>> tree = ClassHierarchy({"pug": ["dog"], "lab": ["dog"], "dog": ["pet"], "cat": ["feline"]})
    >>> masks = superclass_masks(tree, ["pug", "lab", "cat"])
    >>> masks["superclass"].values.tolist(), masks["merged"].values.tolist()
    (['pug', 'lab', 'cat', 'dog'], ['', '', 'feline', 'pet'])
    """
    names = list(classes)
    if len(set(names)) < len(names):
        raise InputError("hierarchy: a class is named twice; give each one its own name")
    known = set(hierarchy.nodes)
    if not known & set(names):
        raise InputError(
            f"hierarchy: none of the classes ({', '.join(names[:3])} ...) is in it; name them as "
            "in the file"
        )
    members: dict[str, set[int]] = {}
    for number, name in enumerate(names):
        for node in (name, *hierarchy.above(name)):
            members.setdefault(node, set()).add(number)
    kept: dict[frozenset[int], list[str]] = {frozenset({k}): [n] for k, n in enumerate(names)}
    depth = {node: len(hierarchy.above(node)) for node in members}
    for node in sorted(set(members) - set(names), key=lambda one: (-depth[one], one)):
        kept.setdefault(frozenset(members[node]), []).append(node)
    single = list(kept.items())[: len(names)]
    several = sorted(list(kept.items())[len(names) :], key=lambda one: (-len(one[0]), one[1][0]))
    masks = np.zeros((len(kept), len(names)), dtype=bool)
    for row, (places, _) in enumerate([*single, *several]):
        masks[row, sorted(places)] = True
    said = [found for _, found in (*single, *several)]
    return xr.DataArray(
        masks,
        dims=("superclass", "class"),
        coords={
            "superclass": [found[0] for found in said],
            "class": names,
            "merged": ("superclass", [", ".join(found[1:]) for found in said]),
            "size": ("superclass", masks.sum(axis=1)),
        },
        name="superclass_mask",
    )


def image_masks(masks: xr.DataArray, labels: npt.ArrayLike) -> xr.DataArray:
    """Say for every image which classes and superclasses it belongs to.

    Parameters
    ----------
    masks : xarray.DataArray (superclass, class)
        What `superclass_masks` returns.
    labels : array_like (image,)
        Position of each image's class.

    Returns
    -------
    xarray.DataArray (image, class)
        bool, with the names of the superclasses as those of the classes: the labels that
        `retinacodec.analyses.mode_class_correlation` takes.

    Raises
    ------
    InputError
        If labels are no positions of classes.
    """
    places: Any = np.asarray(labels)
    count = masks.sizes["class"]
    whole = places.ndim == 1 and places.dtype.kind in "iu" and places.size > 0
    if not whole or places.min() < 0 or places.max() >= count:
        raise InputError(f"labels: expected whole numbers (image,) in 0 to {count - 1}")
    table = masks.transpose("superclass", "class").values
    return xr.DataArray(
        table[:, places].T,
        dims=("image", "class"),
        coords={"class": masks["superclass"].values},
        name="membership",
    )
