"""Commands for files of recordings: what they hold, what is wrong with them, import into NWB 2."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from retinacodec.cli_words import Out, Overwrite, app

__all__ = ["import_", "info", "validate"]


@app.command
def info(
    file: Annotated[Path, Parameter(help="Any file: NWB, HDF5, movie, result.")],
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Say what is in a file, what is wrong with it, and the next command to type."""
    from retinacodec.importers import describe

    found = describe(file)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, default=str))
    else:
        print(found.text())
    if found.problems:
        raise SystemExit(1)


@app.command
def validate(
    file: Annotated[Path, Parameter(help="An NWB 2 file.")],
    *,
    stimulus: Annotated[str | None, Parameter(help="The only movie to look at.")] = None,
    units: Annotated[str | None, Parameter(help="Place of the table of units.")] = None,
    inspector: Annotated[bool, Parameter(help="Ask nwbinspector too.", negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Say everything that is wrong with a recording, one line each; fails if there are errors."""
    from retinacodec.validation import validate as look

    found = look(file, stimulus=stimulus, units=units, inspector=inspector)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    elif found:
        print("\n".join(map(str, found)))
    else:
        print(f"{file}: nothing is wrong")
    if any(finding.level == "error" for finding in found):
        raise SystemExit(1)


@app.command(name="import")
def import_(
    source: Annotated[Path, Parameter(help="The recording: a file or a folder.")],
    *,
    out: Out,
    stimulus: Annotated[str | None, Parameter(help="The only movie to take.")] = None,
    pixel_um: Annotated[
        float | None, Parameter(help="Pixel side, um, if the source has none.")
    ] = None,
    grey: Annotated[float | None, Parameter(help="Pixel value of the mean grey.")] = None,
    span: Annotated[
        float | None, Parameter(help="Difference from grey that is contrast 1.")
    ] = None,
    frame_rate: Annotated[
        float | None, Parameter(help="Frames per second, if there are no flip times.")
    ] = None,
    time_scale: Annotated[
        float | None, Parameter(help="Seconds in one unit of times (MATLAB, arrays).")
    ] = None,
    repeat_axes: Annotated[
        tuple[str, str, str] | None,
        Parameter(help="Order of repeat, cell and time, if sizes leave it open.", negative=""),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a recording of another format into NWB 2.

    CRCNS ret-1 (NWB 1): retinacodec import 20080606_R2.nwb --out mouse.nwb --stimulus rec_stim_2

    Laboratory HDF5 (train, test): retinacodec import naturalscene.h5 --out cells.nwb --pixel-um 55

    Intracellular HDF5 (boxes, lines): retinacodec import bipolars.h5 --out cells.nwb --pixel-um 50

    MATLAB (Stim, stimtimes, SpTimes): retinacodec import rgc_salamander/ --out salamander.nwb

    Arrays (stimulus.npy, frame_times.npy, spikes/): retinacodec import folder/ --out cells.nwb
    --pixel-um 50 --frame-rate 30
    """
    from retinacodec.importers import import_recording
    from retinacodec.nwb import Contrast

    mapping = None if grey is None and span is None else Contrast(grey, span)
    written = import_recording(
        source,
        out,
        stimulus=stimulus,
        pixel_um=pixel_um,
        contrast=mapping,
        frame_rate=frame_rate,
        time_scale=time_scale,
        repeat_axes=repeat_axes,
        overwrite=overwrite,
    )
    print(f"{written}\nnext: retinacodec info {written}")
