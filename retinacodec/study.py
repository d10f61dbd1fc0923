"""A study: the whole chain as steps in a run folder, each stored, so that it can be resumed.

The folder holds config.toml (every setting resolved), provenance.json, log.txt, results/,
figures/ and report.html. A step that is done leaves a marker in done/; with ``resume`` the
steps that have one are not run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacodec import __version__
from retinacodec.errors import InputError
from retinacodec.settings import (
    FieldSettings,
    ModelSettings,
    MovieSettings,
    StudySettings,
    read_settings,
    settings_toml,
)

if TYPE_CHECKING:
    import xarray as xr

    from retinacodec.circuit import Circuit
    from retinacodec.report import FigureFiles

__all__ = ["Study", "demo_settings", "open_study", "run_folder", "run_study"]

_log = logging.getLogger(__name__)


def demo_settings(
    *, movie: Path | None = None, seconds: float = 40.0, seed: int = 0, device: str = "cpu"
) -> StudySettings:
    """Return the settings of the demo: the shipped model on a rendered or the user's own movie."""
    return StudySettings(
        name="demo",
        seed=seed,
        device=device,
        movie=MovieSettings(source=movie, seconds=seconds),
        model=ModelSettings(pretrained="demo"),
        fields=FieldSettings(frames=200, null_shifts=100),
    )


def run_folder(settings: StudySettings) -> Path:
    """Return a fresh folder name made of date, time and the study's name."""
    words = "".join(letter if letter.isalnum() else "-" for letter in settings.name)
    return Path("runs") / f"run_{datetime.now():%Y%m%d-%H%M%S}_{words}"


def run_study(
    settings: StudySettings,
    folder: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Study:
    """Run every step of a study that is not done yet.

    Parameters
    ----------
    settings : StudySettings
        What to do.
    folder : str or Path
        The run folder.
    resume : bool, default False
        Go on in a folder of the same settings.
    overwrite : bool, default False
        Replace an earlier run in this folder.

    Returns
    -------
    Study
        The finished study.

    Raises
    ------
    InputError
        If the folder holds another run, or the inputs do not fit.
    """
    from retinacodec import study_inputs, study_steps

    study = Study(Path(folder), settings)
    with study.prepared(resume=resume, overwrite=overwrite):
        study_inputs.check_inputs(study)
    with study.logging():
        for number, step in enumerate(study_steps.STEPS, start=1):
            words = f"step {number} of {len(study_steps.STEPS)}: {step.title}"
            if study.is_done(step.name):
                _log.info("%s (done before)", words)
                continue
            _log.info(words)
            start = time.monotonic()
            step.run(study)
            study.mark_done(step.name, time.monotonic() - start)
    return study


def open_study(folder: str | Path) -> Study:
    """Open a run folder.

    Raises
    ------
    InputError
        If it is not one.
    """
    path = Path(folder)
    if not (path / "config.toml").is_file():
        raise InputError(f"{path}: not a run folder (no config.toml); give the folder of a run")
    return Study(path, read_settings(path / "config.toml"))


@dataclass(frozen=True)
class Study:
    """A run folder and its settings; what is asked of it is loaded or computed on first use."""

    folder: Path
    settings: StudySettings
    results: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the package's version."""
        text = settings_toml(self.settings) + __version__
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def prepared(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Make the folder; if what follows fails, leave everything as it was found."""
        from retinacodec.provenance import provenance

        again = self._may_resume(resume=resume, overwrite=overwrite)
        aside = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}.old")
        if self.folder.exists() and not again:
            self.folder.rename(aside)
        try:
            for name in ("results", "figures", "done"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            config = settings_toml(self.settings)
            (self.folder / "config.toml").write_text(config, encoding="utf-8")
            record = provenance(seed=self.settings.seed, fingerprint=self.fingerprint)
            self.write_json("provenance.json", record)
            yield
        except BaseException:
            if not again:
                shutil.rmtree(self.folder, ignore_errors=True)
                if aside.exists():
                    aside.rename(self.folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)

    def _may_resume(self, *, resume: bool, overwrite: bool) -> bool:
        """Return whether to go on in the folder, or raise where it holds something else."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return False
        if not (self.folder / "config.toml").is_file():
            raise InputError(
                f"{self.folder}: the folder is not empty and not a run; choose another --out"
            )
        if overwrite:
            return False
        if not resume:
            raise InputError(f"{self.folder}: a run is there already; --resume or --overwrite it")
        before = self.read_json("provenance.json").get("fingerprint")
        if before != self.fingerprint:
            raise InputError(
                f"{self.folder}: that run had other settings; choose another --out or --overwrite"
            )
        return True

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Copy the log of the run to log.txt."""
        handler = logging.FileHandler(self.folder / "log.txt", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("retinacodec")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()

    def is_done(self, step: str) -> bool:
        """Return whether a step has left its marker."""
        return (self.folder / "done" / step).is_file()

    def mark_done(self, step: str, seconds: float) -> None:
        """Leave the marker of a step, with the time it took."""
        self.write_json(f"done/{step}", {"seconds": round(seconds, 1)})

    def seconds(self) -> dict[str, float]:
        """Return the time each finished step took, s."""
        paths = sorted((self.folder / "done").iterdir(), key=lambda path: path.stat().st_mtime)
        return {path.name: float(self.read_json(f"done/{path.name}")["seconds"]) for path in paths}

    def write_json(self, name: str, values: Any) -> None:
        """Write a small record, whole or not at all."""
        target = self.folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
        temporary.replace(target)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a small record."""
        path = self.folder / name
        if not path.is_file():
            raise InputError(f"{self.folder}: {name} is missing; run the study again")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def keep(self, name: str, result: Any) -> Any:
        """Store a result of a step under a name, and return it."""
        from retinacodec.store import save

        save(result, self.folder / "results" / f"{name}.zarr", overwrite=True)
        self.results[name] = result
        return result

    def result(self, name: str) -> Any:
        """Return a stored result."""
        from retinacodec.store import open_result

        if name not in self.results:
            self.results[name] = open_result(self.folder / "results" / f"{name}.zarr")
        return self.results[name]

    def has(self, name: str) -> bool:
        """Return whether a result is stored under this name."""
        return (self.folder / "results" / f"{name}.zarr").exists()

    @cached_property
    def inputs(self) -> Any:
        """The movie, the recording and the split of the study."""
        from retinacodec.study_inputs import load_inputs

        return load_inputs(self)

    @property
    def analysed(self) -> xr.Dataset:
        """The part of the movie whose contributions are computed."""
        movie: xr.Dataset = self.inputs.movie
        count = self.settings.contributions.frames
        return movie.isel(time=slice(max(0, movie.sizes["time"] - count), None))

    @cached_property
    def circuit(self) -> Circuit:
        """The fitted network with the layers that are asked about."""
        from retinacodec.circuit import Circuit
        from retinacodec.models import load_model

        model = load_model(self.folder / "results" / "cnn.safetensors")
        names = tuple(self.inputs.recording["cell"].values.tolist())
        return Circuit(model, self.settings.contributions.layers, outputs=names)

    def draw(self, name: str) -> FigureFiles:
        """Draw one figure again from the stored results."""
        from retinacodec.study_figures import FIGURES

        if name not in FIGURES:
            raise InputError(f"figure: no {name!r}; there are {', '.join(FIGURES)}")
        return FIGURES[name].write(self)

    def write_report(self) -> Path:
        """Write the report again from the stored results."""
        from retinacodec.study_report import write

        return write(self)
