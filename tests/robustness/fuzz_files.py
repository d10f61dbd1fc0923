"""Damage valid files byte by byte and count what the readers make of them.

Run alone: ``python tests/robustness/fuzz_files.py --files 2000 --seed 0``. Files of several kinds
are damaged (bytes changed, stretches overwritten, the end cut off) and read in worker processes
with limits on time and memory. One JSON line tells how many were read, refused in one line,
ended in another error ("traceback"), crashed the process or hung.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_BATCH = 50  # files of one worker process
_SECONDS = 20  # of CPU and of the clock, for one file
_MEMORY = 6 << 30  # address space of a worker, bytes


def damage(whole: bytes, rng: np.random.Generator) -> bytes:
    """Return damaged bytes: some changed, a stretch overwritten, or the end cut off."""
    data = bytearray(whole)
    how = rng.integers(0, 8)
    if how == 0:
        return bytes(data[: int(rng.integers(0, len(data)))])
    if how == 1:
        start = int(rng.integers(0, len(data)))
        stop = min(len(data), start + int(rng.integers(1, 600)))
        data[start:stop] = rng.integers(0, 256, stop - start, dtype=np.uint8).tobytes()
        return bytes(data)
    for place in rng.integers(0, len(data), int(rng.choice([1, 3, 10, 40]))):
        change = rng.integers(0, 3)
        value = data[place] ^ (1 << int(rng.integers(0, 8))) if change else rng.integers(0, 256)
        data[place] = int(value) if change < 2 else int(rng.choice([0, 255]))
    return bytes(data)


def _uses(path: Path, out: Path, kind: str):
    """Yield everything that reads a file of a kind."""
    from retinacodec import nwb
    from retinacodec.importers import describe, import_recording
    from retinacodec.validation import validate

    yield lambda: describe(path)
    if kind in ("ret1", "laboratory"):
        yield lambda: import_recording(path, out, pixel_um=50, overwrite=True)
    else:
        yield lambda: validate(path)
        yield lambda: nwb.read_nwb(path)
        yield lambda: nwb.read_stimulus(path, pixel_um=50, budget_gb=0.5)
        if kind == "traces":
            yield lambda: nwb.read_traces(path, "e1")


def outcome(path: Path, out: Path, kind: str) -> tuple[str, str]:
    """Read a file in every way; return what happened and, for a traceback, what it says."""
    from retinacodec.errors import RetinacodecError

    result = "refused"
    for use in _uses(path, out, kind):
        try:
            use()
            result = "read"
        except RetinacodecError as error:
            if "\n" in str(error) or len(str(error)) > 3000:
                return "traceback", f"more than one line: {error}"
        except Exception:
            return "traceback", traceback.format_exc()
    return result, ""


def _tell(what: dict) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def work(folder: Path, first: int, last: int, seed: int) -> None:
    """Read damaged files number `first` to `last` and print one line for each."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    faulthandler.enable()
    kinds = sorted(path for path in folder.iterdir() if path.suffix in (".nwb", ".h5"))
    whole = {path: path.read_bytes() for path in kinds}
    place = Path(tempfile.mkdtemp(dir=folder))
    if (folder / "film.mkv").exists():
        shutil.copy(folder / "film.mkv", place)
    for number in range(first, last):
        kind = kinds[number % len(kinds)]
        rng = np.random.default_rng((seed, number))
        damaged = place / f"damaged{kind.suffix}"
        damaged.write_bytes(damage(whole[kind], rng))
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + _SECONDS + 5
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        _tell({"number": number, "kind": kind.name, "state": "begun"})
        faulthandler.dump_traceback_later(_SECONDS, exit=True)
        state, words = outcome(damaged, place / "out.nwb", kind.stem)
        told = {"number": number, "kind": kind.name, "state": state, "words": words}
        _tell(told)
    shutil.rmtree(place)


def _batch(folder: Path, first: int, last: int, seed: int) -> list[dict]:
    """Run one worker, again after each file that crashed it or hung."""
    found: list[dict] = []
    while first < last:
        words = [__file__, "--folder", str(folder), "--range", str(first), str(last)]
        command = [sys.executable, *words, "--seed", str(seed)]
        limit = 60 + _SECONDS * (last - first) / 4
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
            lines, code, errors = done.stdout, done.returncode, done.stderr
        except subprocess.TimeoutExpired as late:
            lines, code, errors = (late.stdout or b"").decode(), None, ""
        told = [json.loads(line) for line in lines.splitlines() if line.endswith("}")]
        found += [one for one in told if one["state"] != "begun"]
        if code == 0:
            break
        begun = [one for one in told if one["state"] == "begun"]
        if not begun:
            raise RuntimeError(f"the worker did not start: {errors[-2000:]}")
        hung = code in (None, -24) or "Timeout (" in errors  # -24: too much CPU time
        state = "hung" if hung else "crashed"
        found.append(begun[-1] | {"state": state, "words": f"exit {code} {errors[:3000]}"})
        first = begun[-1]["number"] + 1
    return found


def fuzz(files: int, seed: int = 0, workers: int = 2) -> dict:
    """Damage and read that many files, with that many processes at a time.

    Returns
    -------
    dict
        Counts of each state, per kind, the words of what went wrong, and the seconds it took.
    """
    from sample_files import make_files  # which lies beside this script

    began = time.monotonic()
    os.environ.update(OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        firsts = range(0, files, _BATCH)
        with ThreadPoolExecutor(workers) as pool:
            batches = pool.map(
                lambda first: _batch(folder, first, min(first + _BATCH, files), seed), firsts
            )
            found = [one for batch in batches for one in batch]
    states = ("read", "refused", "crashed", "hung", "traceback")
    count = collections.Counter(one["state"] for one in found)
    kinds = collections.defaultdict(collections.Counter)
    for one in found:
        kinds[one["kind"]][one["state"]] += 1
    wrong = [one for one in found if one["state"] in states[2:]]
    return {
        "files": len(found),
        "seed": seed,
        **{state: count[state] for state in states},
        "kinds": {kind: dict(states) for kind, states in sorted(kinds.items())},
        "wrong": wrong[:40],
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--range", type=int, nargs=2)
    given = parser.parse_args()
    if given.range:
        work(given.folder, *given.range, given.seed)
    else:
        _tell(fuzz(given.files, given.seed, given.workers))
