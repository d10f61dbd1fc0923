"""Stimuli made to satisfy or to violate a formula, and whether modes turn on and off with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.event_concepts import lagged_events
from retinacodec.analyses.explanation_tests import edit_test
from retinacodec.analyses.mode_explanations import LAGS_S
from retinacodec.analyses.mode_projection import project_modes
from retinacodec.analyses.stimulus_events import stimulus_events
from retinacodec.circuit import Circuit
from retinacodec.contribute import contributions
from retinacodec.errors import InputError, Problems
from retinacodec.formulas import Formula, evaluate, parse_formula
from retinacodec.progress import track
from retinacodec.rules import Rule
from retinacodec.schema import make_stimulus
from retinacodec.targets import Target

__all__ = ["ROLES", "probe_library", "synthesis_test", "synthesise"]

Array = npt.NDArray[Any]

ROLES = ("violates", "satisfies", "control")


def probe_library(
    render: Callable[..., xr.Dataset],
    space: Mapping[str, Sequence[Any]],
    *,
    onset: int,
    lags_s: Sequence[tuple[float, float]] = LAGS_S,
    events: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Render all stimuli of a space of parameters, with their events.

    Parameters
    ----------
    render : callable
        Returns a Stimulus for one value of each parameter, such as
        ``retinacodec.stimuli.centre_surround``; the same number of frames for all.
    space : mapping of str to sequence
        Values of each parameter; all combinations are rendered.
    onset : int
        First frame in which stimuli may differ in what happens; formulas count from here on.
    lags_s : sequence of (float, float)
        As in `lagged_events`; those of the formulas.
    events : mapping, optional
        Arguments of `stimulus_events`, such as ``centre``.
    progress : bool, default True
        Show the progress.

    Returns
    -------
    xarray.Dataset
        ``contrast`` (stimulus, time, y, x), ``concept_on`` (stimulus, event, time), ``place``
        (stimulus, parameter), which value each parameter has; ``values`` (stimulus), all as JSON.
        Stimuli that look the same as an earlier one are left out.

    Raises
    ------
    InputError
        If there is nothing to vary, or the onset is no frame of the stimuli.
    """
    if not space or not all(len(values) for values in space.values()):
        raise InputError("probe_library: expected at least one value of each parameter")
    places = list(itertools.product(*(range(len(values)) for values in space.values())))
    kept: list[tuple[Any, ...]] = []
    seen: set[bytes] = set()
    options = dict(events or {})
    for place in track(places, "probes", enabled=progress):
        given = {name: space[name][k] for name, k in zip(space, place, strict=True)}
        movie = render(**given)
        picture = movie["contrast"].values.tobytes()
        if picture not in seen:
            seen.add(picture)
            concepts = lagged_events(stimulus_events(movie, **options), lags_s)
            kept.append((movie, concepts.transpose("event", "time"), place, json.dumps(given)))
    movie, concepts = kept[0][:2]
    if not 0 < onset < movie.sizes["time"]:
        raise InputError(f"probe_library: onset {onset} is none of {movie.sizes['time']} frames")
    return xr.Dataset(
        {
            "contrast": (
                ("stimulus", "time", "y", "x"),
                np.stack([one[0]["contrast"].values for one in kept]),
            ),
            "concept_on": (
                ("stimulus", "event", "time"),
                np.stack([one[1].values for one in kept]),
            ),
            "place": (("stimulus", "parameter"), np.array([one[2] for one in kept])),
            "values": ("stimulus", [one[3] for one in kept]),
        },
        coords={
            "event": concepts["event"].values,
            "parameter": list(space),
            **{name: movie[name] for name in ("time", "y", "x")},
        },
        attrs={name: movie.attrs[name] for name in ("frame_rate", "pixel_um")} | {"onset": onset},
    )


def synthesise(
    formula: Formula | str,
    library: xr.Dataset,
    *,
    count: int = 16,
    least: int = 3,
    seed: int = 0,
) -> xr.Dataset:
    """Choose stimuli that differ in one parameter, of which one satisfies a formula.

    Parameters
    ----------
    formula : Formula or str
        Over the lagged events of the library.
    library : xarray.Dataset
        What `probe_library` returns.
    count : int, default 16
        Number of triples, at most; no two satisfy the formula with the same stimulus as long as
        there are others.
    least : int, default 3
        Frames from the onset on in which the formula must hold.
    seed : int, default 0
        Seed of the choice.

    Returns
    -------
    xarray.Dataset
        ``contrast`` (triple, role, time, y, x), for three roles: a stimulus that ``violates`` the
        formula in all frames from the onset on; one that ``satisfies`` it, and differs in one
        parameter; and a ``control`` that violates it too, and differs from the first in one
        parameter by as much. ``holds`` (triple, role, time); ``changed`` and ``control_changed``
        (triple), the parameters; ``difference`` (triple, role), root mean squared difference from
        the first, contrast; ``values`` (triple, role).

    Raises
    ------
    InputError
        If no stimulus of the library satisfies the formula, or none that does has neighbours
        that violate it.
    """
    words = parse_formula(formula) if isinstance(formula, str) else formula
    onset = library.attrs["onset"]
    concepts = library["concept_on"].transpose("event", "stimulus", "time").values
    table = dict(zip(library["event"].values.tolist(), concepts, strict=True))
    holds = evaluate(words, table)
    frames_on = holds[:, onset:].sum(axis=1)
    good, bad = frames_on >= least, frames_on == 0
    rng = np.random.default_rng(seed)
    triples = []
    for edited in rng.permutation(np.flatnonzero(good)):
        found = _triple(library, int(edited), bad, rng)
        if found is not None:
            triples.append(found)
        if len(triples) == count:
            break
    if not triples:
        raise InputError(
            f"synthesise: {int(good.sum())} of {good.size} stimuli satisfy {words}, and none of "
            "them has neighbours that violate it; widen the space of the library"
        )
    return _triples(library, np.array(triples), holds, str(words))


