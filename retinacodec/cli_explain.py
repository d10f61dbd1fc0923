"""The command that says in words what modes mean: formulas over concepts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from retinacodec.cli_words import Overwrite, Seed, app, read_movie, write_result
from retinacodec.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["explain"]


@app.command
def explain(
    modes: Annotated[Path, Parameter(help="Modes, or masks of your own (.zarr, .nc).")],
    concepts: Annotated[Path, Parameter(help="Concepts (.csv, .npz, .zarr), or a movie.")],
    *,
    out: Annotated[Path, Parameter(help="The table (.csv), or the result (.zarr, .nc).")],
    figure: Annotated[Path | None, Parameter(help="Also draw it (.png, .pdf, .svg).")] = None,
    length: Annotated[int, Parameter(help="Most concepts of a formula.")] = 3,
    beam: Annotated[int, Parameter(help="Formulas kept after each step.")] = 5,
    penalty: Annotated[float, Parameter(help="Factor of the score for each further concept.")] = 1,
    threshold: Annotated[float, Parameter(help="A mode is on where its loading is above.")] = 0.0,
    within: Annotated[int, Parameter(help="On also so many frames before and after.")] = 0,
    least: Annotated[int, Parameter(help="Explain masks on at no fewer positions.")] = 10,
    gap: Annotated[int, Parameter(help="Frames left out beside held-out blocks.")] = 40,
    samples: Annotated[int, Parameter(help="Shifts or permutations of the null; 0: none.")] = 200,
    search: Annotated[
        bool, Parameter(help="Repeat the search for each of them.", negative="")
    ] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say by formulas over named concepts when each mode is on, and how far that holds.

    Concepts of a movie (.nwb, or a stored stimulus) are its events: steps of light, contrast,
    image switches, motion and the like, each 0 to 50, 50 to 100 and 100 to 150 ms ago.
    """
    from retinacodec import analyses
    from retinacodec.atomic import check_free

    for path in (out, *([] if figure is None else [figure])):
        check_free(path, overwrite)
    if out.suffix not in (".csv", ".zarr", ".nc"):
        raise InputError(f"out: expected a name ending in .csv, .zarr or .nc, got {out.name}")
    if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"figure: expected a name ending in .png, .pdf or .svg, got {figure.name}")
    masks = _masks(modes, threshold, within)
    dim = str(masks.dims[1])
    table = _aligned(concepts, masks, dim)
    options: dict[str, Any] = {"length": length, "beam": beam, "penalty": penalty, "least": least}
    null: Any = None
    if dim == "time":
        options["held_out"] = _blocks(gap)
        null = analyses.ShiftedMasks(samples, least=gap, search=search) if samples else None
    elif samples:
        null = analyses.PermutedImages(samples, search=search)
    found = analyses.explain(masks, table, null=null, seed=seed, **options)
    print(analyses.explanation_words(found))
    if figure is not None:
        analyses.explanations_figure(found).savefig(figure, dpi=300)
        print(figure)
    if out.suffix == ".csv":
        _write(analyses.explanation_rows(found), out, overwrite)
    else:
        write_result(found, out, overwrite)


def _blocks(gap: int) -> Any:
    """Return the blocks of time that are held out."""
    from retinacodec.row_splits import TimeBlocks

    return TimeBlocks(gap=gap)


def _masks(path: Path, threshold: float, within: int) -> xr.DataArray:
    """Open modes or masks and return masks (mask, time) or (mask, image)."""
    import xarray as xr

    from retinacodec.analyses import mode_masks
    from retinacodec.store import open_result

    found = open_result(path)
    if isinstance(found, xr.DataArray) and found.dtype == bool and found.ndim == 2:
        dim = next((one for one in ("time", "image") if one in found.dims), None)
        if dim is None:
            raise InputError(f"{path.name}: expected masks over time or image, got {found.dims}")
        return found.transpose(..., dim)
    return mode_masks(found, threshold=threshold, within=within)


def _movie(path: Path) -> xr.Dataset | None:
    """Return the stimulus of a file, or None for a table of concepts."""
    import xarray as xr

    from retinacodec.store import open_result

    if path.suffix == ".nwb":
        return read_movie(path)
    if path.suffix not in (".zarr", ".nc"):
        return None
    found = open_result(path)
    is_movie = isinstance(found, xr.Dataset) and found.attrs.get("kind") == "stimulus"
    return found if is_movie else None


def _events(movie: xr.Dataset) -> xr.DataArray:
    """Return the events of a movie at several lags, as concepts."""
    from retinacodec import analyses
    from retinacodec.analyses.mode_explanations import LAGS_S

    found = analyses.lagged_events(analyses.stimulus_events(movie), LAGS_S)
    return found.rename(event="concept") if "event" in found.dims else found


def _aligned(path: Path, masks: xr.DataArray, dim: str) -> xr.DataArray:
    """Read concepts and take the frames or images of the masks."""
    from retinacodec.concept_tables import read_concepts

    shown = _movie(path) if dim == "time" else None
    table = read_concepts(path, dim=dim) if shown is None else _events(shown)
    count = masks.sizes[dim]
    if table.sizes[dim] == count:
        return table
    if dim in table.coords and dim in masks.coords:
        try:
            return table.sel({dim: masks[dim]}, method="nearest", tolerance=1e-6)
        except KeyError:
            pass
    raise InputError(
        f"concepts: {table.sizes[dim]} rows for {count} of the masks along {dim}; give a row for "
        f"each, or a column {dim!r} that says which they are"
    )


def _write(rows: list[dict[str, Any]], out: Path, overwrite: bool) -> None:
    from retinacodec.atomic import replacing

    with replacing(out, overwrite=overwrite) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(out)
