"""How far a long computation has come, kept on disk so that a killed one can go on."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atomic import check_free, replacing
from retinacodec.errors import InputError

__all__ = ["Journal", "unfinished_run"]

Array = npt.NDArray[Any]

_KEPT, _RUNNING = "kept_", "running_"


@dataclass
class Journal:
    """What has been found, and where the pass that is running stands.

    Parameters
    ----------
    path : Path
        The file, always whole: it is replaced at once.
    said : mapping
        What the computation was asked for, JSON-able; a journal of something else is refused.
    kept : dict of str to ndarray
        Results of passes that are over.
    phase : str
        The pass that is running.
    row : int
        First row that it has not seen.
    running : dict of str to ndarray
        What it has summed so far.
    """

    path: Path
    said: Mapping[str, Any]
    kept: dict[str, Array] = field(default_factory=dict)
    phase: str = ""
    row: int = 0
    running: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, said: Mapping[str, Any]) -> Journal:
        """Return the journal of an earlier run that was asked for the same.

        Raises
        ------
        InputError
            If the file cannot be read, or the earlier run was asked for something else; every
            difference is named.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(str(arrays.pop("head")))
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path}: cannot be read ({type(error).__name__}); begin anew with overwrite=True"
            ) from error
        before, now = head["said"], json.loads(json.dumps(said))
        other = [
            f"{name} was {before.get(name)}, is {now.get(name)}"
            for name in sorted(set(before) | set(now))
            if before.get(name) != now.get(name)
        ]
        if other:
            raise InputError(
                f"resume: the unfinished run in {path.parent.name} was another one: "
                f"{'; '.join(other)}; ask for the same, or begin anew with overwrite=True"
            )
        parts = (_part(arrays, _KEPT), head["phase"], head["row"], _part(arrays, _RUNNING))
        return cls(path, said, *parts)

    def keep(self, **found: npt.ArrayLike) -> None:
        """Note the results of a pass that is over, on disk."""
        self.kept |= {name: np.asarray(values) for name, values in found.items()}
        self.phase, self.row, self.running = "", 0, {}
        self._write()

    def mark(self, phase: str, row: int, running: Mapping[str, Array]) -> None:
        """Note how far a pass has come, on disk."""
        self.phase, self.row, self.running = phase, row, dict(running)
        self._write()

    def discard(self) -> None:
        """Remove the journal and all that lies beside it."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def _write(self) -> None:
        head = json.dumps({"said": self.said, "phase": self.phase, "row": self.row})
        arrays: dict[str, Any] = {f"{_KEPT}{name}": values for name, values in self.kept.items()}
        arrays |= {f"{_RUNNING}{name}": values for name, values in self.running.items()}
        with replacing(self.path, overwrite=True) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays, head=np.asarray(head))


def unfinished_run(
    target: Path, said: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Journal:
    """Return the journal of a run that was not finished, or of one that begins.

    Parameters
    ----------
    target : Path
        The ``.zarr`` folder that the run will leave; the journal lies in a folder beside it, of
        the same name but for the end ``.unfinished``.
    said : mapping
        What the run is asked for.
    resume : bool
        Go on with an unfinished run, if there is one.
    overwrite : bool
        Begin anew where a run was not finished, or a result is there.

    Returns
    -------
    Journal
        Read, or empty.

    Raises
    ------
    InputError
        If something is there that may not be replaced, or the earlier run was another one.
    """
    if target.suffix != ".zarr":
        raise InputError(f"{target}: expected a name ending in .zarr, got {target.name!r}")
    check_free(target, overwrite)
    folder = target.with_name(f"{target.stem}.unfinished")
    path = folder / "journal.npz"
    if path.exists() and resume:
        return Journal.read(path, said)
    if path.exists() and not overwrite:
        raise InputError(
            f"{folder}: a run was not finished; go on with resume=True, or begin anew with "
            "overwrite=True"
        )
    if folder.exists():
        strange = [one.name for one in folder.iterdir() if "journal.npz" not in one.name]
        if strange and not path.exists():
            raise InputError(f"{folder}: is no unfinished run; move it away")
        shutil.rmtree(folder)
    folder.mkdir()
    return Journal(path, said)


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
