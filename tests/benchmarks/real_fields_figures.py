"""The receptive fields of two real recordings beside those of models, as figures."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from real_recordings import mouse, salamander

from retinacodec.analyses import (
    compare_with_average,
    field_gallery,
    fields_table,
    kernel_gallery,
    spike_triggered_average,
    sta_significance,
)

__all__ = ["draw_mouse", "draw_salamander"]

_NEAR = 7  # pixels of the square that is scored


def draw_mouse(quick: bool, file: Path) -> None:
    """Draw the fields of the mouse's cells beside the network's mean fields on held-out frames."""
    found = mouse()
    if found is None:
        return
    averages = spike_triggered_average(found.movie, found.recording, history=30)
    chance = sta_significance(found.movie, found.recording, history=30)
    table = fields_table(averages, p_values=chance["p"])
    agreement = compare_with_average(
        found.circuits["CNN"],
        found.movie,
        found.recording,
        frames=found.split.test,
        every=20 if quick else None,
        window=_NEAR,
        progress=False,
    )
    drawing = field_gallery(averages, table, model=agreement["field"], agreement=agreement)
    drawing.savefig(file, dpi=200)


def draw_salamander(quick: bool, file: Path) -> None:
    """Draw all time courses of the salamander's cells, and how models agree with them."""
    found = salamander(quick=quick)
    if found is None:
        return
    averages = spike_triggered_average(found.movie, found.recording, history=20)
    chance = sta_significance(found.movie, found.recording, history=20)
    table = fields_table(averages, p_values=chance["p"])
    agreements = [
        compare_with_average(
            circuit, found.movie, found.recording, frames=found.split.test, progress=False
        )
        for circuit in found.circuits.values()
    ]
    names = xr.DataArray(list(found.circuits), dims="model", name="model")
    agreement = xr.concat([one.drop_vars(["field", "average"]) for one in agreements], names)
    kernel_gallery(table, agreement=agreement).savefig(file, dpi=200)
