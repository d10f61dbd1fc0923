"""The job behind the verb: what is asked, made ready for one circuit and its samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import xarray as xr

from retinacodec.adaptive_path import AdaptivePath
from retinacodec.assembly import Assembler
from retinacodec.capture import tapped
from retinacodec.circuit import Circuit, evaluating
from retinacodec.cuts import bypass
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath
from retinacodec.memory import Need, Plan, divide, measure_need
from retinacodec.movie_path import MoviePath
from retinacodec.passes import Ends
from retinacodec.rules import PathRule, Rule, Secant, refines
from retinacodec.samples import Images, Samples, rows_for
from retinacodec.secant import NoExactFactorError
from retinacodec.tally import Array, Wish
from retinacodec.targets import Target, bind_target, describe_target, target_labels

__all__ = ["Job"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One computation of contributions.

    Parameters
    ----------
    samples : Samples
        What the circuit reads.
    generic : GenericPath
        How any circuit is computed; holds circuit, bound target, rule, wish and device.
    short : MoviePath or None
        The fast path, if there is one.
    assembler : Assembler
        Names the results.
    bypasses : dict of str to (str or None)
        For each layer that is not a full cut the reason.
    asked : Rule
        The rule that was asked for.
    """

    samples: Samples
    generic: GenericPath
    short: MoviePath | None
    assembler: Assembler
    bypasses: dict[str, str | None]
    asked: Rule = field(repr=False)

    @classmethod
    def prepare(
        cls,
        circuit: Circuit,
        source: xr.Dataset | Images,
        target: Target,
        rule: Rule,
        wish: Wish,
        fast: bool,
        device: str | torch.device | None,
    ) -> Job:
        """Check everything, bind the target, and choose the path.

        Parameters
        ----------
        circuit, source, target, rule, fast, device
            As in `contributions`.
        wish : Wish
            What is kept of each layer.

        Raises
        ------
        InputError
            If something does not fit.
        """
        samples = rows_for(circuit, source)
        where = resolve_device(device, circuit.model)
        starts = None
        if isinstance(rule, PathRule):
            starts = rule.baseline.starts(samples.frames, samples.shape)
        short = _short(circuit, target, rule, samples, wish, where, starts) if fast else None
        with evaluating(circuit.model, where), torch.no_grad():
            outputs = _checked(circuit.model(samples.take(0, 1).contiguous().to(where)))
        names = circuit.output_names(outputs.shape[1])
        bound = bind_target(target, names, partial(_outputs, samples, short, where))
        labels = _labels(bound, names, outputs, samples)
        generic = GenericPath(circuit, bound, rule, wish, where, starts)
        bypasses: dict[str, str | None] = {}
        if short is None:
            one = samples.take(0, 1).contiguous().to(where)
            sides = {label: (tap.name, tap.side) for label, tap in circuit.taps.items()}
            with evaluating(circuit.model, where):
                _rehearse(circuit, one, outputs, wish.maps)
                bypasses = bypass(circuit.model, sides, one)
        units = getattr(bound, "units", "")
        assembler = Assembler(circuit, samples.coordinate, names, labels, units, bypasses)
        short = None if short is None else short.bound(bound)
        return cls(samples, generic, short, assembler, bypasses, rule)

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.generic.device

    def divided(self, batch: int | None, budget_gb: float, whole: bool) -> tuple[Job, Plan]:
        """Return the job divided so that it stays within a budget, and how.

        Parameters
        ----------
        batch : int or None
            Samples at a time, if the caller wants to say.
        budget_gb : float
            Working memory, GB.
        whole : bool
            Whether the result has to fit the budget too.

        Raises
        ------
        InputError
            If it cannot be done within the budget.
        """
        count = len(self.samples)
        one = self.samples.take(0, 1).contiguous().to(self.device)
        generic, need = _measured(self.generic, one)
        kept = count * need.kept / 1e9
        if whole and self.generic.wish.maps and kept > budget_gb:
            raise InputError(
                f"contributions: full maps would take {kept:.1f} GB of {budget_gb:g} GB; write "
                "them to a file with out='parts.zarr', take a shorter movie or fewer targets, or "
                "maps=False"
            )
        if self.short is not None:
            targets = len(self.assembler.labels or (None,))
            short, block, working = self.short.divided(budget_gb, batch, targets, need.kept)
            points, block = len(self.rule.points()), min(block, count)
            plan = Plan("movie", count, block, points, working / 1e9, kept)
            return replace(self, short=short), plan
        job = replace(self, generic=generic)
        generic, plan = divide(generic, need, count, budget_gb, batch, job.adaptive)
        return replace(job, generic=generic), plan

    @property
    def rule(self) -> Rule:
        """The rule that is used."""
        return self.generic.rule

    @property
    def adaptive(self) -> bool:
        """Whether steps are refined."""
        return refines(self.rule)

    def compute(self, start: int, stop: int) -> dict[str, Array]:
        """Return the contributions of some samples, as from `Tally.found`."""
        if self.short is not None:
            return self.short.run(self.samples.frames, start, stop)
        rows = self.samples.take(start, stop).contiguous()
        numbers = self.samples.numbers(start, stop)
        if self.adaptive:
            cuts = frozenset(name for name, reason in self.bypasses.items() if reason is None)
            return AdaptivePath(self.generic, cuts).run(rows, numbers)
        return self.generic.run(rows, numbers)

    def attrs(self) -> dict[str, Any]:
        """Return what was computed, for the root of the result."""
        circuit, rule = self.generic.circuit, self.asked
        attrs: dict[str, Any] = {
            "kind": "contributions",
            "target": describe_target(self.generic.target),
            "rule": repr(self.rule),
            "baseline": repr(rule.baseline) if isinstance(rule, PathRule) else "none",
            "layers": list(circuit.taps),
            "model": type(circuit.model).__name__,
            "device": str(self.device),
            "path": "movie" if self.short else "adaptive" if self.adaptive else "generic",
            **self.samples.attrs,
        }
        if self.rule is not rule:
            attrs["rule_asked"] = repr(rule)
        if self.samples.moving:
            attrs |= {"history": circuit.history, "latency": circuit.latency}
        condition = getattr(self.generic.target, "condition_number", None)
        if condition is not None:
            attrs["condition_number"] = condition()
        return attrs


