"""Opening, aligning and importing recordings, beside pynwb and numpy where they do the same.

The first recording is ten minutes of white noise at 30 Hz, 50 x 50 pixels, with 20 cells; the
large one an hour with 300 cells and 10^8 spikes. Real recordings are read from the folder
RETINACODEC_DATA.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from meter import main, measure, report
from real_networks import data_dir, skip

from retinacodec.analyses import alignment_figure, alignment_words, check_alignment
from retinacodec.importers import import_recording
from retinacodec.nwb import read_nwb, read_stimulus, write_nwb
from retinacodec.recordings import bin_spikes
from retinacodec.schema import make_stimulus

RATE, CELLS, SPIKES_PER_CELL = 30.0, 20, 6500
_FOLDER = tempfile.TemporaryDirectory(prefix="recordings-")


def flips_of(frames: int) -> np.ndarray:
    """Return jittered flips, one of them dropped in the middle."""
    times = 2.0 + np.cumsum(np.random.default_rng(0).normal(1 / RATE, 1e-4, frames))
    times[frames // 2 :] += 1 / RATE
    return times


def trains_of(stop: float, cells: int, spikes: int) -> list[np.ndarray]:
    """Return sorted trains of so many spikes each."""
    generator = np.random.default_rng(1)
    return [np.sort(generator.uniform(2.0, stop, spikes)) for _ in range(cells)]


@cache
def example(*, quick: bool) -> Path:
    """Write ten minutes of white noise and the spikes of 20 cells."""
    frames = 1800 if quick else 18_000
    flips = flips_of(frames)
    contrast = np.random.default_rng(2).choice(np.float32([-1, 1]), (frames, 50, 50))
    movie = make_stimulus(contrast, frame_rate=RATE, pixel_um=50, name="noise", time=flips)
    trains = trains_of(flips[-1], CELLS, SPIKES_PER_CELL * frames // 18_000)
    path = Path(_FOLDER.name) / f"example{frames}.nwb"
    times = {str(cell): train for cell, train in enumerate(trains)}
    return write_nwb(path, movie, spike_times=times)


def by_pynwb(path: Path) -> np.ndarray:
    """Open a file with pynwb, take the units one by one and count by numpy's histogram."""
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings(), NWBHDF5IO(path, "r") as io:
        warnings.simplefilter("ignore")
        file = io.read()
        flips = file.stimulus["noise"].timestamps[()]
        edges = np.append(flips, flips[-1] + np.median(np.diff(flips)))
        rows = [
            np.histogram(file.units["spike_times"][k], edges)[0] for k in range(len(file.units))
        ]
    return np.stack(rows, axis=1)


def open_align(quick: bool) -> None:
    """Open a file, scan it for what is unsafe, check all of it, and count spikes on its flips."""
    path = example(quick=quick)
    logging.getLogger("retinacodec").setLevel(logging.ERROR)
    read_nwb(path), by_pynwb(path)  # imports are not counted
    ours, theirs = measure(lambda: read_nwb(path)), measure(lambda: by_pynwb(path))
    counts = ours.result["spike_count"].values
    report(
        "open_align",
        ours,
        n={"frames": counts.shape[0], "cells": counts.shape[1], "spikes": int(counts.sum())},
        peer="pynwb, units one by one, numpy.histogram",
        peer_cpu_s=theirs.cpu_s,
        limit_cpu_s=2.0,
        error=float(np.abs(counts - theirs.result).max()),
    )


