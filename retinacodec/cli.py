"""The command line: a thin skin over the same functions, with one-line errors and exit codes."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from retinacodec import __version__
from retinacodec.errors import InputError, RecordingError, RetinacodecError
from retinacodec.names import RuleName, TargetName

__all__ = ["app", "main"]

_HELP = """Fit and dissect circuit models of the retina.

'retinacodec demo' runs the whole chain on what ships with the package; 'retinacodec run
study.toml' runs it on your own recording; 'retinacodec info FILE' says what a file holds.
"""

app = App(name="retinacodec", help=_HELP, version=__version__, help_format="plaintext")

Overwrite = Annotated[bool, Parameter(help="Replace what is there already.", negative="")]
Out = Annotated[Path, Parameter(help="Where the result goes.")]
Seed = Annotated[int, Parameter(help="Seed; the same seed gives the same result.")]
Device = Annotated[str, Parameter(help="cpu, cuda or auto.")]


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
    _write(getattr(stimuli, kind)(**options), out, overwrite)


@app.command
def fit(
    recording: Annotated[Path, Parameter(help="NWB 2 file with units and a stimulus.")],
    *,
    out: Annotated[Path, Parameter(help="The fitted model (.safetensors).")],
    stimulus_name: Annotated[str | None, Parameter(name="--stimulus")] = None,
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
    from retinacodec.nwb import read_nwb, read_stimulus
    from retinacodec.training import fit as fit_model

    cells = read_nwb(recording, stimulus=stimulus_name)
    movie = read_stimulus(recording, stimulus_name)
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
def contributions(
    model: Annotated[Path, Parameter(help="A fitted model (.safetensors).")],
    movie: Annotated[Path, Parameter(help="A stimulus (.nwb, .nc, .zarr).")],
    *,
    out: Annotated[Path, Parameter(help="The result (.zarr or .nc).")],
    layers: Annotated[tuple[str, ...], Parameter(help="Layers of the model.")] = ("conv1", "conv2"),
    target: TargetName = "surprisal",
    rule: RuleName = "secant",
    steps: Annotated[int, Parameter(help="Steps of the path, or noisy copies.")] = 10,
    maps: Annotated[bool, Parameter(help="Keep every position; written while computed.")] = False,
    budget_gb: Annotated[float, Parameter(help="Working memory, GB.")] = 2.0,
    dry_run: Annotated[bool, Parameter(help="Say what it would take, and stop.")] = False,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Compute what every interneuron contributed at every moment."""
    from retinacodec import choices, models
    from retinacodec.circuit import Circuit
    from retinacodec.contribute import contributions as compute
    from retinacodec.contribute import plan_contributions

    circuit = Circuit(models.load_model(model), layers)
    asked = (circuit, _read_movie(movie), choices.TARGETS[target]())
    options: dict[str, Any] = {"rule": choices.RULES[rule](steps), "maps": maps}
    options |= {"budget_gb": budget_gb, "device": device}
    streams = out if out.suffix == ".zarr" else None
    if dry_run:
        print(plan_contributions(*asked, out=streams, **options))
        return
    if streams is not None:
        compute(*asked, out=streams, overwrite=overwrite, **options).close()
        print(out)
        return
    _write(compute(*asked, **options), out, overwrite)


@app.command
def modes(
    parts: Annotated[Path, Parameter(help="Contributions (.zarr or .nc).")],
    layer: Annotated[str, Parameter(help="Which layer.")],
    *,
    out: Annotated[Path, Parameter(help="The result (.zarr or .nc).")],
    count: Annotated[int | None, Parameter(help="Number of modes; chosen if left out.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Decompose the contributions of a layer into modes."""
    from retinacodec.analyses import find_modes
    from retinacodec.dictionaries import DirectPursuit
    from retinacodec.store import open_result

    tree = open_result(parts)
    if layer not in tree.children:
        raise InputError(f"layer: no {layer!r} in {parts}; there are {', '.join(tree.children)}")
    _write(
        find_modes(tree[layer], dictionary=DirectPursuit(modes=count), seed=seed), out, overwrite
    )


@app.command
def fields(
    model: Annotated[Path, Parameter(help="A fitted model (.safetensors).")],
    movie: Annotated[Path, Parameter(help="A stimulus (.nwb, .nc, .zarr).")],
    *,
    out: Annotated[Path, Parameter(help="The result (.zarr or .nc).")],
    modes: Annotated[Path | None, Parameter(help="Modes of the same movie.")] = None,
    minimum_rate: Annotated[float, Parameter(help="Leave out frames below this rate, Hz.")] = 1.0,
    frames: Annotated[int, Parameter(help="At most this many frames.")] = 400,
    overwrite: Overwrite = False,
) -> None:
    """Compute dynamic receptive fields and, with modes, their mean for each mode."""
    from retinacodec.analyses import dynamic_fields
    from retinacodec.circuit import Circuit
    from retinacodec.models import load_model
    from retinacodec.store import open_result

    circuit = Circuit(load_model(model), [])
    found = None if modes is None else open_result(modes)
    result = dynamic_fields(
        circuit, _read_movie(movie), modes=found, max_frames=frames, minimum_rate=minimum_rate
    )
    _write(result, out, overwrite)


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


def _read_movie(path: Path) -> Any:
    """Read a stimulus from an NWB file or a stored result."""
    from retinacodec.nwb import read_stimulus
    from retinacodec.schema import check_stimulus
    from retinacodec.store import open_result

    return read_stimulus(path) if path.suffix == ".nwb" else check_stimulus(open_result(path))


def _write(result: Any, out: Path, overwrite: bool) -> None:
    """Write a result in the format of its ending and say where it is."""
    from retinacodec.nwb import write_nwb
    from retinacodec.store import save

    if out.suffix == ".nwb":
        write_nwb(out, result, None, overwrite=overwrite)
    else:
        save(result, out, overwrite=overwrite)
    print(out)


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
