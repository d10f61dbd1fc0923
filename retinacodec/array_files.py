"""Recordings as plain arrays: a folder or .npz with stimulus, frame times and spikes."""

from __future__ import annotations

import csv
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.import_choice import Choice
from retinacodec.import_movies import checked_flips, mapping_of, movie_block, pixel_side
from retinacodec.nwb_session import ISOLATED_RETINA, Prepared
from retinacodec.nwb_trains import Train

__all__ = ["ArrayFiles"]

_log = logging.getLogger(__name__)
_STIMULUS, _TIMES, _SPIKES = "stimulus", "frame_times", "spikes"
_MOST_EXPANSION, _LARGE = 300.0, 2 << 30
_HELP = (
    "spikes/ with one .npy or .txt a cell, spikes.csv with columns cell and time, or spikes.npz "
    "with one array a cell"
)

Array = NDArray[Any]


class ArrayFiles:
    """A folder of arrays, or one ``.npz`` with the same names.

    ``stimulus.npy`` (time, y, x), or (time,) for a full field; ``frame_times.npy`` (time,), s,
    or a frame rate; and the spikes of each cell, s, as ``spikes/NAME.npy`` or ``.txt``,
    ``spikes.csv`` with the columns cell and time, or ``spikes.npz``. In one ``.npz`` the spikes
    are arrays called ``spikes_NAME``. Python objects are never loaded.
    """

    kind = "arrays (stimulus, frame_times, spikes)"
    example = "retinacodec import folder/ --out cells.nwb --pixel-um 50 --frame-rate 30"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is such a folder or file."""
        if path.is_dir():
            return (path / f"{_STIMULUS}.npy").is_file() or any(
                (path / name).exists() for name in (_SPIKES, f"{_SPIKES}.csv", f"{_SPIKES}.npz")
            )
        if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
            names = {Path(name).stem for name in zipfile.ZipFile(path).namelist()}
            return _STIMULUS in names or any(name.startswith(f"{_SPIKES}_") for name in names)
        return path.name == f"{_STIMULUS}.npy"

    def contents(self, path: Path) -> list[tuple[str, str]]:
        """Return what is there, in rows of name and words."""
        place = _home(path)
        arrays = _arrays(place)
        rows = [(name, f"{one.dtype} {one.shape}") for name, one in arrays.items()]
        trains = _trains(place, arrays, 1.0)
        return [*rows, ("cells", f"{len(trains)} with {sum(t.times.size for t in trains)} spikes")]

    def prepare(self, path: Path, choice: Choice) -> Prepared:
        """Collect movie and spikes for NWB 2.

        Parameters
        ----------
        path : Path
            The folder or file.
        choice : Choice
            Pixel size, and frame rate or contrast where the arrays do not tell.

        Returns
        -------
        Prepared
            Movie, spikes and session.

        Raises
        ------
        RecordingError
            If something is missing (the message names the file or option that gives it) or broken.
        """
        place = _home(path)
        arrays, scale = _arrays(place), choice.time_scale or 1.0
        choice.movies([_STIMULUS], str(path))
        if _STIMULUS not in arrays:
            raise RecordingError(path, "has no stimulus.npy (time, y, x)", "save the frames there")
        pixels = _pixels(arrays[_STIMULUS], path)
        onsets = _onsets(arrays, len(pixels), choice, scale, path)
        trains = _trains(place, arrays, scale)
        if not trains:
            raise RecordingError(path, "has no spikes", f"add {_HELP}")
        block = movie_block(
            pixels,
            onsets,
            mapping_of(pixels, "stimulus.npy", choice, str(path)),
            name=_STIMULUS,
            description="movie that was given as an array",
            pixel_um=pixel_side(choice, pixels.shape, str(path)),
            path=str(path),
            parameters={},
            rate=choice.frame_rate,
        )
        return Prepared([block], trains, _SESSION)


def _home(path: Path) -> Path:
    """Return the folder of a stimulus.npy, and anything else as it is."""
    return path.parent if path.name == f"{_STIMULUS}.npy" else path


def _arrays(path: Path) -> dict[str, Array]:
    """Open stimulus and frame times, and the spikes of a file that holds everything."""
    if path.is_dir():
        files = {name: path / f"{name}.npy" for name in (_STIMULUS, _TIMES)}
        return {name: _npy(file) for name, file in files.items() if file.is_file()}
    return _npz(path)


def _npy(path: Path) -> Array:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise RecordingError(path, *_why(error)) from error
    return _numbers(loaded, path.name, path)


def _npz(path: Path) -> dict[str, Array]:
    """Read arrays from a zip file that does not claim absurd sizes."""
    try:
        with zipfile.ZipFile(path) as packed:
            sizes = [(one.file_size, max(1, one.compress_size)) for one in packed.infolist()]
        if any(size > _LARGE and size > _MOST_EXPANSION * held for size, held in sizes):
            raise RecordingError(path, "expands to absurd sizes", "save it again")
        with np.load(path, allow_pickle=False) as stored:
            return {name: _numbers(stored[name], name, path) for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise RecordingError(path, *_why(error)) from error


def _why(error: Exception) -> tuple[str, str]:
    if "pickle" in str(error) or "Python objects" in str(error):
        return "holds Python objects, which are never loaded", "save plain numbers instead"
    return f"holds no plain arrays: {' '.join(str(error).split())[:200]}", "save it again"


def _numbers(array: Any, name: str, path: Path) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise RecordingError(
            path, f"{name} holds {getattr(array, 'dtype', 'no array')}", "save plain numbers"
        )
    return array


def _pixels(stimulus: Array, path: Path) -> Array:
    if stimulus.ndim not in (1, 3) or stimulus.size == 0:
        raise RecordingError(
            path,
            f"stimulus has shape {stimulus.shape}, expected (time, y, x), or (time,) for a full "
            "field",
        )
    pixels = stimulus.astype(np.uint8) if stimulus.dtype == bool else stimulus
    return pixels if pixels.ndim == 3 else pixels[:, None, None]


def _onsets(
    arrays: Mapping[str, Array], frames: int, choice: Choice, scale: float, path: Path
) -> NDArray[np.float64]:
    if _TIMES in arrays:
        if choice.frame_rate is not None:
            _log.warning("%s: frame_times are there; frame_rate= is not used for them", path)
        return checked_flips(arrays[_TIMES], frames, _TIMES, str(path)) * scale
    if choice.frame_rate is None:
        raise RecordingError(
            path,
            "has no frame_times.npy (s)",
            "add it, or give frame_rate= if the first frame began at 0 s and none was dropped",
        )
    return checked_flips(np.arange(frames) / choice.frame_rate, frames, _TIMES, str(path))


def _trains(place: Path, arrays: Mapping[str, Array], scale: float) -> list[Train]:
    """Read the spikes of each cell from the one place where they are."""
    if not place.is_dir():
        found = {
            name.removeprefix(f"{_SPIKES}_"): one
            for name, one in arrays.items()
            if name.startswith(f"{_SPIKES}_")
        }
        return [_train(cell, times, scale, place) for cell, times in found.items()]
    ways = [place / name for name in (_SPIKES, f"{_SPIKES}.csv", f"{_SPIKES}.npz")]
    there = [way for way in ways if way.exists()]
    if len(there) > 1:
        names = " and ".join(way.name for way in there)
        raise RecordingError(place, f"has spikes in {names}", "keep one of them")
    if not there:
        return []
    read = {"": _folder, ".csv": _table, ".npz": _npz}[there[0].suffix]
    return [_train(cell, times, scale, there[0]) for cell, times in read(there[0]).items()]


def _train(cell: str, times: Array, scale: float, path: Path) -> Train:
    values = np.asarray(times, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise RecordingError(
            path, f"cell {cell}: expected finite times in one dimension, got shape {values.shape}"
        )
    falls = int((np.diff(values) < 0).sum())
    if falls:
        words = "%s: times of cell %s fall back in %d places; they are put in order"
        _log.warning(words, path, cell, falls)
    return Train(cell, np.sort(values * scale if scale != 1 else values))


def _folder(path: Path) -> dict[str, Array]:
    files = sorted(file for file in path.iterdir() if file.suffix in (".npy", ".txt"))
    twice = {file.stem for file in files if sum(one.stem == file.stem for one in files) > 1}
    if twice:
        raise RecordingError(path, f"has cells twice: {sorted(twice)}", "keep one file a cell")
    return {file.stem: _npy(file) if file.suffix == ".npy" else _text(file) for file in files}


def _text(path: Path) -> Array:
    try:
        return np.array(path.read_text().replace(",", " ").split(), dtype=np.float64)
    except (ValueError, OSError) as error:
        raise RecordingError(path, "holds other than times", "save numbers only") from error


def _table(path: Path) -> dict[str, Array]:
    """Read rows of cell and time, in the order in which the cells first appear."""
    trains: dict[str, list[float]] = {}
    with path.open(newline="", errors="replace") as lines:
        for number, row in enumerate(csv.reader(lines), 1):
            words = [word.strip() for word in row]
            if not any(words) or (number == 1 and words == ["cell", "time"]):
                continue
            try:
                cell, time = words
                trains.setdefault(cell, []).append(float(time))
            except ValueError as error:
                raise RecordingError(
                    path, f"line {number} is {','.join(row)[:60]!r}", "expected cell,time"
                ) from error
    return {cell: np.array(times) for cell, times in trains.items()}


_SESSION = replace(
    ISOLATED_RETINA,
    description="Recording of isolated retina, converted from arrays.",
    experiment_description="Responses of retinal cells to a movie.",
    species="http://purl.obolibrary.org/obo/NCBITaxon_7742",
    subject_description="isolated retina; the arrays name no animal (a vertebrate)",
    notes="The session start is that of the conversion.",
)
