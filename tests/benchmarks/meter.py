"""Measures CPU time, wall time and memory, and prints one JSON object a benchmark."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import resource
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Measured", "main", "matrix_rate", "measure", "report"]

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Measured:
    """What a piece of work took, and what it returned the last time.

    Parameters
    ----------
    cpu_s, wall_s : float
        Median seconds, of the whole process tree and on the clock.
    peak_mb : float
        Most memory above the start, MB.
    result : object
        What the work returned.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float
    result: Any


class _Peak:
    """The most resident memory while it is open, sampled."""

    def __enter__(self) -> _Peak:
        gc.collect()
        self.start = self.most = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, _resident())

    def __exit__(self, *error: object) -> None:
        self.most = max(self.most, _resident())
        self._over.set()
        self._thread.join()


def measure(work: Callable[[], Any], *, repeats: int = 3) -> Measured:
    """Do the work some times and return the medians."""
    cpu, wall, peak, result = [], [], [], None
    for _ in range(repeats):
        with _Peak() as memory:
            start, clock = _cpu(), time.perf_counter()
            result = work()
            cpu.append(_cpu() - start)
            wall.append(time.perf_counter() - clock)
        peak.append((memory.most - memory.start) / 1e6)
    middle = statistics.median
    return Measured(middle(cpu), middle(wall), middle(peak), result)


def matrix_rate(side: int = 1024) -> float:
    """Return the operations a second of CPU time that a float32 matrix product reaches here."""
    import torch

    a = torch.randn(side, side)
    best = min(measure(lambda: a @ a @ a @ a, repeats=5).cpu_s for _ in range(2))
    return 3 * 2 * side**3 / best


def report(
    name: str,
    ours: Measured,
    *,
    n: Mapping[str, Any],
    peer: str | None = None,
    peer_cpu_s: float | None = None,
    limit_cpu_s: float | None = None,
    error: float | None = None,
    **more: Any,
) -> None:
    """Print one JSON object on one line."""
    ratio = None if peer_cpu_s is None else peer_cpu_s / ours.cpu_s
    row = {
        "name": name,
        "cpu_s": ours.cpu_s,
        "wall_s": ours.wall_s,
        "peak_mb": ours.peak_mb,
        "peer": peer,
        "peer_cpu_s": peer_cpu_s,
        "ratio": ratio,
        "limit_cpu_s": limit_cpu_s,
        "error": error,
        "n": dict(n),
        **more,
    }
    rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
    print(json.dumps(rounded), flush=True)


def main(
    benchmarks: Mapping[str, Callable[[bool], None]],
    figures: Mapping[str, Callable[[bool, Path], None]] | None = None,
) -> None:
    """Run the benchmarks that the command line asks for, or draw what one of them can draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=list(benchmarks), action="append")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--figure", type=Path, help="draw what was measured to this file")
    chosen = parser.parse_args()
    logging.getLogger("retinacodec").setLevel(logging.ERROR)
    for name in chosen.only or (figures if chosen.figure and figures else benchmarks):
        if chosen.figure and figures and name in figures:
            figures[name](chosen.quick, chosen.figure)
        else:
            benchmarks[name](chosen.quick)


def _cpu() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def _resident() -> float:
    """Return the resident memory, bytes; where it cannot be read, the most so far."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
