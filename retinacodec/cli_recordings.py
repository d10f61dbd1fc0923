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
    source: Annotated[Path, Parameter(help="The recording in its own format.")],
    *,
    out: Out,
    stimulus: Annotated[str | None, Parameter(help="Which stimulus, if there are several.")] = None,
    pixel_um: Annotated[
        float | None, Parameter(help="Pixel side, um, if the file has none.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a recording of another format into NWB 2.

    CRCNS ret-1 (NWB 1): retinacodec import 20080606_R2.nwb --out mouse.nwb --stimulus rec_stim_2

    Laboratory HDF5: retinacodec import naturalscene.h5 --out cells.nwb --pixel-um 55
    """
    from retinacodec.importers import import_recording

    written = import_recording(
        source, out, stimulus=stimulus, pixel_um=pixel_um, overwrite=overwrite
    )
    print(f"{written}\nnext: retinacodec info {written}")
