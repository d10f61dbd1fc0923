"""Commands for receptive fields: of a recording, of a model, stored whole, as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from retinacodec.cli_reading import AS_STATED, ReadingOptions
from retinacodec.cli_words import Device, Overwrite, Seed, app, read_movie, write_result
from retinacodec.errors import InputError

__all__ = ["fields", "film", "sta"]

Model = Annotated[Path, Parameter(help="A fitted model (.safetensors).")]
Movie = Annotated[Path, Parameter(help="A stimulus (.nwb, .nc, .zarr).")]
Modes = Annotated[Path | None, Parameter(help="Modes of the same movie.")]


@app.command
def sta(
    recording: Annotated[Path, Parameter(help="A recording with its stimulus (.nwb).")],
    *,
    out: Annotated[Path, Parameter(help="The averages and their table (.zarr or .nc).")],
    reading: ReadingOptions = AS_STATED,
    history: Annotated[int, Parameter(help="Frames that the averages reach back.")] = 30,
    latency: Annotated[int, Parameter(help="Frames between the window and the response.")] = 0,
    figure: Annotated[Path | None, Parameter(help="Also draw them (.png or .pdf).")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Average the stimulus before spikes: maps, time courses, significance, and a table."""
    from retinacodec import analyses
    from retinacodec.atomic import check_free

    for path in (out, *([] if figure is None else [figure])):
        check_free(path, overwrite)
    if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"figure: expected a name ending in .png, .pdf or .svg, got {figure.name}")
    movie, cells = reading.movie(recording), reading.cells(recording)
    window: dict[str, Any] = {"history": history, "latency": latency}
    averages = analyses.spike_triggered_average(movie, cells, **window)
    found = analyses.sta_significance(movie, cells, **window)
    table = analyses.fields_table(averages, p_values=found["p"], seed=seed)
    print(analyses.fields_table_markdown(table))
    if figure is not None:
        analyses.field_gallery(averages, table).savefig(figure, dpi=300)
        print(figure)
    both = averages.merge(table, compat="override", combine_attrs="override")
    write_result(both.assign(significant=found["significant"]), out, overwrite)


@app.command
def fields(
    model: Model,
    movie: Movie,
    *,
    out: Annotated[Path, Parameter(help="The result (.zarr or .nc).")],
    modes: Modes = None,
    minimum_rate: Annotated[float, Parameter(help="Leave out frames below this rate, Hz.")] = 1.0,
    frames: Annotated[int, Parameter(help="At most this many frames.")] = 400,
    stream: Annotated[
        bool, Parameter(help="Store the exact field of every cell and frame.", negative="")
    ] = False,
    resume: Annotated[
        bool, Parameter(help="Go on with an unfinished --stream.", negative="")
    ] = False,
    dry_run: Annotated[bool, Parameter(help="Say what --stream would take, and stop.")] = False,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Compute dynamic receptive fields and, with modes, their mean for each mode."""
    from retinacodec.analyses import dynamic_fields
    from retinacodec.circuit import Circuit
    from retinacodec.field_files import plan_fields, stream_fields
    from retinacodec.models import load_model
    from retinacodec.store import open_result

    if (resume or dry_run) and not stream:
        raise InputError("resume, dry_run: only with --stream")
    if stream and modes is not None:
        raise InputError("modes: --stream stores every frame; leave --modes out")
    circuit, shown = Circuit(load_model(model), []), read_movie(movie)
    if dry_run:
        print(plan_fields(circuit, shown, device=device))
        return
    if stream:
        stream_fields(circuit, shown, out=out, resume=resume, overwrite=overwrite, device=device)
        print(out)
        return
    found = None if modes is None else open_result(modes)
    result = dynamic_fields(
        circuit, shown, modes=found, max_frames=frames, minimum_rate=minimum_rate, device=device
    )
    write_result(result, out, overwrite)


@app.command
def film(
    model: Model,
    movie: Movie,
    *,
    out: Annotated[Path, Parameter(help="The film (.mp4).")],
    cell: Annotated[str, Parameter(help="Name or number of the cell.")] = "0",
    start: Annotated[float | None, Parameter(help="Where it begins, s; a lively stretch.")] = None,
    seconds: Annotated[float, Parameter(help="Length of the stretch, s.")] = 5.0,
    slower: Annotated[float, Parameter(help="How many times slower than life.")] = 4.0,
    modes: Modes = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Film a cell's receptive field beside the stimulus, its rate and the active modes."""
    from retinacodec.analyses import field_film, field_scene
    from retinacodec.atomic import check_free
    from retinacodec.circuit import Circuit
    from retinacodec.models import load_model
    from retinacodec.store import open_result

    check_free(out, overwrite)
    circuit = Circuit(load_model(model), [])
    scene = field_scene(
        circuit,
        read_movie(movie),
        cell=int(cell) if cell.isdecimal() else cell,
        start=start,
        seconds=seconds,
        modes=None if modes is None else open_result(modes),
        device=device,
    )
    print(field_film(scene, out, slower=slower, overwrite=overwrite))
