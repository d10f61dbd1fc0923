"""The layout of intracellular recordings in laboratory HDF5: boxes and lines with potentials."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.import_choice import Choice
from retinacodec.import_movies import checked_flips, mapping_of, movie_block, pixel_side
from retinacodec.nwb_coding import Block
from retinacodec.nwb_contrast import Contrast
from retinacodec.nwb_session import ISOLATED_RETINA, Prepared
from retinacodec.nwb_traces import Trace

__all__ = ["InterneuronHdf5"]

_log = logging.getLogger(__name__)
_MOVIES = ("boxes", "lines")
_POTENTIAL = "detrended_membrane_potential"
_FRAME_S = 0.01  # where the file gives no times
_BINARY = Contrast(grey=0.5, span=0.5)  # 0 and 1 become -1 and 1


class InterneuronHdf5:
    """``boxes`` and ``lines``, each with ``stimulus`` and ``detrended_membrane_potential``.

    The stimulus is (time, y, x), or (time, x) for bars, which become a movie of one row; the
    potential (cell, time) has one sample a frame, in mV. Stimuli of 0 and 1 become contrasts of
    -1 and 1. Frames are those of ``time`` in each group, else 10 ms.

    References
    ----------
    Maheswaranathan, McIntosh, Tanaka, Grant, Kastner, Melander, Nayebi, Brezovec, Wang, Ganguli,
    Baccus, Interpreting the retinal neural code for natural scenes, Neuron 111:2742 (2023).
    """

    kind = "intracellular HDF5 (boxes and lines)"
    example = "retinacodec import bipolars.h5 --out cells.nwb --pixel-um 50"

    def recognises(self, file: h5py.File) -> bool:
        """Tell whether a file has this layout."""
        return bool(self._there(file))

    def contents(self, file: h5py.File) -> list[tuple[str, str]]:
        """Return what a file holds, one (name, words) for each movie."""
        rows = []
        for name in self._there(file):
            shape = file[f"{name}/stimulus"].shape
            pixels = " x ".join(map(str, shape[:0:-1])) or "1"
            cells = np.atleast_2d(file[f"{name}/{_POTENTIAL}"]).shape[0]
            rows.append(
                (f"movie {name}", f"{shape[0]} frames of {pixels} pixels; potential of {cells}")
            )
        return rows

    def prepare(self, file: h5py.File, path: str, choice: Choice) -> Prepared:
        """Collect movies and potentials for NWB 2.

        Parameters
        ----------
        file : h5py.File
            The open file.
        path : str
            Its name, for messages.
        choice : Choice
            Which movies, the pixel size, which the file does not hold, and for stimuli of other
            values than 0 and 1 the contrast.

        Returns
        -------
        Prepared
            Movies, potentials and session.

        Raises
        ------
        RecordingError
            If shapes do not fit, or the pixel size or the contrast is not known.
        """
        blocks: list[Block] = []
        traces: list[Trace] = []
        clock = 0.0
        for name in choice.movies(self._there(file), path):
            pixels = _pixels(file[f"{name}/stimulus"], path)
            onsets = _onsets(file[name], len(pixels), choice, path)
            if onsets[0] < clock:
                onsets = onsets - onsets[0] + clock
            block = movie_block(
                pixels,
                onsets,
                _contrast(pixels, name, choice, path),
                name=name,
                description="binary noise of boxes" if name == "boxes" else "noise of bars",
                pixel_um=pixel_side(choice, pixels.shape, path),
                path=path,
                parameters={"part": name},
            )
            clock = block.spans()[-1][1] + 1.0
            blocks.append(block)
            traces.append(_potentials(file[f"{name}/{_POTENTIAL}"], block, path))
        return Prepared(blocks, [], _SESSION, traces=traces)

    def _there(self, file: h5py.File) -> list[str]:
        return [
            name
            for name in _MOVIES
            if isinstance(file.get(f"{name}/stimulus"), h5py.Dataset)
            and isinstance(file.get(f"{name}/{_POTENTIAL}"), h5py.Dataset)
        ]


_SESSION = replace(
    ISOLATED_RETINA,
    description="Intracellular recording of isolated retina, converted from laboratory HDF5.",
    experiment_description="Membrane potential of retinal interneurons under visual stimuli.",
    keywords=("retina", "interneuron", "membrane potential", "visual stimulus"),
    notes=(
        "Potentials were detrended by the source. The session start is that of the conversion; "
        "movies that counted their time from zero were placed one second after one another."
    ),
)


def _pixels(data: h5py.Dataset, path: str) -> Any:
    """Return (time, y, x); bars and full fields get the axes they lack."""
    if data.ndim not in (1, 2, 3) or data.dtype.kind not in "iufb":
        raise RecordingError(
            path, f"{data.name[1:]} has shape {data.shape} of {data.dtype}, expected (time, y, x)"
        )
    if data.ndim == 3 and data.dtype.kind != "b":
        return data
    values = data[()]
    values = values.astype(np.uint8) if values.dtype == bool else values
    return values.reshape(len(values), *(1,) * (3 - values.ndim), *values.shape[1:])


def _contrast(pixels: Any, name: str, choice: Choice, path: str) -> Contrast:
    if choice.contrast is None and set(np.unique(pixels[:])) == {0, 1}:
        return _BINARY
    return mapping_of(pixels, f"{name}/stimulus", choice, path)


def _onsets(group: h5py.Group, frames: int, choice: Choice, path: str) -> NDArray[np.float64]:
    what = f"{group.name[1:]}/time"
    if choice.frame_rate is not None:
        return np.arange(frames, dtype=np.float64) / choice.frame_rate
    if "time" not in group:
        _log.warning("%s: no %s; frames of 10 ms are taken (frame_rate=)", path, what)
        return np.arange(frames, dtype=np.float64) * _FRAME_S
    return checked_flips(group["time"][()], frames, what, path)


def _potentials(data: h5py.Dataset, block: Block, path: str) -> Trace:
    frames = block.shape[0]
    values = np.atleast_2d(np.asarray(data[()], np.float32))
    if values.ndim != 2 or values.shape[1] != frames:
        raise RecordingError(
            path, f"{data.name[1:]} has shape {data.shape}, expected (cell, {frames})"
        )
    cells = tuple(f"cell{cell:02d}" for cell in range(len(values)))
    return Trace("membrane_potential", cells, block.onsets, values.T, "mV")
