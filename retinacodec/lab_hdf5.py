"""The layout of the salamander recordings of the Baccus laboratory: HDF5 with train and test."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import blaming
from retinacodec.import_choice import Choice
from retinacodec.nwb_coding import Block, note_of
from retinacodec.nwb_contrast import Contrast
from retinacodec.nwb_levels import Levels
from retinacodec.nwb_pixels import Extent
from retinacodec.nwb_session import Prepared, Session
from retinacodec.nwb_trains import Train, trains_of_counts
from retinacodec.recordings import frame_durations
from retinacodec.schema import make_recording

__all__ = ["LabHdf5"]

_PARTS = ("train", "test")
_BIN_S = 0.01  # where the file gives no times: one frame a bin of 10 ms


class LabHdf5:
    """``train`` and ``test``, each with ``stimulus`` (time, y, x) and ``response/binned``.

    References
    ----------
    Maheswaranathan, McIntosh, Tanaka, Grant, Kastner, Melander, Nayebi, Brezovec, Wang, Ganguli,
    Baccus, Interpreting the retinal neural code for natural scenes, Neuron 111:2742 (2023).
    """

    kind = "laboratory HDF5 (train and test)"

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
            If there are no spike counts, or the pixel size or the contrast is not known.
        """
        parts = choice.movies(self._parts(file), path)
        if choice.pixel_um is None:
            raise RecordingError(
                path,
                "does not say how large its pixels are on the retina",
                "give pixel_um= (about 55 in the published recordings)",
            )
        contrast = _contrast(file, self._parts(file)[0], choice, path)
        blocks, recordings, clock = [], [], 0.0
        for part in parts:
            counts = _counts(file, part, path)
            block = _block(file, part, choice.pixel_um, contrast, path)
            if block.onsets[0] < clock:  # both parts count their time from zero
                block = replace(block, onsets=block.onsets - block.onsets[0] + clock)
            clock = float(block.onsets[-1] + frame_durations(block.onsets)[-1]) + 1.0
            blocks.append(block)
            recordings.append(
                make_recording(
                    counts,
                    time=block.onsets,
                    frame_rate=block.frame_rate,
                    cells=[f"cell{cell:02d}" for cell in range(counts.shape[1])],
                )
            )
        trains: list[Train] = trains_of_counts(recordings, blocks)
        return Prepared(blocks, trains, _SESSION)

    def _parts(self, file: h5py.File) -> list[str]:
        return [part for part in _PARTS if f"{part}/stimulus" in file]


_SESSION = Session(
    description="Recording of isolated retina, converted from laboratory HDF5.",
    experiment_description="Responses of retinal ganglion cells to visual stimuli.",
    experimenter=("Unknown, unknown",),
    lab="unknown",
    institution="unknown",
    keywords=("retina", "ganglion cell", "visual stimulus"),
    subject_id="unknown",
    species="Ambystoma tigrinum",
    subject_description="isolated retina",
    notes=(
        "Spike times are spaced evenly inside each bin, because the source holds counts. The "
        "session start is that of the conversion; a test part that counted its time from zero "
        "was placed one second after the training part."
    ),
)


def _contrast(file: h5py.File, part: str, choice: Choice, path: str) -> Contrast:
    contrast = choice.contrast or Contrast()
    if contrast.grey is not None:
        return contrast
    data, extent = file[f"{part}/stimulus"], Extent()
    for chunk in range(0, len(data), 1000):
        extent.add(data[chunk : chunk + 1000])
    grey = extent.mean(f"{part}/stimulus", path, light=contrast.span is None)
    return replace(contrast, grey=grey)


def _counts(file: h5py.File, part: str, path: str) -> NDArray[np.float32]:
    """Return counts (time, cell); rates that were smoothed cannot become spikes."""
    binned = file.get(f"{part}/response/binned")
    frames = len(file[f"{part}/stimulus"])
    if not isinstance(binned, h5py.Dataset):
        raise RecordingError(
            path,
            f"{part}/response holds {', '.join(file[f'{part}/response'])} "
            "but no spike counts (binned)",
            "smoothed rates are no spikes",
        )
    if binned.ndim != 2 or binned.shape[1] != frames:
        raise RecordingError(
            path, f"{part}/response/binned has shape {binned.shape}, expected (cell, {frames})"
        )
    return np.asarray(binned[()], np.float32).T


def _block(file: h5py.File, part: str, pixel_um: float, contrast: Contrast, path: str) -> Block:
    data = file[f"{part}/stimulus"]
    frames, height, width = data.shape
    levels = None
    if data.dtype == np.uint8:
        greys = np.arange(256)
        values = contrast.of(greys).astype(np.float64)
        levels = Levels(tuple(greys.tolist()), tuple(values.tolist()))
    onsets = _onsets(file, part, frames, path)
    rate = float(1 / np.median(np.diff(onsets)))
    parameters = {"grey": contrast.grey, "span": contrast.span, "part": part}
    attrs = {
        "kind": "stimulus",
        "name": part,
        "frame_rate": rate,
        "pixel_um": pixel_um,
        "parameters": json.dumps(parameters, sort_keys=True),
    }
    y_um, x_um = ((np.arange(size) - (size - 1) / 2) * pixel_um for size in (height, width))

    def read(start: int, stop: int) -> NDArray[np.generic]:
        with blaming(path):
            values = data[start:stop].transpose(0, 2, 1)
        return values if levels else contrast.of(values)

    return Block(
        name=part,
        description=f"movie of the {part} part, {width} x {height} pixels",
        note=note_of(attrs, frames=frames, y_um=y_um, x_um=x_um, levels=levels),
        shape=(frames, width, height),
        dtype=np.dtype(np.uint8 if levels else np.float32),
        read=read,
        line=levels.line() if levels else (1.0, 0.0),
        onsets=onsets,
        field_um=(width * pixel_um, height * pixel_um),
        exact_onsets=True,
    )


def _onsets(file: h5py.File, part: str, frames: int, path: str) -> NDArray[np.float64]:
    if f"{part}/time" not in file:
        return np.arange(frames, dtype=np.float64) * _BIN_S
    onsets: NDArray[np.float64] = file[f"{part}/time"][()].astype(np.float64).ravel()
    if onsets.size != frames:
        raise RecordingError(path, f"{part}/time has {onsets.size} times for {frames} frames")
    return onsets
