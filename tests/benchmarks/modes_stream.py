"""A decomposition of a million rows on disk within 2 GB, interrupted once, beside scikit-learn.

The rows are sparse nonnegative loadings on sparse atoms with noise, written block by block; the
error is one less the mean cosine of true atoms matched one to one. scikit-learn's online methods
are run on a part of the rows: one pass of `partial_fit` over the rows that are fitted and one
`transform` of all, from the seconds that each took for a row of the part. Their atoms are scored
after that part, and so are those that our method finds in a sample of the same size.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from meter import Measured, main, matrix_rate, measure, report

from retinacodec.analyses import Planted
from retinacodec.dictionaries import DirectPursuit
from retinacodec.metrics import matched_cosine
from retinacodec.row_files import NumpyRows, open_rows
from retinacodec.store import file_sha256
from retinacodec.stream_plan import plan_stream
from retinacodec.streamed_pursuit import stream_modes

_BUDGET_GB = 2.0
_BLOCK = 20_000
_PEER_BATCH = 2_000
_FITTED = 0.8


class _Cut(BaseException):
    """The interruption."""


@dataclass
class _Counted:
    """A table that counts the rows read, and is cut off after so many."""

    rows: NumpyRows
    most: int | None = None
    read_rows: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rows, name)

    def read(self, start: int, stop: int) -> Any:
        self.read_rows += stop - start
        if self.most is not None and self.read_rows >= self.most:
            raise _Cut
        return self.rows.read(start, stop)


def write_rows(path: Path, rows: int, features: int, modes: int, active: float) -> Any:
    """Write a planted table block by block, and return its atoms and the signs of its columns."""
    recipe = Planted(2, features, modes, active=active, support=0.06, own=0.0, signed=False)
    truth = recipe.draw(seed=0)
    atoms = truth["atom"].values.astype(np.float32)
    rate = np.random.default_rng(1).gamma(3.0, 1.0, modes)
    rate *= active / rate.sum()
    noise = 0.0
    with path.open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (rows, features)}
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, rows, _BLOCK):
            random = np.random.default_rng([2, start])
            count = min(_BLOCK, rows - start)
            loadings = (random.random((count, modes)) < rate) * random.gamma(2, 0.5, (count, modes))
            x = loadings.astype(np.float32) @ atoms
            noise = noise or recipe.noise * float(x.std())
            x += np.float32(noise) * random.standard_normal(x.shape, np.float32)
            np.maximum(x, 0, out=x).tofile(file)
    return atoms, truth["sign"].values


def interrupted(source: NumpyRows, out: Path, reads: int, **options: Any) -> tuple[int, str]:
    """Cut a run off at six tenths of its reading, go on; return rows read again, and the hash."""
    cut, rest = _Counted(source, int(0.6 * reads)), _Counted(source)
    try:
        stream_modes(cut, out=out, **options)
    except _Cut:
        stream_modes(rest, out=out, resume=True, **options).close()
    return cut.read_rows + rest.read_rows - reads, file_sha256(out)


def peers(source: NumpyRows, modes: int, part: int) -> dict[str, tuple[Any, float, float]]:
    """Return, of each peer, its atoms and its CPU seconds for a row to fit and a row to code."""
    from sklearn.decomposition import MiniBatchDictionaryLearning, MiniBatchNMF

    learning = {"fit_algorithm": "cd", "transform_algorithm": "lasso_cd", "alpha": 0.1}
    learning |= {"positive_code": True, "positive_dict": True, "transform_alpha": 0.1}
    models: dict[str, Callable[[], Any]] = {
        "MiniBatchDictionaryLearning": lambda: MiniBatchDictionaryLearning(
            modes, batch_size=_PEER_BATCH, random_state=0, **learning
        ),
        "MiniBatchNMF": lambda: MiniBatchNMF(modes, batch_size=_PEER_BATCH, random_state=0),
    }
    scale = float(source.read(0, _PEER_BATCH).std())
    found = {}
    for name, make in models.items():
        model = make()
        model.partial_fit(source.read(0, _PEER_BATCH) / scale)

        def fit(model: Any = model) -> None:
            for start in range(_PEER_BATCH, part, _PEER_BATCH):
                model.partial_fit(source.read(start, start + _PEER_BATCH) / scale)

        def code(model: Any = model) -> None:
            model.transform(source.read(part, part + _PEER_BATCH) / scale)

        fitting, coding = measure(fit, repeats=1), measure(code, repeats=1)
        row = fitting.cpu_s / (part - _PEER_BATCH)
        found[name] = (model.components_, row, coding.cpu_s / _PEER_BATCH)
    return found


def stream(quick: bool) -> None:
    """A million rows of 512 features and 200 modes; quick: 60 000 of 128 and 48."""
    rows, features, modes, active = (60_000, 128, 48, 5.0) if quick else (1_000_000, 512, 200, 8.0)
    part = 20_000
    folder = Path(tempfile.mkdtemp())
    try:
        atoms, signs = write_rows(folder / "x.npy", rows, features, modes, active)
        source = open_rows(folder / "x.npy")
        assert isinstance(source, NumpyRows)
        options = {"method": DirectPursuit(modes=modes), "signs": signs, "budget_gb": _BUDGET_GB}
        options["progress"] = False
        counted = _Counted(source)
        ours = measure(
            lambda: stream_modes(counted, out=folder / "modes.zarr", **options), repeats=1
        )
        again, digest = interrupted(source, folder / "cut.zarr", counted.read_rows, **options)
        _report(ours, source, atoms, part, again, digest == file_sha256(folder / "modes.zarr"))
    finally:
        shutil.rmtree(folder)


def _report(
    ours: Measured, source: NumpyRows, atoms: Any, part: int, again: int, same: bool
) -> None:
    """Print what was measured, one line for each peer."""
    warnings.filterwarnings("ignore", message="Objective did not converge")
    (rows, features), modes, result = source.shape, len(atoms), ours.result
    small = DirectPursuit(modes=modes).fit(source.read(0, part), progress=False)
    plan = plan_stream(source, DirectPursuit(modes=modes), budget_gb=_BUDGET_GB)
    passes = result.sizes["log_explained_0"] + 1
    for name, (found, fit_s, code_s) in peers(source, modes, part).items():
        report(
            "stream",
            ours,
            n={"rows": rows, "features": features, "modes": modes, "sample": plan.sample},
            peer=f"{name}, one pass (from {part} rows)",
            peer_cpu_s=rows * (_FITTED * fit_s + code_s),
            limit_cpu_s=passes * 2 * 2 * rows * features * modes / matrix_rate(),
            error=float(1 - matched_cosine(atoms, result["atom"].values).mean()),
            r2=result.attrs["r2"],
            r2_low=result.attrs["r2_low"],
            r2_high=result.attrs["r2_high"],
            cosine=float(matched_cosine(atoms, result["atom"].values).mean()),
            cosine_part=float(matched_cosine(atoms, small.atoms).mean()),
            peer_cosine_part=float(matched_cosine(atoms, found).mean()),
            rows_per_s=rows / ours.wall_s,
            passes=passes,
            predicted_mb=1e3 * plan.working_gb,
            budget_mb=1e3 * _BUDGET_GB,
            rows_read_again=again,
            same_after_interruption=same,
        )


if __name__ == "__main__":
    main({"stream": stream})
