"""Classical receptive fields of a recording: averages, ellipses, time courses, table and figure.

Without arguments, three simulated cells under white noise. With a recording in NWB, as
``retinacodec import`` writes it, the user's own cells:

    python docs/gallery/receptive_fields.py --recording mouse.nwb --history 30 --out fields
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

import retinacodec as rc
from retinacodec.analyses.field_gallery import field_gallery
from retinacodec.analyses.fields_table import fields_table, fields_table_markdown
from retinacodec.analyses.receptive_fields import spike_triggered_average


def simulated(seconds: float) -> tuple[xr.Dataset, xr.Dataset]:
    """Show white noise to the simulated retina."""
    movie = rc.stimuli.white_noise(seconds, size=(24, 24), check=2, pixel_um=50, seed=0)
    retina = rc.models.CircuitRetina(size=(24, 24), cells=6)
    return movie, retina.simulate(movie, seed=0)


def main(recording: Path | None, history: int, seconds: float, out: Path) -> None:
    """Write fields.md, fields.png and fields.pdf."""
    if recording is None:
        movie, cells = simulated(seconds)
    else:
        movie, cells = rc.read_stimulus(recording), rc.read_nwb(recording)
    averages = spike_triggered_average(movie, cells, history=history)
    table = fields_table(averages)
    out.mkdir(parents=True, exist_ok=True)
    words = fields_table_markdown(table)
    (out / "fields.md").write_text(words, encoding="utf-8")
    drawing = field_gallery(averages, table)
    for kind in ("png", "pdf"):
        drawing.savefig(out / f"fields.{kind}", dpi=300)
    found = int((np.asarray(table["p_value"]) <= 0.05).sum())
    print(words)
    print(f"{found} of {table.sizes['cell']} cells have a field; figure in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--history", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--out", type=Path, default=Path("fields"))
    options = parser.parse_args()
    main(options.recording, options.history, options.seconds, options.out)
