"""The layout of full-field recordings in MATLAB: Stim, stimtimes, SpTimes and their repeats."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.import_choice import Choice
from retinacodec.import_movies import flip_rate, mapping_of, movie_block, pixel_side
from retinacodec.matlab_files import matlab_variables, read_matlab
from retinacodec.matlab_repeats import Repeats, repeats_of
from retinacodec.nwb_coding import Block
from retinacodec.nwb_contrast import Contrast
from retinacodec.nwb_session import ISOLATED_RETINA, Prepared
from retinacodec.nwb_trains import CellColumn, Train

__all__ = ["MatlabSpikes"]

_log = logging.getLogger(__name__)
_NEEDED = ("Stim", "stimtimes", "SpTimes")
_REPEATED = ("RepSpTimes", "repeatStimulusTimes", "RepStimulusExtended")
_PLACES = ("X", "Y", "Amp")
_SCALE = 1e-4  # s: times are numbers of samples at 10 kHz
_LEAD = 4000  # samples at the start in which the published preparation kept no spike
_GAP = 10_000  # samples between the movie and its repeats
_ARRAYS = "else save stimulus.npy, frame_times.npy and spikes/ and import that folder"

Array = NDArray[Any]


class MatlabSpikes:
    """Ganglion cells under full-field flicker: ``Stim``, ``stimtimes``, ``SpTimes(k).sp``.

    ``Stim`` is the light in each frame, ``stimtimes`` their onsets and ``SpTimes(k).sp`` the
    spikes of cell k, both in samples of 0.1 ms. ``RepSpTimes``, ``repeatStimulusTimes`` and
    ``RepStimulusExtended`` are spikes, starts and the light at every sample of a repeated movie.
    Variables may lie in one file or in the files of one folder, of any version of MATLAB.
    """

    kind = "MATLAB recording (Stim, stimtimes, SpTimes)"
    example = "retinacodec import rgc_salamander/ --out salamander.nwb"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a MATLAB file or a folder of them."""
        if path.is_dir():
            return any(path.glob("*.mat"))
        return path.suffix.lower() == ".mat"

    def contents(self, path: Path) -> list[tuple[str, str]]:
        """Return what is there, one (name, words) for each variable."""
        return [(name, f"in {file.name}") for name, file in matlab_variables(path).items()]

    def prepare(self, path: Path, choice: Choice) -> Prepared:
        """Collect movie, repeats and spikes for NWB 2.

        Parameters
        ----------
        path : Path
            The file or folder.
        choice : Choice
            Which movies (``flicker``, ``flicker_repeats``), the time scale and the contrast; by
            default ``(value - mean) / mean`` with the mean of ``Stim`` for both.

        Returns
        -------
        Prepared
            Movies, spikes and session.

        Raises
        ------
        RecordingError
            If the variables are others, or do not fit each other.

        Notes
        -----
        Both movies count their samples from 1. The repeats are placed one second behind the
        other movie; spikes are ``(sample + shift) / 10000`` s. Where no cell has a spike in the
        first 4000 samples, they were cut, and the cells count as observed from there on.
        """
        there = matlab_variables(path)
        _check(there, path)
        values = read_matlab(there, (*_NEEDED, *_REPEATED, *_PLACES))
        parts = [_flicker(values, path)]
        if all(name in values for name in _REPEATED):
            shift = int(parts[0].stop) + _GAP
            parts.append(_repeated(repeats_of(values, str(path)), values, shift, path))
        elif any(name in values for name in _REPEATED):
            missing = [name for name in _REPEATED if name not in values]
            _log.warning("%s: repeats are left out without %s", path, ", ".join(missing))
        wanted = choice.movies([part.name for part in parts], str(path))
        scale = choice.time_scale or _SCALE
        grey = mapping_of(parts[0].pixels, "Stim", choice, str(path))
        kept = [part for part in parts if part.name in wanted]
        blocks = [part.block(grey, scale, choice, str(path)) for part in kept]
        return Prepared(
            blocks,
            _trains(kept, scale),
            _SESSION,
            resolution=scale,
            columns=_columns(values, path),
        )


