"""The command that scores fitted models and baselines on frames that none was fitted to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter

from retinacodec.cli_reading import AS_STATED, ReadingOptions
from retinacodec.cli_words import Device, Overwrite, Seed, app
from retinacodec.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from retinacodec.circuit import Circuit
    from retinacodec.recordings import Split

__all__ = ["compare"]

_HISTORY = 24


@app.command
def compare(
    recording: Annotated[Path, Parameter(help="A recording with its stimulus (.nwb).")],
    *models: Annotated[Path, Parameter(help="Fitted models (.safetensors).")],
    reading: ReadingOptions = AS_STATED,
    out: Annotated[Path | None, Parameter(help="Folder for table and figure.")] = None,
    ln: Annotated[bool, Parameter(help="Fit and score a linear-nonlinear model.")] = True,
    glm: Annotated[bool, Parameter(help="Fit and score a generalised linear model.")] = True,
    post_spike: Annotated[
        int, Parameter(help="Also a GLM with spike history of so many frames, simulated.")
    ] = 0,
    history: Annotated[
        int | None, Parameter(help="Frames of the baselines' filters; those of the models.")
    ] = None,
    all_frames: Annotated[
        bool, Parameter(help="Score on every frame, fitted to or not.", negative="")
    ] = False,
    draws: Annotated[int, Parameter(help="Resamples for intervals.")] = 1000,
    seed: Seed = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Score models on held-out frames, against each other, baselines and the noise ceiling.

    Frames are held out as 'retinacodec fit' and 'run' do by default: the movie is cut into 60
    blocks, every tenth is for testing, and responses whose window reaches out of their block are
    left out. Models that were fitted to other frames need a recording of their own, and
    --all-frames to say so.
    """
    from retinacodec import analyses

    if not (models or ln or glm):
        raise InputError("compare: expected a model or a baseline, got neither")
    _check_out(out, overwrite)
    movie, cells = reading.movie(recording), reading.cells(recording)
    circuits = _circuits(models)
    reach, latency = _window(circuits, history)
    frames, split = _frames(movie, circuits, reach, latency, all_frames)
    rates = _rates(movie, cells, circuits, device)
    window: dict[str, Any] = {"history": reach, "latency": latency}
    _check_names(rates, ln, glm)
    if ln:
        rates["LN"] = analyses.fit_ln(movie, cells, split, **window).predict(movie)
    if glm:
        rates["GLM"] = analyses.fit_glm(movie, cells, split, **window).predict(movie)
    if post_spike:
        fitted = analyses.fit_glm(movie, cells, split, post_spike=post_spike, **window)
        rates["GLM+spikes"] = fitted.predict(movie, seed=seed)
        ran = int((rates["GLM+spikes"]["runaway"] > 0).sum())
        print(f"GLM+spikes: simulations ran away in {ran} of {cells.sizes['cell']} cells")
    scores = analyses.compare_models(rates, cells, frames, draws=draws, seed=seed)
    tests = None
    if len(rates) > 1:
        tests = analyses.model_tests(rates, cells, frames, draws=draws, seed=seed)
    print(analyses.comparison_words(scores, tests))
    print(_where(frames, movie, all_frames))
    if frames is not None:
        _say_repeats(movie, split, reach, latency)
    if out is not None:
        _write(scores, out, overwrite)


def _circuits(models: tuple[Path, ...]) -> dict[str, Circuit]:
    """Load models by the names of their files."""
    from retinacodec.circuit import Circuit
    from retinacodec.models import load_model

    names = [path.stem for path in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"models: two files are called {', '.join(twice)}; rename one")
    return {path.stem: Circuit(load_model(path), []) for path in models}


def _window(circuits: dict[str, Circuit], history: int | None) -> tuple[int, int]:
    """Return the history and latency of the baselines: the longest of the models."""
    reach = max([one.history or 1 for one in circuits.values()], default=_HISTORY)
    latency = min([one.latency or 0 for one in circuits.values()], default=0)
    return history or reach, latency


def _frames(
    movie: xr.Dataset, circuits: dict[str, Circuit], reach: int, latency: int, all_frames: bool
) -> tuple[np.ndarray[Any, np.dtype[np.intp]] | None, Split]:
    """Return the frames held out from every model, and the split of the baselines."""
    from retinacodec.recordings import Split, split_blocks

    count = movie.sizes["time"]
    windows = {(one.history or 1, one.latency or 0) for one in circuits.values()}
    splits = [
        split_blocks(count, history=past, latency=late)
        for past, late in sorted(windows | {(reach, latency)})
    ]
    own = split_blocks(count, history=reach, latency=latency)
    if all_frames:
        return None, own
    test = own.test
    for other in splits:
        test = np.intersect1d(test, other.test)
    if test.size < 2:
        raise InputError(
            "compare: no frame is held out from every model, since their histories cut the movie "
            "into other blocks; compare fewer models, or give --all-frames for a recording that "
            "none was fitted to"
        )
    return test, Split(own.train, own.validation, test)


def _rates(
    movie: xr.Dataset, cells: xr.Dataset, circuits: dict[str, Circuit], device: str
) -> dict[str, xr.DataArray]:
    """Return what each model predicts; its outputs are the recording's cells in their order."""
    from retinacodec.circuit import predict

    names = cells["cell"].values
    rates = {name: predict(one, movie, device=device) for name, one in circuits.items()}
    return {
        name: rate.assign_coords(cell=names) if rate.sizes["cell"] == names.size else rate
        for name, rate in rates.items()
    }


def _say_repeats(movie: xr.Dataset, split: Split, reach: int, latency: int) -> None:
    """Print a warning where the test set shows what the training set has shown."""
    from retinacodec.leaks import repeated_windows

    again = repeated_windows(movie, split, reach, latency)
    if again.any():
        print(
            f"beware: {again.sum()} of {again.size} test windows repeat what was trained on, frame "
            "by frame;\nthese scores say nothing about new stimuli"
        )


def _check_names(rates: dict[str, xr.DataArray], ln: bool, glm: bool) -> None:
    """Refuse models that are called like a baseline."""
    taken = [name for name, used in (("LN", ln), ("GLM", glm)) if used and name in rates]
    if taken:
        raise InputError(
            f"models: a file is called {taken[0]}, as the baseline; rename it or give "
            f"--no-{taken[0].lower()}"
        )


def _check_out(out: Path | None, overwrite: bool) -> None:
    """Refuse files that are there already, before anything long is computed."""
    from retinacodec.atomic import check_free

    for name in ("comparison.csv", "comparison.pdf", "comparison.png"):
        if out is not None and out.exists():
            check_free(out / name, overwrite)


def _where(
    frames: np.ndarray[Any, np.dtype[np.intp]] | None, movie: xr.Dataset, all_frames: bool
) -> str:
    """Return which frames were scored, in words."""
    if all_frames or frames is None:
        return "scored on all frames, also those that models and baselines were fitted to here"
    seconds = frames.size / float(movie.attrs["frame_rate"])
    return f"scored on {frames.size} held-out frames ({seconds:.0f} s) of {movie.sizes['time']}"


def _write(scores: xr.Dataset, out: Path, overwrite: bool) -> None:
    """Write table and figure, and say where they are."""
    from retinacodec import analyses
    from retinacodec.report import write_figure

    out.mkdir(parents=True, exist_ok=True)
    table = analyses.write_comparison_table(scores, out / "comparison.csv", overwrite=overwrite)
    files = write_figure(analyses.comparison_figure(scores), out, "comparison", overwrite=overwrite)
    for path in (table, files.pdf, files.png):
        print(path)
