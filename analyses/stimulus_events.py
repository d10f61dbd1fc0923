"""Which named events happen in each frame of a movie, around a place on the retina."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.event_rules import EventRules, event_regions, threshold
from retinacodec.analyses.event_series import (
    flashes,
    image_switches,
    motion_events,
    omissions,
    recent_sum,
    run_starts,
    steps,
)
from retinacodec.analyses.image_motion import image_motion
from retinacodec.errors import Problems
from retinacodec.schema import check_stimulus

__all__ = ["stimulus_events"]

Array = npt.NDArray[Any]
Found = dict[str, tuple[npt.NDArray[np.bool_], str, int, str]]

_FLAT = 1e-7
_REACH = {"frame": 2, "moving": 1, "background": 2}


def stimulus_events(
    movie: xr.Dataset,
    *,
    centre: tuple[float, float] | xr.DataArray | None = None,
    centre_um: float = 100.0,
    surround_um: float = 300.0,
    rules: EventRules | None = None,
    truth: bool = True,
) -> xr.DataArray:
    """Say which events happen in each frame of a movie.

    Parameters
    ----------
    movie : xarray.Dataset
        Any Stimulus, with ``contrast`` (time, y, x).
    centre : (float, float) or DataArray (y, x), optional
        Middle (y, x) of the field's centre, um, or a spatial field; the middle of the frame if
        left out.
    centre_um, surround_um : float, default 100 and 300
        Radius of the centre, and the radius at which the surround ends, um. The centre of a field
        is where it has at least half its largest size.
    rules : EventRules, optional
        Thresholds.
    truth : bool, default True
        Take image switches from the movie's own ``saccade`` and ``scene``, and the motion of the
        whole picture from its gaze, or from the object of a movie of nothing else, where it has
        them; else everything from the pictures.

    Returns
    -------
    xarray.DataArray of bool (event, time)
        With coordinates ``region`` (event), where it is seen: centre, surround or frame;
        ``polarity`` (event), 1 for light, -1 for dark, 0 for neither; and ``source`` (event),
        "truth" or "pictures".

    Raises
    ------
    InputError
        If the movie is no Stimulus, a region is empty or a rule is out of range.

    Notes
    -----
    With the mean contrast L of a region and thresholds of `EventRules`; all but flashes and
    omissions use the frame t and those before it, these also as many later ones as it takes to see
    that the light went back, or that no flash came:

    - ``centre step up / down``, ``surround step up / down``: L changed by at least ``step`` since
      ``step_s`` before. ``full-field step up / down``: so did the mean of the frame, and the
      change varies over pixels by at most half of its mean.
    - ``centre brighter / darker``: L of the centre less that of the surround is at least
      ``polarity``.
    - ``contrast high``: standard deviation over the pixels of centre and surround.
    - ``image switch``: the correlation of successive frames falls below ``switch`` after
      ``step_s`` above it; with truth, the first frame of a saccade or scene.
    - ``motion D deg``, ``speed A-B um/s``: mean velocity of the picture over ``motion_s``, as
      `image_motion` estimates it, where it explains enough of the change.
    - ``motion onset``: motion after ``still_s`` without. ``motion reversal``: its direction turned
      by at least 135 degrees within twice ``motion_s``.
    - ``differential motion``: root mean squared difference of the velocities of centre and
      background over ``motion_s``; a region without structure stands still.
    - ``flash``: the mean of the frame steps, and back by half within ``flash_s``. ``flash
      omission``: when the next of at least ``flashes`` periodic ones would have begun.

    References
    ----------
    .. [1] Schwartz, Harris, Shrom, Berry, Nature Neurosci 10:552, 2007 (omissions).
    .. [2] Olveczky, Baccus, Meister, Nature 423:401, 2003 (differential motion).

    Examples
    --------
    >>> from retinacodec.schema import make_stimulus
    >>> frames = np.zeros((60, 20, 20))
    >>> frames[30:] = 0.5
    >>> movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="step")
    >>> events = stimulus_events(movie)
    >>> np.flatnonzero(events.sel(event="full-field step up")).tolist()
    [30, 31, 32]
    """
    check_stimulus(movie)
    rules = rules or EventRules()
    problems = Problems()
    rules.check(problems)
    sizes = 0 < centre_um < surround_um
    problems.require(sizes, f"expected 0 < centre_um < surround_um, got {centre_um}, {surround_um}")
    problems.raise_as("stimulus_events")
    regions = event_regions(movie, centre, centre_um, surround_um, rules.motion_um)
    rate = float(movie.attrs["frame_rate"])
    found = _luminance_events(movie, regions, rules, rate)
    found |= _switch_events(movie, rules, rate, truth=truth)
    found |= _movement_events(movie, regions, rules, rate, truth=truth)
    table = np.stack([row[0] for row in found.values()])
    kept = {
        name: ("event", [row[place] for row in found.values()])
        for place, name in ((1, "region"), (2, "polarity"), (3, "source"))
    }
    return xr.DataArray(
        table,
        dims=("event", "time"),
        coords={"event": list(found), "time": movie["time"].values, **kept},
        name="event_on",
        attrs={"kind": "events", "frame_rate": rate, "rules": repr(rules)},
    )


def _frames(seconds: float, rate: float) -> int:
    return max(1, round(seconds * rate))


def _luminance_events(
    movie: xr.Dataset, regions: dict[str, Array], rules: EventRules, rate: float
) -> Found:
    """Return steps, polarity, contrast, flashes and omissions."""
    contrast = movie["contrast"].transpose("time", "y", "x").values
    flat = contrast.reshape(len(contrast), -1)
    names = ("centre", "surround", "near")
    weights = np.stack([regions[name].ravel() for name in names], axis=1)
    means = flat @ weights.astype(np.float32)
    centre, surround = means[:, 0].astype(float), means[:, 1].astype(float)
    frame = flat.mean(axis=1, dtype=np.float64)
    window = _frames(rules.step_s, rate)
    found: Found = {}
    for region, luminance in (("centre", centre), ("surround", surround)):
        up, down = steps(luminance, rules, window)
        found[f"{region} step up"] = (up, region, 1, "pictures")
        found[f"{region} step down"] = (down, region, -1, "pictures")
    even = _even(flat, frame, window)
    up, down = steps(frame, rules, window)
    found["full-field step up"] = (up & even, "frame", 1, "pictures")
    found["full-field step down"] = (down & even, "frame", -1, "pictures")
    gap = centre - surround
    limit = threshold(rules.polarity, np.abs(gap))
    found["centre brighter"] = (gap >= limit, "centre", 1, "pictures")
    found["centre darker"] = (gap <= -limit, "centre", -1, "pictures")
    spread = np.sqrt(np.maximum((flat**2) @ weights[:, 2] - means[:, 2].astype(float) ** 2, 0))
    high = spread >= threshold(rules.contrast, spread)
    found["contrast high"] = (high, "surround", 0, "pictures")
    flash = flashes(frame, rules, _frames(rules.flash_s, rate))
    found["flash"] = (flash, "frame", 0, "pictures")
    found["flash omission"] = (omissions(flash, rules), "frame", 0, "pictures")
    return found


def _even(flat: Array, mean: Array, window: int) -> npt.NDArray[np.bool_]:
    """Return where the change since so many frames before is much the same at all pixels."""
    past = np.maximum(np.arange(len(flat)) - window, 0)
    change = flat - flat[past]
    spread = change.std(axis=1, dtype=np.float64)
    return np.asarray(spread <= np.abs(mean - mean[past]) / 2)


def _switch_events(movie: xr.Dataset, rules: EventRules, rate: float, *, truth: bool) -> Found:
    """Return where another image is shown."""
    known = [name for name in ("saccade", "scene") if name in movie and truth]
    if not known:
        contrast = movie["contrast"].transpose("time", "y", "x").values
        on = image_switches(contrast, rules, _frames(rules.step_s, rate))
        return {"image switch": (on, "frame", 0, "pictures")}
    on = np.zeros(movie.sizes["time"], dtype=bool)
    if "saccade" in known:
        on |= run_starts(movie["saccade"].values.astype(bool))
    if "scene" in known:
        on[1:] |= np.diff(movie["scene"].values) != 0
    return {"image switch": (on, "frame", 0, "truth")}


def _movement_events(
    movie: xr.Dataset, regions: dict[str, Array], rules: EventRules, rate: float, *, truth: bool
) -> Found:
    """Return motion of the picture, and of the centre against the background."""
    window = _frames(rules.motion_s, rate)
    quiet = _frames(rules.still_s, rate)
    seen = {
        name: image_motion(movie, weight=regions.get(name), reach=reach)
        for name, reach in _REACH.items()
    }
    given = _true_velocity(movie) if truth else None
    mean, known = _recent_velocity(seen["frame"], rules.explained, window)
    flat = recent_sum(seen["frame"]["change"].values, window) <= _FLAT
    if given is not None:
        mean = recent_sum(given, window) / window
        known = np.ones(len(mean), dtype=bool)
    source = "pictures" if given is None else "truth"
    named = motion_events(mean, known, flat, rules, window, quiet)
    found: Found = {name: (on, "frame", 0, source) for name, on in named.items()}
    differs = _differential(seen["moving"], seen["background"], rules, window)
    return found | {"differential motion": (differs, "centre", 0, "pictures")}


def _true_velocity(movie: xr.Dataset) -> Array | None:
    """Return the velocity (time, xy) of the picture that a movie knows, um/s, or None."""
    for prefix, sign in (("gaze", -1.0), ("object", 1.0)):
        names = [f"{prefix}_velocity_{axis}" for axis in "xy"]
        if set(names) <= set(movie) and "background_x" not in movie:
            velocity = sign * np.stack([movie[name].values for name in names], axis=1)
            velocity = np.nan_to_num(velocity.astype(np.float64))
            return velocity if velocity.any() else None
    return None


def _recent_velocity(
    seen: xr.Dataset, share: float, window: int
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return the mean velocity (time, xy) of the last frames, and where motion explains them."""
    velocity = np.stack([seen["velocity_x"].values, seen["velocity_y"].values], axis=1)
    change = recent_sum(seen["change"].values, window)
    left = recent_sum(seen["remainder"].values, window)
    known = (change > _FLAT) & (left <= (1 - share) * change)
    return recent_sum(velocity, window) / window, known


def _differential(
    centre: xr.Dataset, background: xr.Dataset, rules: EventRules, window: int
) -> npt.NDArray[np.bool_]:
    """Return where centre and background move differently."""
    valid = np.ones(centre.sizes["time"], dtype=bool)
    moving = np.zeros_like(valid)
    velocities, speeds = [], []
    shares = rules.explained_near, rules.explained
    for seen, share in zip((centre, background), shares, strict=True):
        _, known = _recent_velocity(seen, share, window)
        flat = recent_sum(seen["change"].values, window) <= _FLAT
        valid &= known | flat
        moving |= known
        both = np.stack([seen["velocity_x"].values, seen["velocity_y"].values], axis=1)
        velocities.append(both)
        speeds.append(np.sqrt(recent_sum((both**2).sum(axis=1), window) / window))
    difference = ((velocities[0] - velocities[1]) ** 2).sum(axis=1)
    rms = np.sqrt(np.maximum(recent_sum(difference, window), 0) / window)
    faster = np.maximum(speeds[0], speeds[1])
    return np.asarray(valid & moving & (rms >= np.maximum(rules.differential, faster / 2)))