@dataclass(frozen=True)
class _Part:
    """One movie and the spikes during it, all in samples."""

    name: str
    pixels: Array  # (time, 1, 1)
    shown: Array  # (presentation, time)
    spikes: Sequence[Array]

    @property
    def stop(self) -> float:
        """First sample behind the last frame."""
        return float(self.shown[-1, -1] + np.median(np.diff(self.shown[-1])))

    def block(self, grey: Contrast, scale: float, choice: Choice, path: str) -> Block:
        shown = _seconds(self.shown, scale)
        made = movie_block(
            self.pixels,
            shown[0],
            grey,
            name=self.name,
            description="full-field flicker",
            pixel_um=pixel_side(choice, self.pixels.shape, path),
            path=path,
            parameters={"field": "full"},
            rate=flip_rate(shown[0]),
        )
        repeated = len(shown) > 1
        return replace(made, presentations=len(shown), shown=shown if repeated else None)

    def observed(self, scale: float) -> NDArray[np.float64]:
        """Return the interval in which cells were observed (1, 2), s."""
        first = float(self.shown[0, 0])
        earliest = min((float(train[0]) for train in self.spikes if train.size), default=first)
        start = first + _LEAD - 1 if earliest >= first + _LEAD - 1 else first
        return _seconds(np.array([[start, self.stop]]), scale)


def _check(there: Mapping[str, Path], path: Path) -> None:
    missing = [name for name in _NEEDED if name not in there]
    if not missing:
        return
    hint = _ARRAYS
    if path.is_file() and path.parent.is_dir() and any(name in there for name in _NEEDED):
        hint = f"are they in other files? give the folder {path.parent}; {_ARRAYS}"
    raise RecordingError(
        path, f"holds {', '.join(there) or 'nothing'}, but not {', '.join(missing)}", hint
    )


def _flicker(values: Mapping[str, Any], path: Path) -> _Part:
    stim, times = (
        _numbers(values["Stim"], "Stim", path),
        _numbers(values["stimtimes"], "stimtimes", path),
    )
    if stim.ndim != 1 or times.shape != stim.shape or stim.size < 2:
        raise RecordingError(
            path,
            f"Stim has shape {stim.shape} and stimtimes {times.shape}, expected one light value "
            "and one time a frame",
            f"for movies with pixels {_ARRAYS.removeprefix('else ')}",
        )
    if (np.diff(times) <= 0).any():
        raise RecordingError(path, "stimtimes do not increase from frame to frame")
    spikes = _spikes(values["SpTimes"], "SpTimes", path)
    return _Part("flicker", stim[:, None, None], times[None], spikes)


def _repeated(found: Repeats, values: Mapping[str, Any], shift: int, path: Path) -> _Part:
    spikes = _spikes(values["RepSpTimes"], "RepSpTimes", path)
    cells = len(values["SpTimes"])
    if len(spikes) != cells:
        raise RecordingError(path, f"RepSpTimes has {len(spikes)} cells and SpTimes {cells}")
    shifted = [train + shift for train in spikes]
    return _Part("flicker_repeats", found.pixels[:, None, None], found.shown + shift, shifted)


def _spikes(cells: Any, name: str, path: Path) -> list[Array]:
    if not isinstance(cells, list) or not all(
        isinstance(cell, dict) and "sp" in cell for cell in cells
    ):
        raise RecordingError(
            path, f"{name} is no structure with the field sp, one element a cell", _ARRAYS
        )
    trains = [
        np.atleast_1d(_numbers(cell["sp"], f"{name}({number}).sp", path))
        for number, cell in enumerate(cells, 1)
    ]
    for number, train in enumerate(trains, 1):
        falls = int((np.diff(train) < 0).sum())
        if falls:
            _log.warning(
                "%s: %s(%d).sp is out of order %d times; sorted", path, name, number, falls
            )
    return [np.sort(train) for train in trains]


