"""The layout of the CRCNS ret-1 recordings: NWB 1.0 files that keep a seed instead of a movie."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.import_choice import Choice
from retinacodec.nwb_coding import Block, note_of
from retinacodec.nwb_levels import Levels
from retinacodec.nwb_session import Prepared, Session
from retinacodec.nwb_spikes import text
from retinacodec.nwb_trains import Train

__all__ = ["Ret1"]

_MOVIES = "stimulus/presentation"
_CELLS = "processing/Cells/UnitTimes"
_BLACK_WHITE = Levels((0, 255), (-1.0, 1.0))
_RESOLUTION = 1e-4  # s: spike times are given to a tenth of a millisecond
_DOIS = ("https://doi.org/10.6080/K0RF5RZT", "https://doi.org/10.1242/dev.027912")


class Ret1:
    """Mouse retinal ganglion cells under binary noise, Meister laboratory.

    References
    ----------
    Zhang, Asari, Meister, Multi-electrode recordings from retinal ganglion cells, CRCNS.org
    (2014). Lefebvre, Zhang, Meister, Wang, Sanes, Development 135:4141 (2008).
    """

    kind = "NWB 1 recording (CRCNS ret-1)"
    example = "retinacodec import 20080606_R2.nwb --out mouse.nwb --stimulus rec_stim_2"

    def recognises(self, file: h5py.File) -> bool:
        """Tell whether a file has this layout."""
        version = file.get("nwb_version")
        return (
            isinstance(version, h5py.Dataset)
            and text(version[()]).startswith("1.")
            and _MOVIES in file
            and _CELLS in file
        )

    def contents(self, file: h5py.File) -> list[tuple[str, str]]:
        """Return what a file holds, one (name, words) for each movie and for the cells."""
        rows = []
        for name, group in file[_MOVIES].items():
            width, height = group["dimension"][()]
            rows.append(
                (
                    f"movie {name}",
                    f"{group['timestamps'].size} frames of {width} x {height}"
                    f" pixels, {text(group.attrs.get('description', ''))}",
                )
            )
        cells = file[_CELLS]
        spikes = sum(cells[cell]["times"].size for cell in cells)
        return [*rows, ("cells", f"{len(cells)} with {spikes} spikes")]

    def prepare(self, file: h5py.File, path: str, choice: Choice) -> Prepared:
        """Draw the movies again and collect everything for NWB 2.

        Parameters
        ----------
        file : h5py.File
            The open file.
        path : str
            Its name, for messages.
        choice : Choice
            Which movies; the file itself says everything else.

        Returns
        -------
        Prepared
            Movies, spikes and session.

        Raises
        ------
        RecordingError
            If a movie is not there or cannot be drawn from what the file says.
        """
        names = choice.movies(list(file[_MOVIES]), path)
        recipes = [_Recipe(file[f"{_MOVIES}/{name}"], name, path) for name in names]
        return Prepared(_blocks(recipes), _trains(file), _session(file), _RESOLUTION)


class _Recipe:
    """One movie as the file describes it."""

    def __init__(self, group: h5py.Group, name: str, path: str) -> None:
        words = text(group.attrs.get("description", ""))
        found = re.search(r"type = (\w+); seed = (-?\d+)", words)
        if not found or found[1] != "binarywhitenoise":
            raise RecordingError(
                path,
                f"{name} is {words!r}, which cannot be drawn again",
                "only binarywhitenoise with a seed is known",
            )
        self.name, self.seed = name, int(found[2])
        self.width, self.height = (int(size) for size in group["dimension"][()])
        steps = (int(group.attrs["dx"]), int(group.attrs["dy"]))
        screen_um = float(group.attrs["pixel_size"])
        self.flips: NDArray[np.float64] = group["timestamps"][()].astype(np.float64)
        self.field_um = (self.width * steps[0] * screen_um, self.height * steps[1] * screen_um)
        resolved = steps[0] if self.width > 1 else steps[1]
        self.pixel_um = resolved * screen_um
        self.parameters = {
            "type": found[1],
            "generator": "ran1",
            "pixel_steps": list(steps),
            "screen_pixel_um": screen_um,
            "white": 1,
        }

    @property
    def draws(self) -> int:
        """Bits of the whole movie."""
        return self.flips.size * self.width * self.height


def _blocks(recipes: Sequence[_Recipe]) -> list[Block]:
    """Draw each seed once: every movie is the beginning of its stream."""
    from retinacodec.ran1 import ran1_bits

    longest: dict[int, int] = {}
    for recipe in recipes:
        longest[recipe.seed] = max(longest.get(recipe.seed, 0), recipe.draws)
    bits = {seed: ran1_bits(count, seed) for seed, count in longest.items()}
    return [_block(recipe, bits[recipe.seed]) for recipe in recipes]


def _block(recipe: _Recipe, bits: NDArray[np.uint8]) -> Block:
    """Lay the bits out with y running fastest, as NWB wants (frame, x, y)."""
    shape = (recipe.flips.size, recipe.width, recipe.height)
    movie = bits[: recipe.draws].reshape(shape)
    rate = float(1 / np.median(np.diff(recipe.flips)))
    attrs = {
        "kind": "stimulus",
        "name": recipe.name,
        "frame_rate": rate,
        "seed": recipe.seed,
        "pixel_um": recipe.pixel_um,
        "parameters": json.dumps(recipe.parameters, sort_keys=True),
    }
    x_um, y_um = ((np.arange(size) - (size - 1) / 2) * recipe.pixel_um for size in shape[1:])
    return Block(
        name=recipe.name,
        description=(
            f"binary white noise, {recipe.width} x {recipe.height} pixels, drawn again "
            f"by ran1 from seed {recipe.seed}; bit 1 is taken for white, which the source "
            "does not state"
        ),
        note=note_of(attrs, frames=shape[0], y_um=y_um, x_um=x_um, levels=_BLACK_WHITE),
        shape=shape,
        dtype=np.dtype(np.uint8),
        read=lambda start, stop: movie[start:stop] * np.uint8(255),
        line=_BLACK_WHITE.line(),
        onsets=recipe.flips,
        field_um=recipe.field_um,
        exact_onsets=True,
    )


def _trains(file: h5py.File) -> list[Train]:
    """Take all spikes, with the epochs as observed intervals where they hold every spike."""
    epochs = np.array(
        sorted(
            (float(epoch["start_time"][()]), float(epoch["stop_time"][()]))
            for epoch in file.get("epochs", {}).values()
        )
    ).reshape(-1, 2)
    trains = []
    for cell, group in file[_CELLS].items():
        times = group["times"][()].astype(np.float64)
        inside = ((times[:, None] >= epochs[:, 0]) & (times[:, None] <= epochs[:, 1])).any(axis=1)
        trains.append(Train(cell, times, epochs if len(epochs) and inside.all() else None))
    return trains


def _session(file: h5py.File) -> Session:
    def fact(place: str) -> str:
        return text(file[place][()]) if place in file else ""

    first, _, last = fact("general/experimenter").rpartition(" ")
    arrays = file.get("general/extracellular_ephys", {}).values()
    probes = [group["location"][()] for group in arrays if "location" in group]
    return Session(
        description=fact("session_description"),
        experiment_description=(
            "Responses of isolated mouse retina to binary white noise, "
            "recorded with a 61-electrode array"
        ),
        start=datetime.fromisoformat(fact("session_start_time")).replace(tzinfo=UTC),
        identifier=fact("identifier"),
        session_id=fact("general/session_id"),
        experimenter=(f"{last}, {first}",) if first else (f"{last}, unknown",),
        lab=fact("general/lab"),
        institution=fact("general/institution"),
        keywords=("retina", "ganglion cell", "white noise", "multielectrode array"),
        publications=_DOIS,
        subject_id="unknown",
        species="Mus musculus",
        subject_description=text(probes[0]) if probes else "mouse retina",
        notes=(
            f"Converted from NWB {fact('nwb_version')} (CRCNS ret-1). The source states no time "
            "zone and no age: UTC and an open range stand for them."
        ),
    )
