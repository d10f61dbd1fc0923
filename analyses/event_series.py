"""Events in series over time: steps, runs, onsets, flashes, omissions, velocities in bins."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.analyses.event_rules import EventRules, threshold

__all__ = [
    "flashes",
    "image_switches",
    "motion_events",
    "omissions",
    "recent_sum",
    "run_starts",
    "steps",
]

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def recent_sum(series: Array, frames: int) -> Array:
    """Return the sum of each frame and those before it, so many in all, along the first axis."""
    total = np.cumsum(np.concatenate([np.zeros((1, *series.shape[1:])), series]), axis=0)
    first = np.maximum(np.arange(len(series)) + 1 - frames, 0)
    found: Array = total[1:] - total[first]
    return found


def run_starts(on: Bools, quiet: int = 1) -> Bools:
    """Return the frames that are on after at least so many frames that were off."""
    before = recent_sum(np.concatenate([[0.0], on[:-1].astype(float)]), quiet)
    found: Bools = on & (before < 0.5)
    found[:1] = False
    return found


def steps(luminance: Array, rules: EventRules, frames: int) -> tuple[Bools, Bools]:
    """Return where luminance (time,) is up and down by a step from so many frames before."""
    past = luminance[np.maximum(np.arange(len(luminance)) - frames, 0)]
    change = luminance - past
    limit = threshold(rules.step, np.abs(change))
    return change >= limit, change <= -limit


def image_switches(contrast: Array, rules: EventRules, quiet: int) -> Bools:
    """Return the first frames of other images: unlike the last, after frames that were alike."""
    flat = contrast.reshape(len(contrast), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    size = np.sqrt((flat**2).mean(axis=1))
    alike = np.ones(len(flat))
    both = size[1:] * size[:-1]
    product = (flat[1:] * flat[:-1]).mean(axis=1)
    alike[1:] = np.where(both > 1e-4, product / np.maximum(both, 1e-12), 1.0)
    found = run_starts(alike < rules.switch, quiet)
    found[: quiet + 1] = False
    return found


def flashes(luminance: Array, rules: EventRules, longest: int) -> Bools:
    """Return the first frames of flashes: a step, and back by half of it within so many frames."""
    change = np.diff(luminance, prepend=luminance[:1])
    limit = threshold(rules.step, np.abs(change))
    found = np.zeros(len(luminance), dtype=bool)
    free = 0
    for start in np.flatnonzero(np.abs(change) >= limit):
        if start < free:
            continue
        after = luminance[start + 1 : start + 1 + longest] - luminance[start - 1]
        back = np.flatnonzero(np.abs(after) <= np.abs(change[start]) / 2)
        if back.size:
            found[start] = True
            free = start + 2 + back[0]
    return found


def omissions(flash: Bools, rules: EventRules) -> Bools:
    """Return where the next flash of a periodic sequence would have begun, had it not ended."""
    starts = np.flatnonzero(flash)
    found = np.zeros(len(flash), dtype=bool)
    for last in range(rules.flashes - 1, len(starts)):
        gaps = np.diff(starts[last - rules.flashes + 1 : last + 1])
        period = gaps.mean()
        slack = max(1.0, rules.jitter * period)
        if np.abs(gaps - period).max() > slack:
            continue
        due = starts[last] + period
        end = starts[last + 1] if last + 1 < len(starts) else np.inf
        if end > due + slack and round(due) < len(flash):
            found[round(due)] = True
    return found


def motion_events(
    velocity: Array, known: Bools, flat: Bools, rules: EventRules, frames: int, quiet: int
) -> dict[str, Bools]:
    """Return directions, speeds, onset and reversal of motion.

    Parameters
    ----------
    velocity : ndarray (time, 2)
        Mean velocity x, y of the last frames, um/s.
    known, flat : ndarray of bool (time,)
        Where the velocity is known, and where nothing changes at all.
    rules : EventRules
        Edges of the bins.
    frames : int
        Frames that were averaged.
    quiet : int
        Frames without motion before an onset.

    Returns
    -------
    dict of str to ndarray of bool (time,)
        By name of the event.
    """
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    moving = known & (speed >= rules.speeds[0])
    width = 360 / rules.directions
    angle = np.rad2deg(np.arctan2(velocity[:, 1], velocity[:, 0]))
    place = np.round(angle / width).astype(int) % rules.directions
    found = {f"motion {k * width:g} deg": moving & (place == k) for k in range(rules.directions)}
    edges = [*rules.speeds, np.inf]
    for low, high in pairwise(edges):
        name = f"speed {low:g}-{high:g} um/s" if np.isfinite(high) else f"speed over {low:g} um/s"
        found[name] = moving & (speed >= low) & (speed < high)
    unrest = (moving | ~(known | flat)).astype(float)
    before = recent_sum(np.concatenate([[0.0], unrest[:-1]]), quiet)
    found["motion onset"] = moving & (before == 0)
    found["motion onset"][:1] = False
    past = np.maximum(np.arange(len(speed)) - 2 * frames, 0)
    cosine = (velocity * velocity[past]).sum(axis=1) / np.maximum(speed * speed[past], 1e-9)
    turned = moving & moving[past] & (cosine <= -np.sqrt(0.5))
    found["motion reversal"] = run_starts(turned, quiet)
    return found
