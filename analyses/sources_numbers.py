"""The moments of a cell's field that tell most, and the strongest parts of the field there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.analyses.field_frames import firing_frames, loading_on
from retinacodec.analyses.mode_fields import mode_fields
from retinacodec.analyses.source_shares import source_shares
from retinacodec.channel_parts import field_sources
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.gradients import latent_fields
from retinacodec.latents import LatentFields
from retinacodec.rules import Rule
from retinacodec.separable import separable
from retinacodec.source_fields import SourceFields
from retinacodec.targets import Target

__all__ = ["sources_numbers"]

Array = npt.NDArray[Any]


def sources_numbers(
    circuit: Circuit,
    movie: xr.Dataset,
    modes: xr.Dataset | None = None,
    *,
    cell: int | str = 0,
    frames: npt.ArrayLike | None = None,
    layer: str | None = None,
    target: Target | None = None,
    rule: Rule | None = None,
    most: int = 3,
    survey: int = 200,
    minimum_rate: float = 5.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Return what the figure of a cell's sources shows.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    modes : xarray.Dataset, optional
        Modes of the layer, for this movie, `target` and `rule`; no parts by mode if left out.
    cell : int or str, default 0
        Position or name.
    frames : array_like of int, optional
        Movie frames to show. If left out three: where the field is most like its mean, where it
        is least, and where it is between the two.
    layer : str, optional
        A layer of the circuit; its first if left out.
    target : Target, optional
        What the modes' contributions are to; the cell's own rate if left out.
    rule : Rule, optional
        As in `retinacodec.channel_parts.field_sources`.
    most : int, default 3
        Strongest channels, and modes, that are shown by themselves.
    survey : int, default 200
        Frames with firing over which the usual field is the mean, and among which moments are
        chosen.
    minimum_rate : float, default 5.0
        The cell fires above this rate, Hz.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        Over (time, slot), slot 0 being the field and the others its parts: ``picture`` (time,
        slot, y, x), Hz per unit contrast, ``name`` (empty for nothing), ``kind`` (``"field"``,
        ``"channel"``, ``"mode"``), ``centre_share``, ``surround_share``, ``polarity`` and
        ``flips``; ``rate`` and ``likeness`` (time), the cosine with the usual field; ``centre``
        (y, x). Attributes ``cell`` and ``layer``.

    Raises
    ------
    InputError
        If something does not fit, or the cell never fires.

    Notes
    -----
    Each picture is a part's product with the time course of the whole field's separable form,
    so that the pictures of a kind sum to that of the field. Parts are ranked by the norm of
    their picture; what is not shown by itself is summed into one, with what belongs to none.
    """
    where: dict[str, Any] = {"device": device, "progress": progress}
    rate = predict(circuit, movie, device=device)
    loading = None if modes is None else loading_on(modes, movie)
    seen = firing_frames(circuit, rate, [cell], loading, minimum_rate, survey)
    usual = latent_fields(circuit, movie, cells=[cell], frames=seen, **where)
    likeness = _likeness(usual)
    moments = seen[_moments(likeness)] if frames is None else np.atleast_1d(np.asarray(frames))
    parts = field_sources(
        circuit, movie, layer=layer, cells=[cell], frames=moments, target=target, rule=rule, **where
    )
    found = {"channel": parts}
    if modes is not None:
        found["mode"] = mode_fields(parts, modes)
    return _gathered(found, usual.mean(), most)


def _gathered(found: dict[str, SourceFields], reference: xr.DataArray, most: int) -> xr.Dataset:
    """Return pictures and shares of the strongest parts of every kind."""
    total = next(iter(found.values())).total
    whole = total.project().isel(cell=0)
    form = separable(whole)
    courses = form["temporal"].values
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    picture = [np.einsum("tl,tlyx->tyx", courses, whole.values)]
    first = source_shares(next(iter(found.values())), reference=reference)
    _append(columns, _whole_row(first))
    for kind, parts in found.items():
        shares = source_shares(parts, reference=reference).isel(cell=0)
        maps = _pictures(parts, courses)
        for rows, named in _chosen(maps, shares, most, kind):
            picture.append(rows)
            _append(columns, named)
    data: dict[str, Any] = {
        name: (("time", "slot"), np.stack(values, axis=1)) for name, values in columns.items()
    }
    for name in ("centre_share", "surround_share", "polarity"):
        data[name] = (*data[name], {"units": "1"})
    data["picture"] = (
        ("time", "slot", "y", "x"),
        np.stack(picture, axis=1),
        {"units": "Hz", "long_name": "rate change per unit contrast"},
    )
    data["rate"] = total.rate.isel(cell=0, drop=True)
    data["likeness"] = ("time", _cosines(whole.values, reference.values[0]), {"units": "1"})
    data["centre"] = first["centre"].isel(cell=0)
    attrs = {
        "kind": "sources",
        "cell": str(total.rate["cell"].values[0]),
        "layer": str(next(iter(found.values())).latent.attrs["sources"]),
    }
    return xr.Dataset(data, coords={"y": total.y, "x": total.x}, attrs=attrs)