def synthesis_test(
    triples: xr.Dataset,
    circuit: Circuit,
    modes: xr.Dataset,
    target: Target,
    *,
    layer: str,
    rule: Rule | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """Show synthesised stimuli to a circuit, and ask whether its modes turn on.

    Parameters
    ----------
    triples : xarray.Dataset
        What `synthesise` returns.
    circuit : Circuit
        The circuit in whose contributions the modes were found.
    modes : xarray.Dataset
        What `find_modes` returned.
    target : Target
        The one target that the modes explain.
    layer : str
        The layer of the modes.
    rule : Rule, optional
        As in `retinacodec.contributions`; the one the modes were found with.
    draws : int, default 2000
        Resamples and sign flips.
    seed : int, default 0
        Seed of both.

    Returns
    -------
    xarray.Dataset
        What `edit_test` returns, over ``mode``: by how much more the mean loading from the onset
        on rises from the stimulus that violates the formula to the one that satisfies it, than to
        the control; and ``loading`` (triple, role, time, mode), of new rows coded by the
        dictionary; ``on`` (role, mode), share of the frames from the onset on in which it is
        above 0; ``superiority`` (mode), in what share of triples the satisfying stimulus loads
        more than both others, ties as a third.

    Raises
    ------
    InputError
        If the movies are shorter than the circuit's history, or there are fewer than two triples.
    """
    problems = Problems()
    frames, count = triples.sizes["time"], triples.sizes["triple"]
    onset = max(triples.attrs["onset"], circuit.first_frame)
    problems.require(
        circuit.first_frame < frames,
        f"expected more than {circuit.first_frame} frames, got {frames}",
    )
    problems.require(count >= 2, f"expected two triples at least, got {count}")
    problems.raise_as("synthesis_test")
    film = make_stimulus(
        triples["contrast"].values.reshape(-1, *triples["contrast"].shape[3:]),
        frame_rate=triples.attrs["frame_rate"],
        pixel_um=triples.attrs["pixel_um"],
        name="synthesis",
    )
    node = contributions(circuit, film, target, rule=rule, progress=False).children[layer]
    coded = project_modes(modes, node).transpose("time", "mode").values
    rows = np.full((film.sizes["time"], coded.shape[1]), np.nan)
    rows[len(rows) - len(coded) :] = coded
    loading = rows.reshape(count, len(ROLES), frames, -1)
    loading[:, :, : circuit.first_frame] = np.nan
    mean = loading[:, :, onset:].mean(axis=2)
    tested = edit_test(lambda rows: rows, *np.moveaxis(mean, 1, 0), draws=draws, seed=seed)
    known = np.max(np.delete(mean, 1, axis=1), axis=1)
    best, ties = mean[:, 1] > known, (mean == mean[:, :1]).all(axis=1)
    result = tested.rename(target="mode", stimulus="triple").assign(
        loading=(("triple", "role", "time", "mode"), loading, {"units": "1"}),
        on=(("role", "mode"), (loading[:, :, onset:] > 0).mean(axis=(0, 2)), {"units": "1"}),
        superiority=("mode", np.where(ties, 1 / 3, best).mean(axis=0), {"units": "1"}),
    )
    kept = {"role": list(ROLES), "time": triples["time"], "mode": modes["mode"]}
    return result.assign_coords(kept).assign_attrs(
        kind="synthesis", onset=onset, formula=triples.attrs["formula"]
    )


def _triple(
    library: xr.Dataset, edited: int, bad: Array, rng: np.random.Generator
) -> tuple[int, int, int] | None:
    """Return an original, the edited stimulus and a control, or None where there are none."""
    place, pictures = library["place"].values, library["contrast"].values
    for original in rng.permutation(np.flatnonzero(_near(place, edited) & bad)):
        rivals = np.flatnonzero(_near(place, int(original)) & bad)
        if not rivals.size:
            continue
        wanted = _distance(pictures[edited], pictures[original])
        sizes = np.array([_distance(pictures[one], pictures[original]) for one in rivals])
        gap = np.abs(np.log(np.maximum(sizes, 1e-9) / max(wanted, 1e-9)))
        if gap.min() <= np.log(2):
            return int(original), edited, int(rivals[gap.argmin()])
    return None


def _near(place: Array, one: int) -> npt.NDArray[np.bool_]:
    """Return which stimuli differ from one in a single parameter."""
    return np.asarray((place != place[one]).sum(axis=1) == 1)


def _distance(one: Array, other: Array) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


def _triples(library: xr.Dataset, chosen: Array, holds: Array, formula: str) -> xr.Dataset:
    place, names = library["place"].values, library["parameter"].values
    pictures = library["contrast"].values[chosen]
    roles = ("triple", "role")
    changed = [
        [str(names[np.flatnonzero(place[row[0]] != place[row[k]])[0]]) for row in chosen]
        for k in (1, 2)
    ]
    difference = np.sqrt(((pictures - pictures[:, :1]) ** 2).mean(axis=(2, 3, 4)))
    return xr.Dataset(
        {
            "contrast": ((*roles, "time", "y", "x"), pictures),
            "holds": ((*roles, "time"), holds[chosen]),
            "changed": ("triple", changed[0]),
            "control_changed": ("triple", changed[1]),
            "difference": (roles, difference, {"units": "1"}),
            "values": (roles, library["values"].values[chosen]),
        },
        coords={name: library[name] for name in ("time", "y", "x")} | {"role": list(ROLES)},
        attrs=library.attrs | {"formula": formula},
    )
