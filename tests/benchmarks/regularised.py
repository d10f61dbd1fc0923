"""Regularised fields of the mouse as filters, on blocks of time that were held out."""

from __future__ import annotations

import numpy as np
import torch
from meter import measure, report
from real_recordings import mouse

from retinacodec.analyses import regularised_fields
from retinacodec.analyses.triggered_responses import triggered_responses
from retinacodec.field_priors import Ridge, Smooth, Splines
from retinacodec.lagged_products import filtered
from retinacodec.row_splits import TimeBlocks
from retinacodec.triggered_sums import triggered_sum

__all__ = ["mouse_regularised"]

_HISTORY, _WINDOW = 24, 8


def mouse_regularised(quick: bool) -> None:
    """Held-out correlation of averages, ridge, splines and smooth fields with spikes."""
    found = mouse()
    if found is None:
        return
    movie, recording = found.movie, found.recording
    if quick:
        movie, recording = (one.isel(time=slice(12_000)) for one in (movie, recording))
    contrast = movie["contrast"].values
    used = np.arange(_HISTORY - 1, len(contrast))
    fitted, chosen, scored = (used[part] for part in TimeBlocks(gap=_HISTORY).thirds(used.size))
    train = np.sort(np.concatenate([fitted, chosen]))
    past = {"history": _HISTORY}
    counts = triggered_responses(movie, recording, **past).weights[scored]
    centred = triggered_responses(movie, recording, **past, frames=train).centred
    average = measure(
        lambda: triggered_sum(
            torch.from_numpy(contrast), torch.from_numpy(centred), _HISTORY
        ).numpy(),
        repeats=1,
    )
    drive = filtered(contrast, average.result)[scored]
    r = [np.corrcoef(one, other)[0, 1] for one, other in zip(drive.T, counts.T, strict=True)]
    size = {"frames": len(contrast), "history": _HISTORY, "window": _WINDOW}
    report("mouse_average", average, n=size, held_out_r=[round(float(one), 3) for one in r])
    for prior in (Ridge(), Splines(), Smooth()):
        ours = measure(
            lambda prior=prior: regularised_fields(
                movie, recording, **past, window=_WINDOW, prior=prior
            ),
            repeats=1,
        )
        held = ours.result["held_out_r"].values.round(3).tolist()
        peak = ours.result["recovered_peak"].values.round(2).tolist()
        report(f"mouse_{type(prior).__name__.lower()}", ours, n=size, held_out_r=held, peak=peak)
