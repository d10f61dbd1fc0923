"""Modes of a table larger than memory: sought in a sample, fitted to all rows, coded row by row."""

from __future__ import annotations

import errno
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy.typing as npt
import xarray as xr

from retinacodec.atomic import check_free, replacing
from retinacodec.errors import InputError
from retinacodec.journal import unfinished_run
from retinacodec.pursuit import DirectPursuit
from retinacodec.row_source import RowSource, checked_signs
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.scaling import BalancedRows, OneScale
from retinacodec.store import open_result
from retinacodec.stream_plan import plan_stream
from retinacodec.stream_run import StreamRun

__all__ = ["stream_modes"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]

_FULL = (errno.ENOSPC, errno.EDQUOT)


def stream_modes(
    source: RowSource,
    method: DirectPursuit,
    *,
    out: str | Path,
    signs: npt.ArrayLike | None = None,
    split: RowSplit | None = None,
    seed: int = 0,
    budget_gb: float = 2.0,
    sample_rows: int | None = None,
    sweeps: int = 6,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Decompose a table that does not fit into memory, and go on where a killed run stopped.

    Parameters
    ----------
    source : RowSource
        The table, as `open_rows` opens it.
    method : DirectPursuit
        The method, with or without the number of modes.
    out : str or Path
        The ``.zarr`` folder to be. Until it is complete, what is known lies beside it in a folder
        of this name that ends in ``.unfinished``.
    signs : array_like (feature,) of int, optional
        Sign of each column in every atom: -1, 1, or 0 for any; those of the source, or of its
        rows, if left out.
    split : RowSplit, optional
        Which rows are held out and scored; ``TimeBlocks()`` if left out.
    seed : int, default 0
        Seed of the sample, the search and the interval.
    budget_gb : float, default 2.0
        Most memory at work, GB; decides how many rows are read at a time and, unless it is
        given, bounds the sample.
    sample_rows : int, optional
        Rows that the search sees, drawn from those fitted; see `plan_stream`.
    sweeps : int, default 6
        Most passes over all rows that improve the atoms; fewer once the error falls by less than
        a thousandth of itself.
    resume : bool, default False
        Go on with an unfinished run, if there is one.
    overwrite : bool, default False
        Replace an earlier result of this name, and begin anew where a run was not finished.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        Modes, opened but not read, by falling summed loading over the rows fitted: ``atom``
        (mode, ...), ``loading`` (sample, mode), ``reconstruction_r2`` (sample), ``share`` and
        ``agreement`` (mode), ``column_mean``, ``column_deviation`` and ``varies`` of the
        columns of all rows; attributes as `find_modes` gives them. Where columns are signs
        and channels, `project_modes` takes it. The caller closes it.

    Raises
    ------
    InputError
        If a row is not finite, the table does not vary or has fewer rows than modes, something
        is at the path already, the disk is full, the budget is too small, or a run that
        is gone on with was another one.

    Notes
    -----
    Passes: (1) columns, finite rows, scale (one more for ``BalancedRows``); (2) a uniform sample
    of the rows fitted, and ``method`` on it, with the scale of all rows fitted; (3) sweeps, each
    of which codes the rows fitted, sums ``Z'Z`` and ``Z'X`` and updates the atoms; (4) loadings
    of all rows, written as they are found. A mode that is not in the sample is not found: draw
    more rows for rare ones. Every sum is over stretches of a length that only the columns decide,
    in their order: neither the budget nor an interruption changes a bit, as long as the budget
    leaves the sample as it is.

    References
    ----------
    .. [1] Mairal et al., JMLR 11, 19 (2010), sums of Z'Z and Z'X in place of the rows.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from retinacodec.row_files import open_rows
    >>> rows = open_rows(np.repeat([[1.0, 1, 0], [0, 0, 2], [1, 1, 2]], 200, axis=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "modes.zarr"
    ...     split = TimeBlocks(gap=0, blocks=30)
    ...     method = DirectPursuit(modes=2)
    ...     with stream_modes(rows, method, out=path, split=split, progress=False) as modes:
    ...         atoms = modes["atom"].values.astype(float).round(1).tolist()
    >>> atoms
    [[0.0, 0.0, 1.0], [0.7, 0.7, 0.0]]
    """
    plan = plan_stream(source, method, budget_gb=budget_gb, sample_rows=sample_rows)
    given = checked_signs(source.columns.signs if signs is None else signs, plan.columns)
    if not isinstance(method.scaling, (OneScale, BalancedRows)):
        raise InputError(f"stream_modes: expected OneScale or BalancedRows, got {method.scaling!r}")
    target = Path(out)
    check_free(target, overwrite)
    split = split or TimeBlocks()
    parts = split.split(plan.rows)
    least = max(2, method.modes or 20)
    if len(parts[0]) < least:
        raise InputError(
            f"stream_modes: expected at least {least} rows to fit, got {len(parts[0])} of "
            f"{plan.rows}"
        )
    plan.check_space(target)
    more = {"seed": seed, "sample_rows": sample_rows, "sweeps": sweeps}
    journal = unfinished_run(
        target, _said(source, method, given, split, **more), resume=resume, overwrite=overwrite
    )
    _log.log(logging.INFO if progress else logging.DEBUG, "%s", plan)
    run = StreamRun(source, method, given, plan, journal, *parts, seed, progress)
    try:
        run.check_source()
        folder = run.decompose(sweeps)
        with replacing(target, overwrite=overwrite) as temporary:
            folder.replace(temporary)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"{target}: the disk is full; make room for {plan.result_gb:.2g} GB and go on with "
            "resume=True"
        ) from error
    shutil.rmtree(journal.path.parent, ignore_errors=True)
    opened: xr.Dataset = open_result(target, load=False)
    return opened


def _said(
    source: RowSource, method: DirectPursuit, signs: Array | None, split: RowSplit, **more: Any
) -> dict[str, Any]:
    """Return all that the result depends on, as a journal compares it."""
    return {
        "rows": source.shape[0],
        "columns": source.shape[1],
        "dtype": str(source.dtype),
        "quantity": source.columns.quantity,
        "signs": None if signs is None else signs.tolist(),
        "method": repr(method),
        "split": repr(split),
        **more,
    }