_COLUMNS = ("name", "kind", "centre_share", "surround_share", "polarity", "flips")


def _append(columns: dict[str, list[Any]], row: dict[str, Any]) -> None:
    for name, values in row.items():
        columns[name].append(values)


def _whole_row(shares: xr.Dataset) -> dict[str, Any]:
    """Return the columns of the field itself."""
    ones = np.ones(shares.sizes["time"])
    whole = shares.isel(cell=0)
    said = {"name": "field", "kind": "field"}
    row: dict[str, Any] = {
        key: np.full(len(ones), text, dtype="<U40") for key, text in said.items()
    }
    row |= {"centre_share": ones, "surround_share": ones}
    return row | {"polarity": whole["total_polarity"].values, "flips": whole["flipped"].values}


def _pictures(parts: SourceFields, courses: Array) -> Array:
    """Return the parts and the rest as pictures (time, part, y, x)."""
    rows = []
    for moment, course in enumerate(courses):
        one = parts.select(time=moment, cell=0)
        own = one.project().values.reshape(
            -1, course.size, *one.total.field(one.rest.latent).shape[-2:]
        )
        rest = one.rest.project().values[0]
        rows.append(np.einsum("l,plyx->pyx", course, np.concatenate([own, rest])))
    return np.stack(rows)


def _chosen(
    maps: Array, shares: xr.Dataset, most: int, kind: str
) -> Iterator[tuple[Array, dict[str, Any]]]:
    """Yield pictures (time, y, x) and columns of the strongest parts, of others, and the rest."""
    count = maps.shape[1] - 1
    strength = np.linalg.norm(maps[:, :count].reshape(len(maps), count, -1), axis=2)
    order = np.argsort(-strength, axis=1, kind="stable")
    parts = shares["part"].values
    shown = order[:, :most]
    for taken in shown.T:
        single = np.arange(count + 1) == taken[:, None]
        names = [f"{kind} {parts[one]}" for one in taken]
        yield _summed(maps, shares, single, names, kind)
    rest = np.zeros((len(maps), count + 1), dtype=bool)
    rest[:, -1] = True
    others = ~rest
    np.put_along_axis(others, shown, False, axis=1)
    if count > most:
        yield _summed(maps, shares, others, [f"other {kind}s"] * len(maps), kind)
    if np.abs(maps[:, -1]).max() > 1e-4 * np.abs(maps).max():
        yield _summed(maps, shares, rest, [f"no {kind}"] * len(maps), kind)


def _summed(
    maps: Array, shares: xr.Dataset, members: Array, names: list[str], kind: str
) -> tuple[Array, dict[str, Any]]:
    """Return the picture and the columns of a sum of parts, members (time, part).

    The name is empty where there is nothing.
    """
    picture = (maps * members[..., None, None]).sum(axis=1)
    row: dict[str, Any] = {
        "name": np.where(picture.any(axis=(1, 2)), np.array(names, dtype="<U40"), ""),
        "kind": np.full(len(maps), kind, dtype="<U40"),
    }
    row |= {key: (shares[key].values * members).sum(axis=1) for key in _COLUMNS[2:5]}
    row["flips"] = (shares["flips"].values & members).any(axis=1)
    return picture, row


def _likeness(fields: LatentFields) -> Array:
    """Return the cosine of each field of one cell with their mean."""
    blocks = [
        fields.select(time=slice(at, at + 64)) for at in range(0, fields.rate.sizes["time"], 64)
    ]
    mean = fields.mean().values[0]
    return np.concatenate([_cosines(one.project().values[:, 0], mean) for one in blocks])


def _cosines(fields: Array, one: Array) -> Array:
    norms = np.linalg.norm(fields.reshape(len(fields), -1), axis=1) * np.linalg.norm(one)
    products = np.einsum("tlyx,lyx->t", fields, one)
    return np.asarray(np.divide(products, norms, where=norms > 0, out=np.full(len(norms), np.nan)))


def _moments(likeness: Array) -> Array:
    """Return the positions of the field most like the mean, between, and least like it."""
    known = np.flatnonzero(np.isfinite(likeness))
    if not len(known):
        raise InputError("sources_numbers: the field of the cell is zero at every moment")
    order = known[np.argsort(-likeness[known], kind="stable")]
    middle = (likeness[order[0]] + likeness[order[-1]]) / 2
    between = known[np.argmin(np.abs(likeness[known] - middle))]
    return np.array(list(dict.fromkeys([int(order[0]), int(between), int(order[-1])])))
