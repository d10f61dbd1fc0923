"""Taps: which values of a model are its interneurons, by name, pattern, side and axis."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from retinacodec.errors import InputError, Problems

__all__ = ["Tap", "find_taps"]

_SIDES = ("output", "input")
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention)


@dataclass(frozen=True)
class Tap:
    """Where in a model contributions are computed, and which axis its channels are.

    Parameters
    ----------
    name : str
        A module of the model, as in ``model.named_modules()``, or a pattern such as
        ``"blocks.*"``: a star stands for anything within a level, two for any levels.
    side : {"output", "input"}, default "output"
        What leaves the module, or what enters it. The input of an attention's projection are
        its attention vectors.
    heads : int, optional
        Attention heads that the last axis is divided into; the channels are then the heads,
        and contributions are summed over tokens and over the values of each head.
    channel_axis : int, optional
        Axis of the channels, the batch being axis 0. If left out: 1 for convolutions, their
        norms and pools, the last for linear layers, layer norms and attention; for others 1
        where there are four or five axes, the last where there are two or three.

    Raises
    ------
    InputError
        If the side or the number of heads is not one of these.

    Examples
    --------
    >>> Tap("blocks.*.attn.proj", "input", heads=4).label
    'blocks.*.attn.proj:input:4heads'
    >>> Tap.parse("conv1:input") == Tap("conv1", "input")
    True
    """

    name: str
    side: str = "output"
    heads: int | None = None
    channel_axis: int | None = None

    def __post_init__(self) -> None:
        if self.side not in _SIDES:
            raise InputError(f"tap: expected side {' or '.join(_SIDES)}, got {self.side!r}")
        if self.heads is not None and self.heads < 1:
            raise InputError(f"tap: expected heads of at least 1, got {self.heads}")

    @property
    def label(self) -> str:
        """What the layer is called in results; `parse` reads it back."""
        said = [self.name]
        said += [self.side] if self.side != "output" else []
        said += [f"{self.heads}heads"] if self.heads is not None else []
        said += [f"axis{self.channel_axis}"] if self.channel_axis is not None else []
        return ":".join(said)

    @classmethod
    def parse(cls, label: str) -> Tap:
        """Return the tap that a text such as ``"name:input:4heads"`` stands for.

        Raises
        ------
        InputError
            If what follows the name is neither a side, nor heads, nor an axis.
        """
        name, *options = label.split(":")
        tap = cls(name)
        for option in options:
            heads, axis = re.fullmatch(r"(\d+)heads", option), re.fullmatch(r"axis(-?\d+)", option)
            if option in _SIDES:
                tap = replace(tap, side=option)
            elif heads:
                tap = replace(tap, heads=int(heads[1]))
            elif axis:
                tap = replace(tap, channel_axis=int(axis[1]))
            else:
                raise InputError(
                    f"layer {label!r}: expected 'input', 'output', '4heads' or 'axis1' after the "
                    f"name, got {option!r}"
                )
        return tap

    def axis_in(self, module: nn.Module, values: Tensor) -> int:
        """Return the axis of the channels in the values (batch, ...) at a module."""
        if self.channel_axis is not None:
            axis = self.channel_axis % values.ndim if values.ndim else 0
            if not 0 < axis < values.ndim or abs(self.channel_axis) >= values.ndim:
                raise InputError(
                    f"layer {self.label!r}: no axis {self.channel_axis} in {tuple(values.shape)}"
                )
            return axis
        if values.ndim not in (2, 3, 4, 5):
            raise InputError(
                f"layer {self.label!r}: expected values of 2 to 5 axes, the batch first, got "
                f"{tuple(values.shape)}; tap another layer"
            )
        if isinstance(module, _CHANNELS_FIRST) and values.ndim > 2:
            return 1
        last = isinstance(module, _CHANNELS_LAST) or self.heads is not None or values.ndim < 4
        return values.ndim - 1 if last else 1

    def by_channel(self, module: nn.Module, values: Tensor) -> Tensor:
        """Return a view of values (batch, ...) as (batch, channel, ...).

        Raises
        ------
        InputError
            If the axis does not exist or cannot be divided into the heads.
        """
        axis = self.axis_in(module, values)
        if self.heads is not None:
            if values.shape[axis] % self.heads:
                raise InputError(
                    f"layer {self.label!r}: {values.shape[axis]} values cannot be divided into "
                    f"{self.heads} heads"
                )
            values = values.unflatten(axis, (self.heads, -1))
        return values.movedim(axis, 1)


def find_taps(
    model: nn.Module, layers: Sequence[str | Tap] | str | Tap, problems: Problems | None = None
) -> dict[str, Tap]:
    """Return the taps that names, patterns and taps ask for, by their labels.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    layers : sequence of str or Tap
        Names as in ``model.named_modules()``; patterns, which stand for every module that they
        fit, in the model's order; each may be followed by ``":input"``, ``":4heads"`` or
        ``":axis1"`` in place of a `Tap`.
    problems : Problems, optional
        Where to note what is wrong, in place of raising.

    Returns
    -------
    dict of str to Tap
        In the order asked for.

    Raises
    ------
    InputError
        If a name is not in the model, a pattern fits nothing, or a layer is named twice.
    """
    asked = [layers] if isinstance(layers, str | Tap) else list(layers)
    known = [name for name, _ in model.named_modules() if name]
    noted = Problems() if problems is None else problems
    found: dict[str, Tap] = {}
    for one in asked:
        tap: Any = Tap.parse(one) if isinstance(one, str) else one
        if not isinstance(tap, Tap):
            raise InputError(f"circuit: expected layers as names or Tap, got {one!r}")
        names = [tap.name] if tap.name in known else _fitting(tap.name, known)
        noted.require(bool(names), _unknown(tap.name, known))
        for name in names:
            exact = replace(tap, name=name)
            noted.require(exact.label not in found, f"a layer is named twice: {exact.label!r}")
            found[exact.label] = exact
    if problems is None:
        noted.raise_as("circuit")
    return found


def _fitting(pattern: str, known: list[str]) -> list[str]:
    """Return the names that a pattern fits."""
    pieces = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    whole = re.compile("".join(pieces.get(part, re.escape(part)) for part in parts))
    return [name for name in known if whole.fullmatch(name)]


def _unknown(layer: str, known: list[str]) -> str:
    if any(sign in layer for sign in "*?["):
        return f"no layer fits {layer!r}; the model has {', '.join(known[:20])}"
    close = difflib.get_close_matches(layer, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the model has {', '.join(known[:20])}"
    return f"no layer {layer!r} in the model; {hint}"
