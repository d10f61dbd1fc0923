"""The passes over a streamed table: columns, sample, sweeps, loadings; each can be gone on with."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from retinacodec.atomic import replacing
from retinacodec.atoms import Dictionary
from retinacodec.bootstrap import block_labels
from retinacodec.column_statistics import ColumnStatistics
from retinacodec.errors import InputError
from retinacodec.journal import Journal
from retinacodec.progress import track
from retinacodec.pursuit import DirectPursuit, PursuitCoder
from retinacodec.row_source import RowSource
from retinacodec.scaling import BalancedRows, Scale, unpack_scale
from retinacodec.stream_plan import StreamPlan
from retinacodec.stream_tallies import ScaledTally, ScanTally, ScoreTally, SweepTally, Tally
from retinacodec.streamed_loadings import LoadingsFolder, streamed_head, streamed_scores

__all__ = ["StreamRun"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
_Any = TypeVar("_Any", bound=Tally)

_STILL = 1e-3
_COST_ROWS = 2000
_DRAWS = 1000
_BLOCK = 40
_MOST_BLOCKS = 5000


@dataclass(frozen=True, eq=False)
class _Known:
    """A scaling that is known before the rows are seen."""

    scale: Scale

    def of(self, x: Array) -> Scale:  # noqa: ARG002
        """Return the scale."""
        return self.scale


@dataclass(frozen=True, eq=False)
class StreamRun:
    """One decomposition: what it reads, how, and where it notes what it has found.

    Parameters
    ----------
    source : RowSource
        The table.
    method : DirectPursuit
        The method.
    given : ndarray (feature,) of int8, optional
        Signs of the columns; read from the rows fitted if None.
    plan : StreamPlan
        How the table is cut up.
    journal : Journal
        What has been found so far.
    fitted, held : ndarray of int
        Rows that atoms are fitted to, and rows that score them.
    seed : int
        Seed of the sample, the search and the interval.
    progress : bool
        Show how far it has come.
    """

    source: RowSource
    method: DirectPursuit
    given: npt.NDArray[np.int8] | None
    plan: StreamPlan
    journal: Journal
    fitted: npt.NDArray[np.intp]
    held: npt.NDArray[np.intp]
    seed: int
    progress: bool

    @property
    def kept(self) -> dict[str, Array]:
        """Results of the passes that are over."""
        return self.journal.kept

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Whether a row is fitted (row,)."""
        mask = np.zeros(self.plan.rows, dtype=bool)
        mask[self.fitted] = True
        return mask

    def decompose(self, sweeps: int) -> Path:
        """Do the passes that are not done yet, and return the folder of the result."""
        if "columns" not in self.kept:
            self._scan()
        if "scale" not in self.kept:
            self._find_scale()
        if "atoms" not in self.kept:
            self._fit_sample()
        while not self.kept["settled"] and len(self.kept["explained"]) < sweeps:
            self._sweep(last=len(self.kept["explained"]) + 1 == sweeps)
        return self._score()

    def check_source(self) -> None:
        """Raise `InputError` unless the table is the one that an earlier run read."""
        stamp = self.source.stamp()
        earlier = str(self.kept.get("stamp", stamp))
        if "columns" in self.kept or self.journal.phase == "scan":
            if not stamp or stamp != earlier:
                self._compare()
        else:
            self.journal.keep(stamp=stamp)

    def _compare(self) -> None:
        """Read again what was read, and raise `InputError` if it is not the same."""
        over = "columns" in self.kept
        digest = self.kept["digest"] if over else self.journal.running["digest"]
        rows = self.plan.rows if over else self.journal.row
        again = ScanTally(self.mask, self.plan.columns)
        self._read(again, "modes: compare the table", 0, rows)
        if not np.array_equal(again.pack()["digest"], digest):
            raise InputError(
                "resume: the values of the table are not those of the unfinished run; give the "
                "same table, or begin anew with overwrite=True"
            )

    def _read(self, tally: Tally, what: str, start: int, stop: int, phase: str = "") -> None:
        """Give stretches to a tally, and note after each block how far it is."""
        block, stretch = self.plan.block, self.plan.stretch
        for first in track(range(start, stop, block), what, enabled=self.progress):
            x = self.source.read(first, min(first + block, stop))
            for at in range(0, len(x), stretch):
                tally.take(first + at, x[at : at + stretch])
            if phase:
                self.journal.mark(phase, min(first + block, stop), tally.pack())

    def _pass(self, tally: _Any, phase: str, what: str) -> _Any:
        """Do a pass over all rows, from where it was interrupted, and return its tally."""
        start = 0
        if self.journal.phase == phase:
            tally.restore(self.journal.running)
            start = self.journal.row
        self._read(tally, f"modes: {what}", start, self.plan.rows, phase)
        return tally

    def _scan(self) -> None:
        tally = self._pass(ScanTally(self.mask, self.plan.columns), "scan", "read the columns")
        if tally.bad:
            self.journal.discard()
            raise InputError(
                f"stream_modes: {tally.bad} of {self.plan.rows} rows are NaN or infinite, first "
                f"row {tally.first_bad}; leave these rows out"
            )
        if not tally.parts[0].deviation > 0:
            self.journal.discard()
            raise InputError("stream_modes: the values do not vary (standard deviation 0)")
        packed = tally.pack()
        signs = tally.parts[0].signs if self.given is None else self.given
        self.journal.keep(columns=packed["columns"], digest=packed["digest"], signs=signs)

    def _find_scale(self) -> None:
        columns, scaling = ColumnStatistics.unpack(self.kept["columns"][0]), self.method.scaling
        scale = Scale(columns.deviation)
        size = columns.size / scale.deviation
        if isinstance(scaling, BalancedRows):
            scale = Scale(1.0, scaling.power, columns.size, scaling.least)
            tally = ScaledTally(self.mask, scale, ColumnStatistics.empty(self.plan.columns))
            found = self._pass(tally, "balance", "balance the rows").statistics
            scale = dataclasses.replace(scale, deviation=found.deviation)
            size = found.size / scale.deviation
        floor = self.method.gain * size
        self.journal.keep(scale=[*scale.pack().values()], floor=floor)

    @property
    def scale(self) -> Scale:
        """What rows are divided by."""
        names = [field.name for field in dataclasses.fields(Scale)]
        return unpack_scale(dict(zip(names, self.kept["scale"], strict=True)))

    def coder(self, atoms: npt.NDArray[np.float32]) -> PursuitCoder:
        """Return how rows are coded with these atoms."""
        return PursuitCoder(atoms, float(self.kept["floor"]), self.method.active)

    def _fit_sample(self) -> None:
        """Seek modes in rows drawn at random, each with the same chance."""
        method = dataclasses.replace(self.method, scaling=_Known(self.scale))
        found = method.fit(
            self._sample(),
            signs=self.kept["signs"],
            seed=self.seed,
            progress=self.progress,
        )
        log = {f"log_{name}": np.asarray(values) for name, values in found.log.items()}
        self.journal.keep(
            atoms=found.atoms,
            agreement=found.agreement,
            tried=found.tried,
            total=np.ones(len(found.atoms)),
            explained=np.zeros(0),
            settled=False,
            next=found.atoms,
            **log,
        )

    def _sample(self) -> Array:
        """Return the rows drawn, in their order; they are kept beside the journal."""
        path = self.journal.path.with_name("sample.npy")
        if not path.exists():
            count = min(self.plan.sample, len(self.fitted))
            random = np.random.default_rng([self.seed, 1])
            drawn = random.choice(len(self.fitted), count, replace=False, shuffle=False)
            sample = self._gather(self.fitted[np.sort(drawn)])
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, sample)
        rows: Array = np.load(path)
        return rows

    def _gather(self, drawn: npt.NDArray[np.intp]) -> Array:
        """Read these rows."""
        sample = np.empty((len(drawn), self.plan.columns), self.source.dtype)
        for first in range(0, self.plan.rows, self.plan.block):
            stop = min(first + self.plan.block, self.plan.rows)
            low, high = np.searchsorted(drawn, (first, stop))
            if high > low:
                sample[low:high] = self.source.read(first, stop)[drawn[low:high] - first]
        return sample

    def _sweep(self, last: bool) -> None:
        """Code all rows fitted, keep the atoms if they are better, and improve them."""
        atoms, so_far = self.kept["next"], self.kept["explained"]
        tally = SweepTally(self.mask, self.scale, self.coder(atoms), atoms)
        self._pass(tally, "sweep", f"fit all rows, sweep {len(so_far) + 1}")
        share, best = tally.explained, so_far.max(initial=0.0)
        found: dict[str, Any] = {"explained": [*so_far, share]}
        if share > best or not len(so_far):
            found |= {"atoms": atoms, "total": tally.total}
            found |= {} if last else {"next": tally.updated(self.kept["signs"])}
        still = share - best < _STILL * (1 - best)
        self.journal.keep(settled=last or still, **found)

    def _found(self, order: npt.NDArray[np.intp]) -> Dictionary:
        """Return the modes in this order, without loadings."""
        atoms = np.ascontiguousarray(self.kept["atoms"][order])
        log = {n.removeprefix("log_"): v for n, v in self.kept.items() if n.startswith("log_")}
        return Dictionary(
            atoms=atoms,
            loadings=np.zeros((0, len(atoms)), np.float32),
            scale=self.scale,
            method=repr(self.method),
            seed=self.seed,
            coder=self.coder(atoms),
            agreement=self.kept["agreement"][order],
            tried=int(self.kept["tried"]),
            log=log | {"explained": self.kept["explained"]},
        )

    def _score(self) -> Path:
        """Write the loadings of all rows, with what they explain, and return the folder."""
        total = self.kept["total"]
        found = self._found(np.argsort(-total, kind="stable")[: int((total > 0).sum())])
        if not len(found.atoms):
            raise InputError("stream_modes: no row uses any atom; ask for a smaller gain")
        folder = LoadingsFolder(self.journal.path.parent / "result.zarr")
        if self.journal.phase != "score" or not folder.path.exists():
            self.journal.phase = ""
            self._begin(folder, found)
        places = np.full(self.plan.rows, -1, dtype=np.int32)
        length = max(_BLOCK, len(self.held) // _MOST_BLOCKS)
        places[self.held] = block_labels(self.held, length)
        tally = ScoreTally(self.mask, places, found.scale, found.coder, found.atoms, folder.write)
        self._pass(tally, "score", "write the loadings")
        if self.source.stamp() != str(self.kept["stamp"]):
            self._compare()
        scores = streamed_scores(tally, draws=_DRAWS, seed=self.seed)
        _log.log(logging.INFO if self.progress else logging.DEBUG, "%s", scores["report"])
        folder.finish(tally.total / tally.total.sum(), scores)
        return folder.path

    def _begin(self, folder: LoadingsFolder, found: Dictionary) -> None:
        """Lay out the folder of the result."""
        one, other = map(ColumnStatistics.unpack, self.kept["columns"])
        columns = self.source.columns
        head = streamed_head(found, columns, one.merge(other))
        folder.begin(head, self.plan.rows, self.plan.stretch)
        if columns.sample in columns.coords:
            folder.coordinate(columns.sample, columns.coords[columns.sample])
