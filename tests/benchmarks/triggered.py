"""Spike-triggered averages and covariances beside plain numpy code that does what the field does.

Averages: every window before a spike is laid out and weighted, in double precision. Covariances:
one weighted outer product for each frame with spikes. What pyret's authors published for a
movie of this kind stands beside it as milliseconds a spike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from meter import matrix_rate, measure, report

from retinacodec.analyses import spike_triggered_average, spike_triggered_covariance
from retinacodec.analyses.window_covariances import WindowCovariance, prior_covariance
from retinacodec.schema import make_recording, make_stimulus

__all__ = ["sta", "stc"]

PUBLISHED_MS_PER_SPIKE = 0.31
RATE = 60.0
_PEER_WINDOWS = 256  # laid out at a time, so that they fit


def noise(frames: int, side: int, seed: int = 0) -> xr.Dataset:
    """Return Gaussian white noise."""
    generator = np.random.default_rng(seed)
    contrast = generator.standard_normal((frames, side, side), dtype=np.float32)
    return make_stimulus(contrast, frame_rate=RATE, pixel_um=50, name="white noise")


def driven_cells(movie: xr.Dataset, cells: int, spikes_per_bin: float, behind: int) -> xr.Dataset:
    """Return cells that fire to one pixel each, some frames later."""
    frames, side = movie.sizes["time"], movie.sizes["x"]
    generator = np.random.default_rng(1)
    counts = np.zeros((frames, cells))
    for cell in range(cells):
        pixel = movie["contrast"].values[:, (7 * cell + 3) % side, (11 * cell + 5) % side]
        drive = np.roll(pixel, behind) * 0.5
        counts[:, cell] = generator.poisson(spikes_per_bin * np.exp(drive - 0.125))
    names = [str(cell) for cell in range(cells)]
    return make_recording(counts, time=movie["time"], frame_rate=RATE, cells=names)


def laid_out_average(movie: np.ndarray, counts: np.ndarray, history: int) -> np.ndarray:
    """Return averages (cell, history, y, x) by weighting every window that ends with a spike."""
    views = np.lib.stride_tricks.sliding_window_view(movie, history, axis=0)
    total = np.zeros((counts.shape[1], *views.shape[1:]))
    for cell in range(counts.shape[1]):
        k = counts[history - 1 :, cell]
        spiking = np.flatnonzero(k)
        for start in range(0, spiking.size, _PEER_WINDOWS):
            part = spiking[start : start + _PEER_WINDOWS]
            windows = views[part].astype(np.float64)
            total[cell] += np.tensordot(k[part], windows, axes=1)
        total[cell] /= k.sum()
    return total.transpose(0, 3, 1, 2)


def sta(quick: bool) -> None:
    """Averages of eight cells over 20 000 frames, with few and with many spikes."""
    frames, side, history, cells = (2000, 50, 40, 8) if quick else (20_000, 50, 40, 8)
    movie = noise(frames, side)
    spike_triggered_average(movie.isel(time=slice(100)), _few(movie), history=5, sparse=True)
    speed = matrix_rate()
    for density in (0.02, 0.06, 0.5):
        recording = driven_cells(movie, cells, density, 4)
        counts = recording["spike_count"].values.astype(np.float64)

        def ours_run(recording: xr.Dataset = recording) -> xr.Dataset:
            return spike_triggered_average(movie, recording, history=history)

        ours = measure(ours_run, repeats=3)
        some = min(cells, 2 if density > 0.1 else cells)
        peer = measure(
            lambda some=some, counts=counts: laid_out_average(
                movie["contrast"].values, counts[:, :some], history
            ),
            repeats=1,
        )
        found = ours.result["sta"].values
        spikes = float(counts[history - 1 :].sum())
        frames_with = float((counts[history - 1 :] > 0).sum())
        share = frames_with / float((counts[history - 1 :, :some] > 0).sum())
        gap = np.abs(found[:some] - peer.result).max() / np.abs(peer.result).max()
        mine = 1e3 * ours.cpu_s / spikes
        values = history * side * side
        report(
            "sta",
            ours,
            n={"frames": frames, "size": [side, side], "history": history, "cells": cells},
            peer="numpy, windows laid out, float64",
            peer_cpu_s=peer.cpu_s * share,
            limit_cpu_s=min(2 * values * frames * cells, 2 * values * frames_with) / speed,
            error=float(gap),
            spikes_per_bin=density,
            spikes=spikes,
            ms_per_spike=mine,
            published_ms_per_spike=PUBLISHED_MS_PER_SPIKE,
            published_ratio=PUBLISHED_MS_PER_SPIKE / mine,
            stimulus_mb=movie["contrast"].nbytes / 1e6,
            result_mb=ours.result.nbytes / 1e6,
        )


def outer_products(windows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sum of weighted outer products of windows (frame, dimension), one by one."""
    total = np.zeros((windows.shape[1],) * 2)
    for window, count in zip(windows, counts, strict=True):
        total += count * np.outer(window, window)
    return total


def stc(quick: bool) -> None:
    """Covariance of eight cells over 20 000 frames, and its change beside one by one."""
    frames, side, history, cells, window = (4000, 20, 12, 2, 8) if quick else (20_000, 50, 12, 8, 8)
    movie = noise(frames, side)
    recording = driven_cells(movie, cells, 0.2, 3)
    counts = recording["spike_count"].values.astype(np.float64)
    options: dict[str, Any] = {"history": history, "window": window}
    patch = movie["contrast"].values[:, :window, :window]
    patch = np.ascontiguousarray(patch - patch.mean(axis=0))
    counts[: history - 1] = 0
    known = np.arange(frames) >= history - 1
    prior = prior_covariance(patch, known, history, 0, correlated=False)
    covariance = WindowCovariance(patch, history, 0, prior)
    none = np.zeros((len(prior), 0))
    ours = measure(
        lambda: [covariance.change(counts[:, cell], none) for cell in range(cells)], repeats=3
    )
    views = np.lib.stride_tricks.sliding_window_view(patch, history, axis=0).transpose(0, 3, 1, 2)
    spiking = np.flatnonzero(counts[:, 0])
    some = spiking[:300]
    rows = views[some - history + 1].reshape(some.size, -1).astype(np.float64)
    peer = measure(lambda: outer_products(rows, counts[some, 0]), repeats=1)
    few = np.zeros(frames)
    few[some] = counts[some, 0]
    expected = peer.result / few.sum() - prior
    gap = np.abs(covariance.change(few, none) - expected).max() / np.abs(expected).max()
    whole = measure(lambda: spike_triggered_covariance(movie, recording, **options), repeats=1)
    spike_frames = int((counts > 0).sum())
    dimensions = len(prior)
    report(
        "stc",
        ours,
        n={
            "frames": frames,
            "cells": cells,
            "dimensions": dimensions,
            "frames_with_spikes": spike_frames,
        },
        peer="numpy, one weighted outer product a frame with spikes, float64",
        peer_cpu_s=peer.cpu_s * spike_frames / some.size,
        limit_cpu_s=spike_frames * dimensions**2 / matrix_rate(),
        error=float(gap),
        with_spectra_cpu_s=whole.cpu_s,
    )


def _few(movie: xr.Dataset) -> xr.Dataset:
    """Return a short recording, to compile on."""
    return driven_cells(movie.isel(time=slice(100)), 1, 0.1, 1)
