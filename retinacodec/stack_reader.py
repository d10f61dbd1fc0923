"""Reads a stack of convolutions off a model that runs, whatever its modules are called."""

from __future__ import annotations

import logging
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from retinacodec.circuit import Circuit, evaluating
from retinacodec.secant import ELEMENTWISE, plain_function
from retinacodec.stack import Layer, Stack, StackTap
from retinacodec.trace import NotAChainError, Operation, record

__all__ = ["recognise"]

_log = logging.getLogger(__name__)
_MIXING = frozenset(
    """
    conv1d conv2d conv3d conv_transpose2d linear matmul __matmul__ __rmatmul__ mm bmm addmm
    einsum tensordot bilinear sum mean cumsum __getitem__ index_select gather take_along_dim roll
    flip fold unfold avg_pool2d max_pool2d softmax log_softmax layer_norm cat stack
    """.split()
)
_LARGEST_READOUT = 1024
_TOLERANCE = 1e-4


def recognise(circuit: Circuit, size: tuple[int, int]) -> Stack | None:
    """Return a circuit's model as a stack of convolutions, or None if it is not one.

    Parameters
    ----------
    circuit : Circuit
        A circuit over movies, whose model is in 32 bits.
    size : (int, int)
        Pixels (y, x) of a frame.

    Returns
    -------
    Stack or None
        None if the model branches, if something other than a scaling and a shift of each value
        stands between a convolution and its nonlinearity, if a layer of the circuit lies
        elsewhere, or if the pieces do not add up to the model.

    Notes
    -----
    The operations are followed while the model runs, so that functional calls, reused parameters
    and hand-written modules count like the library's. Scales and shifts are read off in double
    precision, by entering the model midway with zeros and with ones; a linear readout is read
    off by its derivative. What was read off is then held against the model on random stimuli.
    """
    if circuit.sample != "time":
        return None
    with evaluating(circuit.model):
        try:
            return _Reader(circuit, size).stack()
        except (NotAChainError, RuntimeError, TypeError, ValueError, IndexError) as reason:
            _log.debug("not a stack of convolutions: %s", reason)
            return None