def _numbers(value: Any, name: str, path: Path) -> Array:
    """Return finite numbers, whole ones as 64-bit integers."""
    array = np.asarray(value)
    if isinstance(value, list) or array.dtype.kind not in "iufb" or not np.isfinite(array).all():
        raise RecordingError(path, f"{name} holds no finite numbers", _ARRAYS)
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)


def _seconds(samples: Array, scale: float) -> NDArray[np.float64]:
    """Divide by the samples of a second where they are a whole number, which rounds once."""
    rate = round(1 / scale)
    whole = rate > 0 and abs(1 / scale - rate) < 1e-6
    return np.asarray(samples / rate if whole else samples * scale, np.float64)


def _trains(parts: Sequence[_Part], scale: float) -> list[Train]:
    observed = np.concatenate([part.observed(scale) for part in parts])
    return [
        Train(
            f"cell_{number}",
            _seconds(np.concatenate([part.spikes[number - 1] for part in parts]), scale),
            observed,
        )
        for number in range(1, 1 + len(parts[0].spikes))
    ]


def _columns(values: Mapping[str, Any], path: Path) -> list[CellColumn]:
    """Return every number that the structure has for each cell, and where its electrode is."""
    cells = values["SpTimes"]
    columns = []
    for field in cells[0] if cells else ():
        facts = [cell.get(field) for cell in cells]
        if field != "sp" and all(isinstance(one, np.ndarray) and one.size == 1 for one in facts):
            numbers = np.array([one.item() for one in facts])
            small = set(np.unique(numbers)) == {0, 1}
            kept = numbers.astype(np.int8) if small else numbers
            words = f"{field} of the cell in SpTimes, as the source numbers it"
            columns.append(CellColumn(str(field).lower(), words, list(kept)))
    return [*columns, *_positions(values, cells, path)]


def _positions(values: Mapping[str, Any], cells: Sequence[Any], path: Path) -> list[CellColumn]:
    """Look up the electrode of each cell, in the matrix of its amplifier, in ``X`` and ``Y``."""
    if not all(isinstance(values.get(name), np.ndarray) for name in ("X", "Y")):
        return []
    x, y = values["X"], values["Y"]
    if x.size == y.size == len(cells):
        places = list(range(len(cells)))
    else:
        places = _electrodes(values.get("Amp"), cells, x.shape)
    if not places:
        _log.warning(
            "%s: %d positions for %d cells are left out: which belongs to which is in the "
            "matrices Amp of IndexMatrix1.mat, which is not there",
            path,
            x.size,
            len(cells),
        )
        return []
    words = "position of the cell's electrode, in the unit of the source, which does not state it"
    return [
        CellColumn(f"electrode_{axis}", f"{axis} {words}", np.ravel(grid)[places].tolist())
        for axis, grid in (("x", x), ("y", y))
    ]


def _electrodes(amplifiers: Any, cells: Sequence[Any], shape: tuple[int, ...]) -> list[int]:
    """Return the place of each cell's channel in the matrix of its amplifier."""
    if not isinstance(amplifiers, list) or any(np.shape(one) != shape for one in amplifiers):
        return []
    places = []
    for cell in cells:
        number, channel = (int(np.ravel(cell.get(field, [0]))[0]) for field in ("Amp", "channel"))
        if not 1 <= number <= len(amplifiers):
            return []
        found = np.flatnonzero(np.ravel(amplifiers[number - 1]) == channel)
        if found.size != 1:
            return []
        places.append(int(found[0]))
    return places


_SESSION = replace(
    ISOLATED_RETINA,
    description="Recording of isolated retina under full-field flicker, converted from MATLAB.",
    experiment_description="Responses of retinal ganglion cells to full-field flicker.",
    keywords=("retina", "ganglion cell", "full-field flicker", "multielectrode array"),
    notes=(
        "The source states no animal (a salamander is taken), no date (that of the conversion "
        "stands for it) and no size of the field. The repeats counted their time from zero and "
        "were placed one second after the other movie."
    ),
)