def _checked(outputs: Any) -> torch.Tensor:
    """Return what a model gave for one sample, or raise `InputError`."""
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or len(outputs) != 1:
        shape = tuple(getattr(outputs, "shape", ())) or type(outputs).__name__
        raise InputError(
            f"circuit: expected outputs (batch, output) of the model, got {shape} for a batch of "
            "1; wrap the model so that it returns such a tensor"
        )
    return outputs


def _rehearse(circuit: Circuit, sample: torch.Tensor, outputs: torch.Tensor, maps: bool) -> None:
    """Raise `InputError` if taps change what the model gives, or calls of one differ in shape."""
    with tapped(circuit.model, circuit.taps) as captured, torch.no_grad():
        again = circuit.model(sample)
    if not torch.allclose(again, outputs, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise InputError(
            "circuit: with its layers tapped the model gives other outputs; one changes its input "
            "in place and its result is not used, or the model is random in eval(): use the result"
        )
    for label, calls in captured.items():
        module = circuit.model.get_submodule(circuit.taps[label].name)
        parts = [circuit.taps[label].by_channel(module, one).shape[1:] for one in calls]
        shapes = list(dict.fromkeys(tuple(part if maps else part[:1]) for part in parts))
        if len(shapes) > 1:
            what = "positions" if maps and len({shape[0] for shape in shapes}) == 1 else "channels"
            raise InputError(
                f"layer {label!r}: it is called {len(calls)} times, with different {what} "
                f"({', '.join(map(str, shapes))}), which have no sum; "
                + ("take maps=False or " if what == "positions" else "")
                + "tap the layers before it"
            )


def _short(
    circuit: Circuit,
    target: Target,
    rule: Rule,
    samples: Samples,
    wish: Wish,
    device: torch.device,
    starts: torch.Tensor | None,
) -> MoviePath | None:
    """Return the fast path, if there is one."""
    if not samples.moving or starts is None or _hooked(circuit.model):
        return None
    height, width = samples.shape[-2:]
    found = MoviePath.match(circuit, target, rule, (height, width), wish, device)
    if found is None:
        return None
    with evaluating(circuit.model, device):
        return found.starting(starts)


def _hooked(model: torch.nn.Module) -> bool:
    """Whether modules have hooks, such as those of an intervention, that only calls run."""
    return any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def _outputs(samples: Samples, short: MoviePath | None, device: torch.device) -> torch.Tensor:
    """Return the outputs (sample, output) for all samples."""
    if short is None:
        return samples.outputs(device)
    with evaluating(samples.circuit.model, device):
        return short.rates(samples.frames)


def _labels(
    target: Target, names: Sequence[str], outputs: torch.Tensor, samples: Samples
) -> tuple[str, ...] | None:
    """Return names of several targets, numbers where the target has none, None for a single."""
    labels = target_labels(target, names)
    with torch.no_grad():
        score = Ends(outputs, samples.numbers(0, 1)).target(target, outputs, 1)(outputs)
    if labels is None and score.ndim == 2:
        return tuple(str(number) for number in range(score.shape[1]))
    return labels


def _measured(job: GenericPath, sample: torch.Tensor) -> tuple[GenericPath, Need]:
    """Return what a sample takes, and the job: with its fallback where the rule cannot be used.

    The one sample that is tried shows both.
    """
    try:
        return job, measure_need(job, sample)
    except NoExactFactorError as reason:
        rule = job.rule
        if not isinstance(rule, Secant) or rule.fallback is None:
            raise
        _log.warning("%s; %r is used for the whole network instead", reason, rule.fallback)
        job = replace(job, rule=replace(rule.fallback, baseline=rule.baseline))
        return job, measure_need(job, sample)
