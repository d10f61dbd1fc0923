"""The walk through an HDF5 file that finds what reaches outside it or claims absurd sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import h5py
import numpy as np

from retinacodec.hdf5_strings import longest_claim

__all__ = ["Limits", "findings"]

_MOST_LINKS = 16  # the HDF5 library follows no longer chains of soft links


@dataclass(frozen=True)
class Limits:
    """What a file may hold before it is refused.

    Parameters
    ----------
    objects : int, default 200_000
        Groups and datasets in the file.
    expansion : float, default 300
        Declared over stored size of a dataset above `expanded_bytes`; honest gzip of pictures
        stays below about 30.
    expanded_bytes : int, default 2 GiB
        Datasets declared smaller than this may expand by any factor.
    unwritten_bytes : int, default 64 MiB
        Largest declared size of a dataset of which nothing is stored.
    ragged_bytes : int, default 16 MiB
        The same as `expanded_bytes` for strings and lists of any length, each of which takes far
        longer to read than a number.
    references : int, default 1_000_000
        References to objects in one dataset or attribute; each of them is followed.
    """

    objects: int = 200_000
    expansion: float = 300.0
    expanded_bytes: int = 2 << 30
    unwritten_bytes: int = 64 << 20
    ragged_bytes: int = 16 << 20
    references: int = 1_000_000


def findings(file: h5py.File, limits: Limits, unread: Collection[str] = ()) -> Iterator[str]:
    """Yield everything in an open file that reaches outside it or claims absurd sizes.

    Parameters
    ----------
    file : h5py.File
        The file.
    limits : Limits
        What is absurd.
    unread : collection of str, optional
        Patterns of places, such as ``/movies/*/data``, whose links may lead out of the file
        because nobody opens them.

    Yields
    ------
    str
        One line for each finding.

    Notes
    -----
    The file is walked link by link. The only data read are references, because an object may be
    reached by a reference and by no chain of hard links; such an object is walked as well.
    Soft links are not followed, since inside one file they lead to objects that the walk meets
    anyway; only where some links may lead outside is it checked that no soft link uses them.
    """
    walk = _Walk(file, limits, unread)
    yield from walk.tree("", file["/"].id)
    yield from walk.references()


class _Walk:
    """One walk: what was met, and where references are kept."""

    def __init__(self, file: h5py.File, limits: Limits, unread: Collection[str]) -> None:
        self._file, self._limits, self._unread = file, limits, unread
        self._size = file.id.get_filesize()
        self._met: set[int] = set()
        self._count = 0
        self._holders: list[tuple[str, Callable[[], Any]]] = []

    def tree(self, name: str, thing: Any) -> Iterator[str]:
        """Yield what is wrong with an object and everything that hard links lead to from it.

        Objects are those of the low level of h5py, which open in half the time.
        """
        stack = [(name, thing)]
        while stack:
            name, thing = stack.pop()
            if not self._is_new(thing):
                continue
            yield from self._object(name, thing)
            for key in thing if isinstance(thing, h5py.h5g.GroupID) else ():
                self._count += 1
                if self._count > self._limits.objects:
                    yield f"more than {self._limits.objects} objects"
                    return
                place = f"{name}/{key.decode(errors='replace')}"
                if thing.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                    yield from self._link(place, thing, key)
                    continue
                inner = h5py.h5o.open(thing, key)
                if isinstance(inner, h5py.h5g.GroupID):
                    stack.append((place, inner))
                elif self._is_new(inner):
                    yield from self._object(place, inner)

    def references(self) -> Iterator[str]:
        """Yield what is wrong with objects that references lead to and no link does."""
        while self._holders:
            name, read = self._holders.pop()
            for reference in _flat(read()):
                try:
                    target = h5py.h5r.dereference(reference, self._file.id)
                except (ValueError, RuntimeError, KeyError, OSError):
                    continue  # whoever needs what it should lead to will say that it is gone
                where = f"what {name} refers to"
                if isinstance(target, h5py.h5d.DatasetID):
                    yield from self._leftover(where, target)
                elif target is not None:
                    yield from self.tree(where, target)

    def _leftover(self, where: str, dataset: Any) -> list[str]:
        """Look at a dataset that may be the remains of one that was deleted."""
        try:
            return list(self.tree(where, dataset))
        except (ValueError, RuntimeError, KeyError, OSError, TypeError):
            return []  # what cannot be looked at cannot be read either

    def _is_new(self, thing: Any) -> bool:
        """Note that an object was met; hard links and references may form cycles."""
        address = h5py.h5o.get_info(thing).addr
        if address in self._met:
            return False
        self._met.add(address)
        return True

    def _link(self, name: str, group: Any, key: bytes) -> Iterator[str]:
        link = h5py.Group(group).get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            if not any(fnmatchcase(name, pattern) for pattern in self._unread):
                yield f"{name} links to another file ({link.filename})"
        elif self._unread:  # else every way out of the file is a finding by itself
            outside = _way_out(h5py.Group(group), link.path)
            if outside is not None:
                yield f"{name} leads to another file ({outside.filename})"

    def _object(self, name: str, thing: Any) -> Iterator[str]:
        if isinstance(thing, h5py.h5d.DatasetID):
            yield from self._dataset(name, thing)
        for place in range(h5py.h5a.get_num_attrs(thing)):
            attribute = h5py.h5a.open(thing, index=place)
            if attribute.get_type().detect_class(h5py.h5t.REFERENCE):
                key = attribute.name.decode(errors="surrogateescape")
                yield from self._hold(
                    f"attribute {key} of {name or '/'}",
                    attribute.get_space().get_simple_extent_npoints(),
                    partial(h5py.AttributeManager(_Bare(thing)).__getitem__, key),
                )

    def _dataset(self, name: str, dataset: Any) -> Iterator[str]:
        how = dataset.get_create_plist()
        if how.get_layout() == h5py.h5d.VIRTUAL:
            yield f"{name} is put together from other files"
            return
        if how.get_external_count():
            yield f"{name} is stored in another file ({_words(how.get_external(0)[0])})"
            return
        kind, entries = dataset.get_type(), dataset.get_space().get_simple_extent_npoints()
        declared, stored = entries * kind.get_size(), dataset.get_storage_size()
        ragged = kind.detect_class(h5py.h5t.VLEN) or kind.detect_class(h5py.h5t.STRING)
        small = self._limits.ragged_bytes if ragged else self._limits.expanded_bytes
        if stored == 0 and declared > self._limits.unwritten_bytes:
            yield f"{name} claims {declared / 2**30:.1f} GiB and stores nothing"
        elif declared > small and declared > self._limits.expansion * stored:
            yield f"{name} expands {declared / stored:.0f} times to {declared / 2**30:.1f} GiB"
        elif isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
            longest = longest_claim(dataset, self._file.filename)
            if longest > self._size:
                yield f"{name} claims a text of {longest / 2**20:.0f} MiB, longer than the file"
        elif kind.detect_class(h5py.h5t.REFERENCE):
            yield from self._hold(name, entries, partial(h5py.Dataset(dataset).__getitem__, ()))

    def _hold(self, name: str, entries: int, read: Callable[[], Any]) -> Iterator[str]:
        """Remember where references are, which are followed once every object has been met."""
        if entries > self._limits.references:
            yield f"{name} holds {entries} references, more than {self._limits.references}"
        else:
            self._holders.append((name, read))


@dataclass(frozen=True)
class _Bare:
    """What h5py needs to read the attributes of an object that it did not open itself."""

    id: Any


def _words(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _way_out(group: h5py.Group, path: str, depth: int = 0) -> h5py.ExternalLink | None:
    """Return the link to another file that a path uses, or None if it stays inside.

    Nothing outside the file is opened. Longer chains than the library follows lead nowhere.
    """
    position: Any = group.file["/"] if path.startswith("/") else group
    for part in path.split("/"):
        if part in ("", "."):
            continue
        link = position.get(part, getlink=True) if isinstance(position, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            return link
        if isinstance(link, h5py.SoftLink):
            if depth == _MOST_LINKS:
                return None
            outside = _way_out(position, link.path, depth + 1)
            if outside is not None:
                return outside
        try:
            position = None if link is None else position.get(part)
        except RuntimeError:  # too many links, or a circle
            return None
    return None


def _flat(values: Any) -> Iterator[Any]:
    """Yield the references in whatever the library reads where there are some."""
    if isinstance(values, h5py.Reference | h5py.RegionReference):
        yield values
    elif isinstance(values, np.void) and values.dtype.names:
        for name in values.dtype.names:
            yield from _flat(values[name])
    elif isinstance(values, np.ndarray):
        if values.dtype.names:
            for name in values.dtype.names:
                yield from _flat(values[name])
        elif values.dtype.hasobject:
            for value in values.flat:
                yield from _flat(value)
