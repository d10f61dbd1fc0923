"""One cell, mode or other row of a table, by its position or its name."""

from __future__ import annotations

import xarray as xr

from retinacodec.errors import InputError

__all__ = ["one_of", "position_of"]


def position_of(table: xr.Dataset | xr.DataArray, dim: str, which: int | str) -> int:
    """Return where something is along a dimension.

    Parameters
    ----------
    table : xarray.Dataset or xarray.DataArray (dim, ...)
        With the names along the dimension as its coordinate.
    dim : str
        Such as ``"cell"``.
    which : int or str
        Position, negative ones from the end, or name.

    Returns
    -------
    int
        Position, at least 0.

    Raises
    ------
    InputError
        If there is no such position or name.

    Examples
    --------
    >>> table = xr.Dataset(coords={"cell": ["on", "off"]})
    >>> position_of(table, "cell", "off"), position_of(table, "cell", -2)
    (1, 0)
    """
    names = table[dim].values.tolist()
    if isinstance(which, str):
        if which not in names:
            raise InputError(f"no {dim} {which!r}; there are {', '.join(map(str, names[:20]))}")
        return int(names.index(which))
    if not -len(names) <= which < len(names):
        raise InputError(f"no {dim} {which}; expected 0 to {len(names) - 1} or a name")
    return int(which) % len(names)


def one_of(table: xr.Dataset, **which: int | str) -> xr.Dataset:
    """Select one row along each of some dimensions.

    Parameters
    ----------
    table : xarray.Dataset
        With names as coordinates.
    **which : int or str
        Position or name along a dimension, such as ``cell="a"``.

    Returns
    -------
    xarray.Dataset
        Without these dimensions.

    Raises
    ------
    InputError
        If there is no such position or name.
    """
    return table.isel({dim: position_of(table, dim, one) for dim, one in which.items()})