def bin_(quick: bool) -> None:
    """Count spikes on real flips."""
    frames = 1800 if quick else 18_000
    flips = flips_of(frames)
    trains = trains_of(flips[-1], CELLS, SPIKES_PER_CELL * frames // 18_000)
    edges = np.append(flips, flips[-1] + np.median(np.diff(flips)))

    def histograms() -> np.ndarray:
        return np.stack([np.histogram(train, edges)[0] for train in trains], axis=1)

    ours = measure(lambda: bin_spikes(trains, flips), repeats=15)
    theirs = measure(histograms, repeats=15)
    report(
        "bin",
        ours,
        n={"frames": frames, "cells": CELLS, "spikes": sum(train.size for train in trains)},
        peer="numpy.histogram of each cell",
        peer_cpu_s=theirs.cpu_s,
        limit_cpu_s=0.02,
        error=float(np.abs(ours.result - theirs.result).max()),
    )


def movie(quick: bool) -> None:
    """Read the whole movie as contrast."""
    path = example(quick=quick)
    ours = measure(lambda: read_stimulus(path))
    with h5py.File(path) as file:
        stored = file["stimulus/presentation/noise/data"]
        plain = measure(lambda: stored[()].astype(np.float32))
    shape = ours.result["contrast"].shape
    report(
        "movie",
        ours,
        n={"frames": shape[0], "pixels": shape[1] * shape[2]},
        peer="h5py, cast to float32, no mapping to contrast",
        peer_cpu_s=plain.cpu_s,
    )


def large(quick: bool) -> None:
    """Open and align an hour with 300 cells and 10^8 spikes."""
    cells, frames = 300, 108_000
    spikes = 10_000 if quick else 333_334
    path = Path(_FOLDER.name) / "large.nwb"
    flips = np.arange(frames) / RATE
    field = make_stimulus(
        np.random.default_rng(0).standard_normal((frames, 1, 1)),
        frame_rate=RATE,
        pixel_um=50,
        name="flicker",
        time=flips,
    )
    write_nwb(path, field, spike_times={str(k): [0.5, 1.0] for k in range(cells)}, overwrite=True)
    train = np.sort(np.random.default_rng(1).uniform(0, flips[-1], spikes))
    with h5py.File(path, "r+") as file:
        units = file["units"]
        attrs = dict(units["spike_times"].attrs)
        del units["spike_times"]
        flat = units.create_dataset("spike_times", (cells * spikes,), np.float64)
        flat.attrs.update(attrs)
        for cell in range(cells):
            flat[cell * spikes : (cell + 1) * spikes] = train
        ends = np.arange(1, cells + 1) * spikes
        kept = dict(units["spike_times_index"].attrs)
        del units["spike_times_index"]
        units["spike_times_index"] = ends.astype(np.uint32)
        units["spike_times_index"].attrs.update(kept)
    ours = measure(lambda: read_nwb(path), repeats=1)
    total = float(ours.result["spike_count"].sum())
    sizes = {"frames": frames, "cells": cells, "spikes": cells * spikes}
    report("large", ours, n=sizes, error=abs(total - cells * spikes), limit_mb=4000)
    path.unlink()


@cache
def _mouse() -> tuple[Any, Any] | None:
    """Return movie and counts of the mouse's checkers around all receptive fields."""
    source = data_dir() / "rgc_mouse_ret1" / "20080606_R2.nwb"
    if not source.exists():
        skip("alignment", f"no {source.name} in the data folder; set RETINACODEC_DATA")
        return None
    path = import_recording(
        source, Path(_FOLDER.name) / "mouse.nwb", stimulus="rec_stim_2", overwrite=True
    )
    return read_stimulus(path, crop=(16, 32, 24, 40)), read_nwb(path)


def alignment(quick: bool) -> None:
    """Check that the mouse's cells follow the movie, as it is and with one frame lost half-way."""
    both = _mouse()
    if both is None:
        return
    movie, cells = both
    counts = cells["spike_count"].values
    half = len(counts) // 2
    lost = cells.copy(deep=True)
    lost["spike_count"][half + 1 :] = counts[half:-1]
    ours = measure(lambda: check_alignment(movie, cells), repeats=1)
    again = check_alignment(movie, lost)
    stretch = again["delay"].mean("cell").values * 1e3
    report(
        "alignment",
        ours,
        n={"frames": len(counts), "cells": counts.shape[1], "pixels": 256},
        follow=int(ours.result["responds"].sum()),
        suspected=not alignment_words(ours.result)[1],
        suspected_with_a_frame_lost=not alignment_words(again)[1],
        late_less_early_ms=float(stretch[4:].mean() - stretch[:4].mean()),
    )


def draw_alignment(quick: bool, path: Path) -> None:
    """Draw the check of the mouse."""
    both = _mouse()
    if both is not None:
        alignment_figure(check_alignment(*both)).savefig(path, dpi=150)


def imports(quick: bool) -> None:
    """Import the real recordings: from NWB 1, with its movie drawn again, and from MATLAB files."""
    sources: dict[str, tuple[Path, dict[str, Any]]] = {
        "import_mouse": (
            data_dir() / "rgc_mouse_ret1" / "20080606_R2.nwb",
            {"stimulus": "rec_stim_2"},
        ),
        "import_salamander": (data_dir() / "rgc_salamander", {}),
    }
    for name, (source, options) in sources.items():
        if not source.exists():
            skip(name, f"no {source.name} in the data folder; set RETINACODEC_DATA")
            continue
        out = Path(_FOLDER.name) / f"{name}.nwb"

        def work(source: Path = source, out: Path = out, options: Any = options) -> Path:
            return import_recording(source, out, overwrite=True, **options)

        done = measure(work, repeats=1 if quick else 3)
        report(name, done, n={"mb": out.stat().st_size / 1e6})


if __name__ == "__main__":
    main(
        {
            "open_align": open_align,
            "bin": bin_,
            "movie": movie,
            "large": large,
            "alignment": alignment,
            "imports": imports,
        },
        {"alignment": draw_alignment},
    )
