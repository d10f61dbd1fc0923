"""Cuts: whether every way from the stimulus to the outputs crosses a layer exactly once."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from retinacodec.capture import first_replaced
from retinacodec.circuit import evaluating
from retinacodec.errors import InputError
from retinacodec.path_rows import tensors

__all__ = ["bypass"]


def bypass(
    model: nn.Module, taps: Mapping[str, tuple[str, str]], sample: Tensor
) -> dict[str, str | None]:
    """Say for each layer whether it is a full cut of a model, and if not, why.

    The contributions of a layer sum to the change of the target only where every way from
    the stimulus to the outputs crosses the layer once.

    Parameters
    ----------
    model : torch.nn.Module
        The model; run once in evaluation mode, and left as it was.
    taps : mapping of str to (str, str)
        For each label the name of a module, as in ``model.named_modules()``, and its side:
        ``"output"`` for what leaves it, ``"input"`` for what enters it.
    sample : torch.Tensor (batch, ...)
        Input of the model, floating point; only its first row is used.

    Returns
    -------
    dict of str to (str or None)
        For each label None for a full cut, else the reason in words.

    Raises
    ------
    InputError
        If the sample is not floating point, a module does not exist, or a tap is no tensor.

    Notes
    -----
    One forward pass records the graph of operations, without the values that a backward pass
    would need. A layer is the copies of its tensor, one for each call. From the outputs the
    graph is walked back without passing them; if the walk ends at the stimulus, there is a way
    around. Ways that pass no gradient are not seen, as they are not by contributions; nor is
    what a reentrant checkpoint hides.

    Examples
    --------
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner = nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return x + self.inner(x)
    >>> model = nn.Sequential(nn.Linear(3, 2), Block(), nn.Linear(2, 1))
    >>> found = bypass(model, {"a": ("1", "output"), "b": ("1.inner", "output")}, torch.ones(1, 3))
    >>> found["a"] is None
    True
    >>> found["b"]
    "the stimulus also reaches the outputs around '1.inner', by a shortcut that ends at '1'"
    """
    if not sample.is_floating_point():
        raise InputError(f"cuts: expected a sample in floating point, got {sample.dtype}")
    record = _record(model, taps, sample)
    graph = _Graph.behind(record.ends, record.source)
    return {
        label: _reason(graph, record, label, name, side) for label, (name, side) in taps.items()
    }


@dataclass
class _Record:
    """Nodes of the graph that were seen while the model ran."""

    names: dict[Any, str] = field(default_factory=dict)
    taps: dict[str, list[Any]] = field(default_factory=dict)
    source: Any = None
    ends: list[Any] = field(default_factory=list)

    def name(self, name: str) -> Callable[..., None]:
        """Return a hook that names the nodes of what a module puts out; the inmost name wins."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            for tensor in tensors(output):
                if tensor.grad_fn is not None:
                    self.names.setdefault(tensor.grad_fn, name)

        return hook

    def mark(self, label: str) -> Callable[..., Any]:
        """Return a hook that marks what leaves a module, or the first tensor of a tuple."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001
            if isinstance(output, tuple) and output:
                return first_replaced(output, self._copied(output[0], label))
            return self._copied(output, label)

        return hook

    def mark_input(self, label: str) -> Callable[..., Any]:
        """Return a hook that marks the first thing that enters a module."""

        def hook(module: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:  # noqa: ARG001
            if inputs:
                return (self._copied(inputs[0], label), *inputs[1:]), named
            for first, value in named.items():
                return inputs, {**named, first: self._copied(value, label)}
            raise InputError(f"layer {label!r}: nothing enters it; tap its output")

        return hook

    def _copied(self, value: Any, label: str) -> Tensor:
        """Return a copy, whose node stays in the graph whatever is done to it in place."""
        if not isinstance(value, Tensor):
            raise InputError(
                f"layer {label!r}: expected a tensor or a tuple that starts with one, got "
                f"{type(value).__name__}; tap a layer inside it"
            )
        copy = value.clone()
        self.taps[label].append(copy.grad_fn)
        return copy


def _record(model: nn.Module, taps: Mapping[str, tuple[str, str]], sample: Tensor) -> _Record:
    """Run the model once on one sample and return the nodes of its graph."""
    record = _Record(taps={label: [] for label in taps})
    with (
        evaluating(model),
        _hooked(model, taps, record),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(_nothing, _nothing),
    ):
        leaf = sample[:1].detach().clone().requires_grad_()
        entry = leaf.clone()
        record.source = entry.grad_fn
        outputs = model(entry)
    record.ends = [one.grad_fn for one in tensors(outputs) if one.grad_fn is not None]
    return record


@contextlib.contextmanager
def _hooked(
    model: nn.Module, taps: Mapping[str, tuple[str, str]], record: _Record
) -> Iterator[None]:
    """Name all modules and mark the taps, and take every hook away again."""
    modules = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            if name:
                stack.callback(module.register_forward_hook(record.name(name)).remove)
        for label, (name, side) in taps.items():
            if name not in modules or side not in ("output", "input"):
                raise InputError(f"cuts: no {side!r} of a module {name!r} in the model")
            if side == "input":
                hook = record.mark_input(label)
                handle = modules[name].register_forward_pre_hook(hook, with_kwargs=True)
            else:
                handle = modules[name].register_forward_hook(record.mark(label))
            stack.callback(handle.remove)
        yield


@dataclass(frozen=True)
class _Graph:
    """Operations by number: which ones each depends on, and which depend on it."""

    number: dict[Any, int]
    before: list[list[int]]
    after: list[list[int]]
    ends: list[int]
    source: int | None

    @classmethod
    def behind(cls, ends: list[Any], source: Any) -> _Graph:
        """Return the graph of everything that the ends depend on, up to the source."""
        number = {node: position for position, node in enumerate(dict.fromkeys(ends))}
        waiting, before = deque(number), []
        while waiting:
            node = waiting.popleft()
            behind = () if node is source else node.next_functions
            found = [one for one, _ in behind if one is not None]
            for one in found:
                if one not in number:
                    number[one] = len(number)
                    waiting.append(one)
            before.append([number[one] for one in found])
        after: list[list[int]] = [[] for _ in before]
        for later, found in enumerate(before):
            for earlier in found:
                after[earlier].append(later)
        return cls(number, before, after, [number[end] for end in ends], number.get(source))

    def way_around(self, marks: set[int]) -> list[int]:
        """Return the shortest way from the source to an end past the marks, or nothing."""
        came: dict[int, int | None] = {end: None for end in self.ends if end not in marks}
        waiting = deque(came)
        while waiting:
            node = waiting.popleft()
            if node == self.source:
                return list(_chain(came, node))
            for earlier in self.before[node]:
                if earlier not in came and earlier not in marks:
                    came[earlier] = node
                    waiting.append(earlier)
        return []


def _reason(graph: _Graph, record: _Record, label: str, name: str, side: str) -> str | None:
    """Return why a layer is no full cut, or None."""
    calls = record.taps[label]
    what = f"{name!r}" if side == "output" else f"the input of {name!r}"
    if not calls:
        return f"{name!r} was not called while the model ran"
    if all(node is None for node in calls):
        return f"the stimulus does not reach {what} in a way that can be differentiated"
    marks = {graph.number[node] for node in calls if node in graph.number}
    if not marks:
        return f"nothing of {what} reaches the outputs"
    behind = _reached(graph.before, marks)
    way = graph.way_around(marks)
    if way:
        names = {
            graph.number[node]: said for node, said in record.names.items() if node in graph.number
        }
        course = _course(way, names, behind, _reached(graph.after, marks))
        return f"the stimulus also reaches the outputs around {what}, {course}"
    if behind & marks:
        return f"a way from the stimulus crosses {what} more than once and is counted as often"
    return None


def _course(way: list[int], names: dict[int, str], behind: set[int], ahead: set[int]) -> str:
    """Return which modules a way passes between leaving the layer's own and joining it again."""
    detour = [names[node] for node in way if node not in behind | ahead and node in names]
    if detour:
        return f"by way of {detour[0]!r}"
    joined = next((names[node] for node in way if node in ahead and node in names), None)
    return "by a shortcut that ends at " + (f"{joined!r}" if joined else "the outputs")


def _reached(edges: list[list[int]], starts: set[int]) -> set[int]:
    """Return what is reached from the starts along the edges, in one step or more."""
    found: set[int] = set()
    waiting = list(starts)
    while waiting:
        new = [node for node in edges[waiting.pop()] if node not in found]
        found.update(new)
        waiting += new
    return found


def _chain(came: dict[int, int | None], node: int | None) -> Iterator[int]:
    while node is not None:
        yield node
        node = came[node]


def _nothing(value: Any) -> Any:  # noqa: ARG001
    """Keep nothing for a backward pass, which never comes."""
    return None
