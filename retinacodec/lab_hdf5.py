"""The layout of the salamander recordings of the Baccus laboratory: HDF5 with train and test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.import_choice import Choice
from retinacodec.import_movies import checked_flips, mapping_of, movie_block, pixel_side
from retinacodec.lab_responses import Responses, responses_of
from retinacodec.nwb_coding import Block
from retinacodec.nwb_session import ISOLATED_RETINA, Prepared
from retinacodec.nwb_traces import Trace
from retinacodec.nwb_trains import trains_of_counts
from retinacodec.schema import make_recording

__all__ = ["LabHdf5"]

_log = logging.getLogger(__name__)
_PARTS = ("train", "test")
_BIN_S = 0.01  # where the file gives no times: one frame a bin of 10 ms


class LabHdf5:
    """``train`` and ``test``, each with ``stimulus`` (time, y, x) and ``response``.

    ``response`` holds ``binned`` counts or smoothed rates (cell, time), and ``repeats`` what the
    cells did in each repeat of the test movie. The movie of a part with repeats becomes that many
    presentations, back to back.

    References
    ----------
    Maheswaranathan, McIntosh, Tanaka, Grant, Kastner, Melander, Nayebi, Brezovec, Wang, Ganguli,
    Baccus, Interpreting the retinal neural code for natural scenes, Neuron 111:2742 (2023).
    """

    kind = "laboratory HDF5 (train and test)"
    example = "retinacodec import naturalscene.h5 --out cells.nwb --pixel-um 55"

    def recognises(self, file: h5py.File) -> bool:
        """Tell whether a file has this layout."""
        return any(
            isinstance(file.get(f"{part}/stimulus"), h5py.Dataset) and f"{part}/response" in file
            for part in _PARTS
        )

    def contents(self, file: h5py.File) -> list[tuple[str, str]]:
        """Return what a file holds, one (name, words) for each part."""
        rows = []
        for part in self._parts(file):
            frames, height, width = file[f"{part}/stimulus"].shape
            kinds = ", ".join(file[f"{part}/response"])
            rows.append(
                (
                    f"movie {part}",
                    f"{frames} frames of {width} x {height} pixels; responses: {kinds}",
                )
            )
        return rows

    def prepare(self, file: h5py.File, path: str, choice: Choice) -> Prepared:
        """Collect movies and counts for NWB 2.

        Parameters
        ----------
        file : h5py.File
            The open file.
        path : str
            Its name, for messages.
        choice : Choice
            Which parts, the pixel size (which the file does not hold) and the contrast; by
            default ``(value - mean) / mean`` with the mean of the training movie for both parts.

        Returns
        -------
        Prepared
            Movies, spikes and session; the pixels are read when they are written.

        Raises
        ------
        RecordingError
            If shapes do not fit, or the pixel size or the contrast is not known.
        """
        parts = choice.movies(self._parts(file), path)
        first = self._parts(file)[0]
        data = {part: _pixels(file, part, path) for part in {first, *parts}}
        pixel_um = pixel_side(choice, data[first].shape, path)
        contrast = mapping_of(data[first], f"{first}/stimulus", choice, path)
        if "stas" in file.get("train", ()):
            _log.warning("%s: train/stas are computed from the spikes and left out", path)
        blocks: list[Block] = []
        found: list[Responses] = []
        for part in parts:
            frames = len(data[part])
            found.append(responses_of(file, part, frames, path, choice.repeat_axes))
            block = movie_block(
                data[part],
                _onsets(file, part, frames, choice, path),
                contrast,
                name=part,
                description=f"movie of the {part} part",
                pixel_um=pixel_um,
                path=path,
                parameters={"part": part},
            )
            blocks.append(_after(blocks, replace(block, presentations=found[-1].shape[0])))
        return _prepared(blocks, found, path)

    def _parts(self, file: h5py.File) -> list[str]:
        return [part for part in _PARTS if f"{part}/stimulus" in file]


_SESSION = replace(
    ISOLATED_RETINA,
    description="Recording of isolated retina, converted from laboratory HDF5.",
    notes=(
        "Spike times are spaced evenly inside each bin, because the source holds counts. The "
        "session start is that of the conversion; a test part that counted its time from zero "
        "was placed one second after the training part, and its repeats follow one another at "
        "once."
    ),
)


def _pixels(file: h5py.File, part: str, path: str) -> h5py.Dataset:
    data = file[f"{part}/stimulus"]
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        raise RecordingError(
            path, f"{part}/stimulus has shape {data.shape} of {data.dtype}, expected (time, y, x)"
        )
    return data


def _after(earlier: Sequence[Block], block: Block) -> Block:
    """Shift a part behind those before it, if all count their time from zero."""
    clock = earlier[-1].spans()[-1][1] + 1.0 if earlier else 0.0
    if block.onsets[0] >= clock:
        return block
    return replace(block, onsets=block.onsets - block.onsets[0] + clock)


def _prepared(blocks: Sequence[Block], found: Sequence[Responses], path: str) -> Prepared:
    """Make spikes of counts, and series of rates."""
    cells = {one.shape[2] for one in found}
    if len(cells) > 1:
        raise RecordingError(path, f"parts have different numbers of cells: {sorted(cells)}")
    names = [f"cell{cell:02d}" for cell in range(cells.pop())]
    counted, recordings, traces = [], [], []
    for block, one in zip(blocks, found, strict=True):
        for name, values in one.rates.items():
            flat = values.reshape(-1, len(names))
            traces.append(Trace(name, tuple(names), block.all_onsets(), flat, "Hz"))
        if one.counts is not None:
            counted.append(block)
            recordings.append(_recording(one.counts, block, names))
    trains = trains_of_counts(recordings, counted) if counted else []
    return Prepared(blocks, trains, _SESSION, traces=traces)


def _recording(counts: NDArray[np.float32], block: Block, cells: Sequence[str]) -> xr.Dataset:
    repeated = len(counts) > 1
    return make_recording(
        np.nan_to_num(counts).mean(axis=0) if repeated else counts[0],
        repeats=counts if repeated else None,
        time=block.onsets,
        frame_rate=block.frame_rate,
        cells=cells,
    )


def _onsets(
    file: h5py.File, part: str, frames: int, choice: Choice, path: str
) -> NDArray[np.float64]:
    if choice.frame_rate is not None:
        return np.arange(frames, dtype=np.float64) / choice.frame_rate
    if f"{part}/time" not in file:
        _log.warning("%s: %s has no time; frames of 10 ms are taken (frame_rate=)", path, part)
        return np.arange(frames, dtype=np.float64) * _BIN_S
    return checked_flips(file[f"{part}/time"][()], frames, f"{part}/time", path)
