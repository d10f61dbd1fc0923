"""Which images are in a folder, a table of paths, an archive or an array, and of which class."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from retinacodec.errors import InputError
from retinacodec.image_sources import ImageSource
from retinacodec.preprocessing import read_pixels

__all__ = ["image_arrays", "image_folder", "image_table", "open_images"]

_ENDINGS = frozenset(".png .jpg .jpeg .bmp .gif .tif .tiff .webp .ppm .pgm".split())
_ENDINGS_SAID = " ".join(sorted(_ENDINGS))
_FILE_WORDS = ("path", "file", "filename", "image")
_LABEL_WORDS = ("label", "class_index", "class", "target", "wnid")
_ARRAYS = ("images", "labels", "classes")


def open_images(source: Any, *, labels: npt.ArrayLike | None = None) -> ImageSource:
    """Open images of any kind that is understood here.

    Parameters
    ----------
    source : str, Path, array, tensor or ImageSource
        A folder (`image_folder`), a ``.tsv`` or ``.csv`` (`image_table`), an ``.npz`` with
        ``images`` and perhaps ``labels`` and ``classes``, arrays (`image_arrays`), or what is
        open already.
    labels : array_like (image,), optional
        Positions of the classes, in place of those of the source.

    Returns
    -------
    ImageSource
        The images.

    Raises
    ------
    InputError
        If it is none of these, empty, or labels do not fit.
    """
    if isinstance(source, ImageSource):
        found = source
    elif isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            found = image_folder(path)
        elif path.suffix in (".tsv", ".csv"):
            found = image_table(path)
        elif path.suffix == ".npz":
            found = _archive(path)
        else:
            raise InputError(f"images: expected a folder, .tsv, .csv or .npz, got {path}")
    else:
        found = image_arrays(source)
    return found if labels is None else replace(found, labels=_labels(labels, len(found)))


def image_folder(path: str | Path) -> ImageSource:
    """Open a folder with a folder for each class, or of images without classes.

    Parameters
    ----------
    path : str or Path
        The folder. The classes are its folders in the order of their names, numbers in them read
        as numbers; with a ``labels.tsv`` or ``labels.csv`` in it, see `image_table`. Hidden
        files and folders, whose names begin with a dot, are left out.

    Raises
    ------
    InputError
        If there is no image in it.
    """
    home = Path(path)
    for table in ("labels.tsv", "labels.csv"):
        if (home / table).is_file():
            return image_table(home / table)
    if not home.is_dir():
        raise InputError(f"images: no folder {home}")
    shown = (one for one in home.iterdir() if one.is_dir() and not one.name.startswith("."))
    rooms = sorted(shown, key=_natural)
    found = [(file, number) for number, room in enumerate(rooms) for file in _files(room)]
    if not found:
        rooms, found = [], [(file, -1) for file in _files(home)]
    if not found:
        raise InputError(f"images: no image in {home} or in its folders; endings {_ENDINGS_SAID}")
    names = [str(file.relative_to(home)) for file, _ in found]
    return _of_files([file for file, _ in found], names, [n for _, n in found], rooms)


def image_table(path: str | Path) -> ImageSource:
    """Open a table of image files and their classes.

    Parameters
    ----------
    path : str or Path
        ``.tsv`` or ``.csv`` with a header: the file, relative to the table, in a column called
        path, file, filename or image; the class in one called label, class_index, class, target
        or wnid, as a number from 0 or as a name; nothing, or -1 beside numbers, where it is not
        known. Names are numbered in their order.

    Raises
    ------
    InputError
        If the columns are not there, the table is empty, or numbers stand beside names.
    """
    table = Path(path)
    tab = "\t" if table.suffix == ".tsv" else ","
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, delimiter=tab))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"images {table}: cannot be read as a table ({error})") from error
    columns = [str(one) for one in rows[0]] if rows else []
    file = next((word for word in _FILE_WORDS if word in columns), None)
    label = next((word for word in _LABEL_WORDS if word in columns), None)
    if file is None:
        raise InputError(
            f"images {table}: expected a header with one of {', '.join(_FILE_WORDS)}, got "
            f"{', '.join(columns) or 'an empty table'}"
        )
    short = [number for number, row in enumerate(rows, 2) if not row[file]]
    if short:
        raise InputError(f"images {table}: no file in line {short[0]}")
    names = [row[file] for row in rows]
    files = [table.parent / name for name in names]
    said = [(row[label] or "").strip() for row in rows] if label else [""] * len(rows)
    if all(re.fullmatch(r"[0-9]{1,9}|-1|", one) for one in said):
        return _of_files(files, names, [int(one or -1) for one in said], [])
    _refuse_numbers(table, said)
    known = sorted(set(said) - {""}, key=lambda one: _natural(Path(one)))
    return _of_files(files, names, [known.index(s) if s else -1 for s in said], known)


def _refuse_numbers(table: Path, said: list[str]) -> None:
    """Refuse classes that are numbers in part, which would be numbered anew as if names."""
    numbers = [one for one in said if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", one)]
    if numbers:
        other = next((one for one in said if one and one not in numbers), "")
        raise InputError(
            f"images {table}: class {numbers[0]!r}{f' beside {other!r}' if other else ''}; write "
            "whole numbers from 0 (-1 where it is not known), or names, for all images"
        )


def image_arrays(images: Any, labels: npt.ArrayLike | None = None) -> ImageSource:
    """Take images that are in memory.

    Parameters
    ----------
    images : ndarray, torch.Tensor or xarray.DataArray
        Pixels (image, y, x) or (image, y, x, 3) of uint8; or floats (image, channel, y, x) that
        are preprocessed already.
    labels : array_like (image,), optional
        Positions of the classes.

    Raises
    ------
    InputError
        If they are neither, or there are none.
    """
    named = images["image"].values if "image" in getattr(images, "coords", ()) else None
    values = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
    pixels = np.asarray(getattr(values, "values", values))
    whole = pixels.dtype == np.uint8 and pixels.ndim in (3, 4)
    ready = pixels.dtype.kind == "f" and pixels.ndim == 4
    if not (whole or ready) or not len(pixels):
        raise InputError(
            "images: expected 8-bit pixels (image, y, x, 3) or preprocessed floats (image, "
            f"channel, y, x), got {pixels.dtype} {pixels.shape}"
        )
    if ready and not np.isfinite(pixels).all():
        raise InputError("images: preprocessed values are NaN or infinite; mend them first")
    classes = _labels([-1] * len(pixels) if labels is None else labels, len(pixels))
    names = np.arange(len(pixels)).astype(str) if named is None else named.astype(str)
    return ImageSource(lambda number: pixels[number], names, classes, ready=ready)


def _archive(path: Path) -> ImageSource:
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = {
                name: stored[name] for name in ("images", "labels", "classes") if name in stored
            }
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise InputError(f"images {path}: cannot be read ({error})") from error
    if "images" not in held:
        raise InputError(f"images {path}: expected an array called images")
    classes = tuple(map(str, held.get("classes", ())))
    return replace(image_arrays(held["images"], held.get("labels")), classes=classes)


def _of_files(
    files: list[Path], names: list[str], labels: list[int], classes: Sequence[Any]
) -> ImageSource:
    said = tuple(one.name if isinstance(one, Path) else str(one) for one in classes)
    return ImageSource(
        lambda number: read_pixels(files[number]),
        np.asarray(names),
        np.asarray(labels, dtype=np.int64),
        said,
    )


def _labels(labels: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    values = np.asarray(labels)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise InputError(
            f"labels: expected {count} whole numbers, one an image, got {values.dtype} "
            f"{values.shape}"
        )
    return values.astype(np.int64)


def _files(folder: Path) -> list[Path]:
    found = (one for one in folder.iterdir() if one.suffix.lower() in _ENDINGS and one.is_file())
    return sorted((one for one in found if not one.name.startswith(".")), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key by which 2 comes before 10."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(one), "") if one.isdecimal() else (-1, one) for one in pieces]
