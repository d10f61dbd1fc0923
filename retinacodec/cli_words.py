"""What the commands share: the program, the words of its options, files in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from retinacodec import __version__

__all__ = ["Device", "Out", "Overwrite", "Seed", "app", "read_movie", "write_result"]

_HELP = """Fit and dissect circuit models of the retina.

'retinacodec demo' runs the whole chain on what ships with the package; 'retinacodec run
study.toml' runs it on your own recording; 'retinacodec info FILE' says what a file holds.
"""

app = App(name="retinacodec", help=_HELP, version=__version__, help_format="plaintext")

Overwrite = Annotated[bool, Parameter(help="Replace what is there already.", negative="")]
Out = Annotated[Path, Parameter(help="Where the result goes.")]
Seed = Annotated[int, Parameter(help="Seed; the same seed gives the same result.")]
Device = Annotated[str, Parameter(help="cpu, cuda or auto.")]


def read_movie(path: Path) -> Any:
    """Read a stimulus from an NWB file or a stored result."""
    from retinacodec.nwb import read_stimulus
    from retinacodec.schema import check_stimulus
    from retinacodec.store import open_result

    return read_stimulus(path) if path.suffix == ".nwb" else check_stimulus(open_result(path))


def write_result(result: Any, out: Path, overwrite: bool) -> None:
    """Write a result in the format of its ending and say where it is."""
    from retinacodec.nwb import write_nwb
    from retinacodec.store import save

    if out.suffix == ".nwb":
        write_nwb(out, result, None, overwrite=overwrite)
    else:
        save(result, out, overwrite=overwrite)
    print(out)
