"""Rendering a stimulus again from what is written on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import xarray as xr

from retinacodec.errors import InputError
from retinacodec.stimuli.bars import moving_bar
from retinacodec.stimuli.fixation import EyeMovements
from retinacodec.stimuli.motions import Jitter, Still, Straight
from retinacodec.stimuli.natural import natural_movie
from retinacodec.stimuli.noise import Binary, Gaussian, white_noise
from retinacodec.stimuli.objects import moving_object
from retinacodec.stimuli.scenes import Leaves
from retinacodec.stimuli.shapes import Disc, Square
from retinacodec.stimuli.surfaces import Grating, Pink, Uniform

__all__ = ["rerender"]

_STIMULI: dict[str, Callable[..., xr.Dataset]] = {
    maker.__name__: maker for maker in (moving_bar, moving_object, natural_movie, white_noise)
}
_SHAPES = (Disc, Square)
_SURFACES = (Grating, Pink, Uniform)
_MOTIONS = (Jitter, Still, Straight)
_CHOICES: dict[str, Callable[..., Any]] = {
    choice.__name__: choice
    for choice in (*_SHAPES, *_SURFACES, *_MOTIONS, Binary, Gaussian, EyeMovements, Leaves)
}


def rerender(stimulus: xr.Dataset, **changes: Any) -> xr.Dataset:
    """Render a stimulus again from its attributes, with some arguments changed.

    Parameters
    ----------
    stimulus : xarray.Dataset
        A Stimulus made by this package; only its attributes ``name`` and ``parameters`` are read.
    **changes
        Arguments of the function that made it, such as ``frames=600`` or ``start=3600``.

    Returns
    -------
    xarray.Dataset
        The Stimulus.

    Raises
    ------
    InputError
        If the stimulus was not made here, or an argument cannot be used.

    Examples
    --------
    >>> noise = white_noise(frames=5, size=(4, 4), seed=3)
    >>> longer = rerender(noise, frames=8)
    >>> bool((longer.contrast[:5] == noise.contrast).all())
    True
    """
    name = stimulus.attrs.get("name", "")
    if name not in _STIMULI:
        raise InputError(f"rerender: expected one of {', '.join(_STIMULI)}, got {name!r}")
    given = {key: _revive(value) for key, value in json.loads(stimulus.attrs["parameters"]).items()}
    if "seconds" in changes:
        given["frames"] = None
    try:
        return _STIMULI[name](**given | changes)
    except TypeError as error:
        raise InputError(f"rerender: {error}") from error


def _revive(value: Any) -> Any:
    """Turn JSON back into an argument: lists into tuples, and mappings into value objects."""
    if isinstance(value, list):
        return tuple(_revive(part) for part in value)
    if isinstance(value, dict):
        parts = {key: _revive(part) for key, part in value.items() if key != "kind"}
        return _CHOICES[value["kind"]](**parts)
    return value