class _Reader:
    """Reads a stack off a model."""

    def __init__(self, circuit: Circuit, size: tuple[int, int]) -> None:
        self.circuit, self.model = circuit, circuit.model
        state = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        kinds = {value.dtype for value in state.values() if value.is_floating_point()}
        if kinds != {torch.float32}:
            raise NotAChainError(f"weights of {kinds}")
        self.device = next(iter(state.values())).device
        wide = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
        self.run = lambda stimulus: functional_call(self.model, wide, (stimulus,))
        self.sample = (circuit.history or 1, *size)
        self._probes: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        stimulus = self._zeros(2, self.sample).float()
        self.trace = record(self.model, self.model, circuit.taps, stimulus)
        self.numbers = [i for i, one in enumerate(self.trace.operations) if one.shape is not None]
        self.groups = _groups([(i, self.trace.operations[i]) for i in self.numbers])
        self.at_zero = [self._at_zero(position) for position in range(len(self.groups))]

    def stack(self) -> Stack:
        layers = tuple(self._layer(position) for position in range(len(self.groups)))
        drive = self._drive_number()
        readout, offset = self._readout(drive)
        inside, head = {}, []
        for name, number in self.trace.taps.items():
            if number >= drive:
                head.append(name)
            else:
                inside[name] = self._tap(number)
        stack = Stack(layers, readout, offset, inside, tuple(head), self.model, self.trace, drive)
        self._verify(stack)
        return stack

    def _zeros(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros((count, *shape), dtype=torch.float64, device=self.device)

    def _before(self, number: int) -> int:
        """Return the number of the operation before one, -1 for the stimulus."""
        return max((i for i in self.numbers if i < number), default=-1)

    def _shape(self, number: int) -> tuple[int, ...]:
        return self.sample if number < 0 else self.trace.operations[number].shape or ()

    def _probe(self, entry: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return scale and shift from the result of one operation to that of a later one."""
        if (entry, stop) not in self._probes:
            value = self._zeros(2, self._shape(entry))
            value[1] = 1
            with torch.no_grad():
                zero, one = self.trace.resume(self.run, entry, value, stop)
            self._probes[entry, stop] = one - zero, zero
        return self._probes[entry, stop]

    def _at_zero(self, position: int) -> Tensor:
        """Return what a convolution puts out while nothing comes in from below."""
        source = self.groups[position - 1][1] if position else -1
        nothing = self._zeros(1, self._shape(source))
        with torch.no_grad():
            return self.trace.resume(self.run, source, nothing, self.groups[position][0])[0]

    def _layer(self, position: int) -> Layer:
        conv, bend = self.groups[position]
        shape, inputs = self._shape(conv), self._before(conv)
        scale, shift = (v.reshape(shape) for v in self._probe(conv, self._before(bend)))
        source = self.groups[position - 1][1] if position else -1
        step, _ = self._probe(source, inputs)
        at_zero = self.at_zero[position]
        weight, options = _conv_arguments(self.trace.operations[conv])
        if position == 0:
            if step.shape != self.sample or not bool((step == step[:, :1, :1]).all()):
                raise NotAChainError("pixels are scaled differently")
            step = step[:, 0, 0]
            if options["groups"] != 1:
                raise NotAChainError("the first convolution has groups")
            weight = weight * step[:, None, None]
        elif not torch.allclose(step, torch.ones_like(step)):
            raise NotAChainError("something stands between a nonlinearity and the next convolution")
        bent = self.trace.operations[bend]
        plain = plain_function(
            bent.name.rstrip("_"),
            bent.function,
            bent.args[1:],
            {k: v for k, v in bent.kwargs.items() if k not in ("input", "inplace")},
        )
        return Layer(
            weight.float().contiguous(),
            options,
            scale.float(),
            (shift + scale * at_zero).float(),
            plain,
            bent.name,
        )

    def _drive_number(self) -> int:
        """Return the number of the last mixing operation before the head's nonlinearity."""
        last, found, size = self.groups[-1][1], None, None
        size = prod(self._shape(last))
        for number in (i for i in self.numbers if i > last):
            one = self.trace.operations[number]
            if one.name.rstrip("_") in ELEMENTWISE:
                break
            if _mixes(one, size):
                found = number
            size = prod(one.shape or ())
        if found is None or prod(self._shape(found)) > _LARGEST_READOUT:
            raise NotAChainError("no readout")
        return found

    def _readout(self, drive: int) -> tuple[Tensor, Tensor]:
        last = self.groups[-1][1]
        value = self._zeros(1, self._shape(last)).requires_grad_()
        with torch.enable_grad():
            drives = self.trace.resume(self.run, last, value, drive)[0].flatten()
            rows = [torch.autograd.grad(one, value, retain_graph=True)[0][0] for one in drives]
        shape = self._shape(self.groups[-1][0])
        matrix = torch.stack(rows).reshape(-1, *shape)
        return matrix.float(), drives.detach().float()

    def _tap(self, number: int) -> StackTap:
        shape = self._shape(number)
        flat = len(shape) == 1
        for position, (conv, bend) in enumerate(self.groups):
            whole = self._shape(conv)
            if prod(shape) != prod(whole) or len(shape) not in (1, 3):
                continue
            if conv <= number < bend:
                scale, shift = (v.reshape(whole) for v in self._probe(conv, number))
                gain = self._probe(number, self._before(bend))[0].reshape(whole)
                shift = shift + scale * self.at_zero[position]
                return StackTap(position, False, scale.float(), shift.float(), gain.float(), flat)
            following = [c for c, _ in self.groups if c > bend]
            if bend <= number < (following or [self._first_mixing(bend)])[0]:
                scale, shift = (v.reshape(whole) for v in self._probe(bend, number))
                gain = scale.reciprocal()
                return StackTap(position, True, scale.float(), shift.float(), gain.float(), flat)
        raise NotAChainError("a layer lies between the stack and its readout")

    def _first_mixing(self, after: int) -> int:
        size = prod(self._shape(after))
        later = (i for i in self.numbers if i > after)
        return next(i for i in later if _mixes(self.trace.operations[i], size))

    def _verify(self, stack: Stack) -> None:
        """Hold the stack against the model on random stimuli."""
        generator = torch.Generator().manual_seed(0)
        stimulus = torch.randn((3, *self.sample), generator=generator).to(self.device)
        with torch.no_grad():
            states = stack.values(stack.layers[0].conv(stimulus))
            numbers = {stack.drive, *(self.trace.taps[name] for name in stack.taps)}
            wanted = self.trace.watch(self.model, stimulus, sorted(numbers))
            _same(stack.drives(states[-1][1]), wanted[stack.drive].flatten(1), "drives")
            for name, tap in stack.taps.items():
                found = tap.scale * states[tap.layer][tap.after] + tap.shift
                _same(found.flatten(1), wanted[self.trace.taps[name]].flatten(1), name)


def _groups(operations: list[tuple[int, Operation]]) -> list[tuple[int, int]]:
    """Return the numbers of each convolution and its nonlinearity."""
    groups: list[tuple[int, int]] = []
    conv: tuple[int, Operation] | None = None
    for number, one in operations:
        if one.name == "conv2d":
            if conv is not None:
                break
            conv = number, one
        elif one.name.rstrip("_") in ELEMENTWISE:
            if conv is None or prod(one.shape or ()) != prod(conv[1].shape or ()):
                break
            groups.append((conv[0], number))
            conv = None
    while groups:
        size = prod(dict(operations)[groups[-1][1]].shape or ())
        if any(_mixes(one, size) for number, one in operations if number > groups[-1][1]):
            return groups
        groups.pop()
    raise NotAChainError("no convolution with a nonlinearity before a readout")


def _mixes(operation: Operation, size: int) -> bool:
    """Return whether an operation makes one value out of several, or picks some."""
    return operation.name in _MIXING or prod(operation.shape or ()) != size


def _conv_arguments(operation: Operation) -> tuple[Tensor, dict[str, Any]]:
    """Return the kernel and the options of a recorded ``conv2d``."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(names, operation.args, strict=False)) | operation.kwargs
    pairs = {}
    for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
        value = given.get(name, default)
        if isinstance(value, str):
            raise NotAChainError(f"padding given as {value!r}")
        both = (value, value) if isinstance(value, int) else tuple(value)
        pairs[name] = both if len(both) == 2 else both * 2
    return given["weight"].detach(), {**pairs, "groups": given.get("groups", 1)}


def _same(found: Tensor, wanted: Tensor, what: str) -> None:
    gap = float((found - wanted).abs().max())
    if not gap <= _TOLERANCE * (float(wanted.abs().max()) + 1e-6):
        raise NotAChainError(f"{what}: the pieces do not add up to the model, by {gap:.1e}")
