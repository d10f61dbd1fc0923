"""The command line: a thin skin over the same functions, with one-line errors and exit codes."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import CycloptsError, Parameter

from retinacodec import cli_ablate as cli_ablate
from retinacodec import cli_circuits as cli_circuits
from retinacodec import cli_classify as cli_classify
from retinacodec import cli_compare as cli_compare
from retinacodec import cli_explain as cli_explain
from retinacodec import cli_fields as cli_fields
from retinacodec import cli_recordings as cli_recordings
from retinacodec.cli_reading import AS_STATED, ReadingOptions
from retinacodec.cli_words import Device, Out, Overwrite, Seed, app, write_result
from retinacodec.errors import InputError, RecordingError, RetinacodecError

__all__ = ["app", "main"]


@app.command
def demo(
    *,
    movie: Annotated[Path | None, Parameter(help="Your own clip or folder of images.")] = None,
    out: Out = Path("demo"),
    seconds: Annotated[float, Parameter(help="Length of the movie, s.")] = 40.0,
    seed: Seed = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Run the whole chain on the model and movie that ship with the package."""
    from retinacodec.study import demo_settings, run_study

    settings = demo_settings(movie=movie, seconds=seconds, seed=seed, device=device)
    study = run_study(settings, out, overwrite=overwrite)
    _show_outcome(study)


@app.command
def run(
    study: Annotated[Path, Parameter(help="The study file (TOML).")],
    *,
    out: Annotated[Path | None, Parameter(help="Run folder; made from date and name.")] = None,
    resume: Annotated[bool, Parameter(help="Go on with what is missing.", negative="")] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, Parameter(help="Check everything, run nothing.", negative="")] = False,
) -> None:
    """Run the whole chain on a recording: fit, contributions, modes, fields, figures, report."""
    from retinacodec.settings import read_settings, settings_toml
    from retinacodec.study import run_folder, run_study

    settings = read_settings(study)
    folder = out or run_folder(settings)
    if dry_run:
        print(settings_toml(settings))
        print(f"# would write {folder}")
        return
    _show_outcome(run_study(settings, folder, resume=resume, overwrite=overwrite))


@app.command
def config(
    study: Annotated[Path | None, Parameter(help="A study file to complete.")] = None,
) -> None:
    """Print a study file with every setting and its default."""
    from retinacodec.settings import RecordingSettings, StudySettings, read_settings, settings_toml

    if study is not None:
        print(settings_toml(read_settings(study)), end="")
        return
    example = RecordingSettings(file=Path("recording.nwb"))
    print(settings_toml(StudySettings(name="my study", recording=example)), end="")


@app.command
def stimulus(
    kind: Annotated[
        Literal["white_noise", "natural_movie", "moving_bar", "moving_object"],
        Parameter(help="Which stimulus."),
    ],
    *,
    out: Annotated[Path, Parameter(help="An .nwb, .nc or .zarr file.")],
    seconds: Annotated[float, Parameter(help="Length, s.")] = 20.0,
    size: Annotated[tuple[int, int], Parameter(help="Pixels y and x.")] = (50, 50),
    frame_rate: Annotated[float, Parameter(help="Frames per second, Hz.")] = 60.0,
    pixel_um: Annotated[float, Parameter(help="Side of a pixel on the retina, um.")] = 50.0,
    source: Annotated[Path | None, Parameter(help="Clip or images (natural_movie).")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Render a stimulus with its per-frame ground truth."""
    from retinacodec import stimuli

    options: dict[str, Any] = {
        "seconds": seconds,
        "size": size,
        "frame_rate": frame_rate,
        "pixel_um": pixel_um,
        "seed": seed,
    }
    if kind == "natural_movie":
        options["source"] = source
    elif source is not None:
        raise InputError(f"stimulus: --source is for natural_movie, not for {kind}")
    write_result(getattr(stimuli, kind)(**options), out, overwrite)


@app.command
def fit(
    recording: Annotated[Path, Parameter(help="NWB 2 file with units and a stimulus.")],
    *,
    out: Annotated[Path, Parameter(help="The fitted model (.safetensors).")],
    reading: ReadingOptions = AS_STATED,
    history: Annotated[int, Parameter(help="Frames of a stimulus window.")] = 24,
    kernels: Annotated[tuple[int, ...], Parameter(help="Kernel sizes, pixels.")] = (9, 7),
    channels: Annotated[tuple[int, ...], Parameter(help="Channels of the layers.")] = (8, 8),
    epochs: Annotated[int, Parameter(help="Passes over the recording.")] = 14,
    seed: Seed = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Fit a convolutional network to a recording."""
    from retinacodec.models import DeepRetina, save_model
    from retinacodec.training import fit as fit_model

    cells, movie = reading.cells(recording), reading.movie(recording)
    model = DeepRetina(
        cells=cells.sizes["cell"],
        size=(movie.sizes["y"], movie.sizes["x"]),
        history=history,
        channels=channels,
        kernels=kernels,
        seed=seed,
    )
    fitted = fit_model(model, movie, cells, seed=seed, epochs=epochs, device=device)
    print(save_model(fitted, out, overwrite=overwrite))


@app.command
def figure(
    run_folder: Annotated[Path, Parameter(help="A run folder.")],
    name: Annotated[str, Parameter(help="Name of the figure.")],
) -> None:
    """Draw a figure of a run again from its stored results."""
    from retinacodec.study import open_study

    print(open_study(run_folder).draw(name).pdf)


@app.command
def report(run_folder: Annotated[Path, Parameter(help="A run folder.")]) -> None:
    """Write the report of a run again from its stored results."""
    from retinacodec.study import open_study

    print(open_study(run_folder).write_report())


@app.command
def cite() -> None:
    """Print the references of the methods as BibTeX."""
    from retinacodec.citations import METHODS
    from retinacodec.citations import cite as bibtex

    print(bibtex(*METHODS))


@app.command
def doctor() -> None:
    """Print versions, devices and threads, for a bug report."""
    from retinacodec.provenance import provenance

    print(json.dumps(provenance(), indent=2, default=str))


def _show_outcome(study: Any) -> None:
    """Name the files that the reader should open."""
    print(f"\nDone. Look at:\n  {study.folder / 'report.html'}")
    for path in sorted((study.folder / "figures").glob("*.pdf")):
        print(f"  {path}")


def _logging(debug: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    logging.getLogger("retinacodec").setLevel(logging.DEBUG if debug else logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_shown_yet)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # terminals that know few letters


def _not_shown_yet(record: logging.LogRecord) -> bool:
    """Leave out the notices that `info` and `validate` print as findings."""
    return not getattr(record, "heard", False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name; those of the process if left out. ``--debug`` anywhere
        shows the cause of an error.

    Notes
    -----
    Exit codes: 0 done; 1 ran and found bad data; 2 called wrongly.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _logging(debug)
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        raise SystemExit(130) from None
    except (RetinacodecError, CycloptsError, OSError) as error:
        if debug:
            raise
        message = " ".join(str(error).split())
        print(f"retinacodec: {message}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, RecordingError) else 2) from None


if __name__ == "__main__":
    main()
