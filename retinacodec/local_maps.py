"""Mode maps: which pixels speak for a mode's channels, by one product forth and two back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import attention

from retinacodec.capture import first_replaced, tapped
from retinacodec.circuit import Circuit, evaluating
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.linear_tangents import LinearTangents
from retinacodec.passes import Ends
from retinacodec.pixel_maps import input_maps
from retinacodec.progress import track
from retinacodec.rules import Rule
from retinacodec.samples import Images, Samples, rows_for
from retinacodec.schema import SIGNS
from retinacodec.tally import as_numpy
from retinacodec.taps import Tap
from retinacodec.targets import Target, bind_target

__all__ = ["mode_maps", "strongest_channels"]

Array = npt.NDArray[Any]


def mode_maps(
    circuit: Circuit,
    images: Images,
    atoms: xr.DataArray | npt.ArrayLike,
    target: Target,
    *,
    layer: str | None = None,
    channels: int | None = 3,
    weighted: bool = False,
    signs: bool = True,
    rule: Rule | None = None,
    batch: int = 8,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.DataArray:
    """Return how the pixels of images speak for the target through the channels of modes.

    Parameters
    ----------
    circuit : Circuit
        A classifier.
    images : xarray.DataArray, ndarray or torch.Tensor (image, channel, y, x)
        Preprocessed images.
    atoms : xarray.DataArray or array_like (mode, channel) or (mode, sign, channel)
        Modes of the layer; of atoms with a sign the positive part.
    target : Target
        One scalar of the outputs, such as ``Class(3)``, ``TopK(1)`` or, to set a class against
        its runner-up, ``Margin()``.
    layer : str, optional
        A layer of the circuit; its first if left out.
    channels : int or None, default 3
        How many channels of each atom count, those with the largest values; None for all.
    weighted : bool, default False
        Weight channels by their value in the atom over its largest; else all alike.
    signs : bool, default True
        Split maps by the sign of the interneurons' own contributions, for one product of the
        Jacobian forth and a second one back. False gives their sum from a single product, in less
        than two gradient passes.
    rule : Rule, optional
        Take the maps along a path from a baseline, see `retinacodec.input_maps`; the local ones
        at the image if left out.
    batch : int, default 8
        Images computed at a time; the result does not depend on it.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.DataArray (image, mode[, sign], channel, y, x)
        Contribution of each pixel through the interneurons of each mode, split by the sign of the
        interneurons' own contributions, in units of the target.

    Raises
    ------
    InputError
        If atoms do not fit the layer, the layer runs more than once, or an operation before it
        has no forward derivative; then take ``rule=Secant()``.

    Notes
    -----
    With the slope ``g_u = dS/dh_u`` of interneuron u and its field ``R_u = dh_u/dx``, its
    contribution is ``C_u = g_u <R_u, x>``, and the map of channels A is
    ``x . sum_{u in A} w_u g_u R_u``, split by the sign of ``C_u``. All ``<R_u, x>`` are one
    product of the Jacobian with the image; each sum is one product of its transpose with the
    masked slopes. A map sums to the contributions of its interneurons.

    References
    ----------
    Melander et al., ICLR 2026, Figure 7.
    """
    if batch < 1:
        raise InputError(f"mode maps: expected a batch of at least 1 image, got {batch}")
    one = replace(circuit, layers=(circuit.layers[0] if layer is None else layer,))
    weights = strongest_channels(atoms, channels, weighted=weighted)
    names = None
    if isinstance(atoms, xr.DataArray) and "mode" in atoms.coords:
        names = atoms["mode"].values
    said = {"channels": len(weights.T) if channels is None else channels, "weighted": weighted}
    if rule is not None:
        found = input_maps(
            one,
            images,
            target,
            groups=weights,
            rule=rule,
            batch=batch,
            device=device,
            progress=progress,
        )
        found = found if signs else found.sum("sign", keep_attrs=True)
        moved = found.rename(group="mode").rename("mode_map").assign_attrs(said)
        return moved if names is None else moved.assign_coords(mode=names)
    job = _Local.prepare(one, images, target, weights, device, signs=signs)
    with evaluating(circuit.model, job.device):
        starts = range(0, len(job.samples), batch)
        parts = [
            job.compute(at, min(at + batch, len(job.samples)))
            for at in track(starts, "mode maps", enabled=progress)
        ]
    return job.named(np.concatenate(parts), names).assign_attrs(said)


def strongest_channels(
    atoms: xr.DataArray | npt.ArrayLike, count: int | None, *, weighted: bool = False
) -> Array:
    """Return the weights (mode, channel) of the channels with the largest values of each atom.

    Examples
    --------
    >>> strongest_channels([[0.2, -3.0, 0.8, 0.4]], 2).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    >>> strongest_channels([[0.2, -3.0, 0.8, 0.4]], 2, weighted=True).tolist()
    [[0.0, 0.0, 1.0, 0.5]]
    """
    if isinstance(atoms, xr.DataArray) and "sign" in atoms.dims:
        atoms = atoms.sel(sign="positive").transpose("mode", "channel")
    values = np.asarray(atoms, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(f"atoms: expected finite values (mode, channel), got {values.shape}")
    count = values.shape[1] if count is None else count
    if not 1 <= count <= values.shape[1]:
        raise InputError(f"channels: expected 1 to {values.shape[1]} of each atom, got {count}")
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    weights = np.zeros_like(values)
    if weighted:
        largest = values.max(axis=1, keepdims=True)
        if (largest <= 0).any():
            raise InputError("atoms: one has no value above 0; weighted maps need one")
        share = np.take_along_axis(values, order, axis=1).clip(min=0) / largest
    else:
        share = np.ones(order.shape)
    np.put_along_axis(weights, order, share, axis=1)
    return weights


@dataclass(frozen=True)
class _Local:
    """What to compute, on which images; `circuit` has one layer."""

    circuit: Circuit
    samples: Samples
    target: Target
    weights: Tensor
    device: torch.device
    signs: bool

    @classmethod
    def prepare(
        cls,
        circuit: Circuit,
        images: Images,
        target: Target,
        weights: Array,
        device: Any,
        *,
        signs: bool,
    ) -> _Local:
        if circuit.sample == "time":
            raise InputError("mode maps: expected a classifier; for movies see input_maps")
        samples, where = rows_for(circuit, images), resolve_device(device, circuit.model)
        values = torch.from_numpy(weights).to(where, samples.frames.dtype)
        return cls(circuit, samples, target, values, where, signs)

    @property
    def tap(self) -> Tap:
        """The tap of the layer."""
        return next(iter(self.circuit.taps.values()))

    def compute(self, start: int, stop: int) -> Array:
        """Return the maps (image, mode[, sign], channel, y, x) of some images."""
        inputs = self.samples.take(start, stop).to(self.device).detach().clone().requires_grad_()
        numbers = self.samples.numbers(start, stop)
        if self.signs:
            hidden, along, slope = self._products(inputs, numbers)
            own = slope * along
            sides = [own <= 0, own > 0]
        else:
            hidden, slope = self._slopes(inputs, numbers)
            sides = [torch.ones_like(slope, dtype=torch.bool)]
        masks = [
            slope * mask * side for mask in map(self._mask_of(slope), self.weights)
            for side in sides
        ]  # fmt: skip
        pulled = [
            torch.autograd.grad(hidden, inputs, mask, retain_graph=number < len(masks) - 1)[0]
            for number, mask in enumerate(masks)
        ]
        maps = torch.stack([inputs.detach() * one for one in pulled], dim=1)
        return as_numpy(maps.unflatten(1, (len(self.weights), 2)) if self.signs else maps)

    def _mask_of(self, slope: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from weights of channels to weights of interneurons."""
        module = self.circuit.model.get_submodule(self.tap.name)

        def mask_of(weight: Tensor) -> Tensor:
            mask = torch.zeros_like(slope, memory_format=torch.contiguous_format)
            view = self.tap.by_channel(module, mask)
            if view.shape[1] != len(weight):
                raise InputError(
                    f"atoms: {len(weight)} channels, the layer has {view.shape[1]} of them"
                )
            view.copy_(weight.view(1, -1, *[1] * (view.ndim - 2)).expand_as(view))
            return mask

        return mask_of

    def _slopes(self, inputs: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return activations with their graph and the slopes of the target."""
        model = self.circuit.model
        with torch.enable_grad(), tapped(model, self.circuit.taps) as captured:
            outputs = model(inputs)
            hidden = self._only_call(captured)
            score = self._score(outputs, numbers)
            slope = torch.autograd.grad(score.sum(), hidden, retain_graph=True)[0]
        return hidden, slope.detach()

    def _only_call(self, captured: Any) -> Tensor:
        """Return what the layer put out the only time that it ran."""
        label = self.circuit.layers[0]
        calls: list[Tensor] = captured[label]
        if len(calls) != 1:
            raise InputError(
                f"layer {label!r} runs {len(calls)} times; take rule=Secant(), which sums them"
            )
        return calls[0]

    def _products(self, inputs: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return activations with their graph, their derivative along the image, and slopes."""
        model = self.circuit.model
        with (
            torch.enable_grad(),
            forward_ad.dual_level(),
            attention.sdpa_kernel(attention.SDPBackend.MATH),
            tapped(model, self.circuit.taps) as captured,
            self._primal_behind(),
            LinearTangents(),
        ):
            try:
                outputs = model(forward_ad.make_dual(inputs, inputs.detach()))
            except (NotImplementedError, RuntimeError) as error:
                if "forward AD" not in str(error):
                    raise
                raise InputError(
                    f"mode maps: {str(error).splitlines()[0][:150]}; take rule=Secant()"
                ) from error
            tapped_once = self._only_call(captured)
            hidden, along = forward_ad.unpack_dual(tapped_once)
            score = self._score(outputs, numbers)
            slope = torch.autograd.grad(score.sum(), tapped_once, retain_graph=True)[0]
            slope = forward_ad.unpack_dual(slope).primal.detach()
        along = torch.zeros_like(hidden) if along is None else along.detach()
        return tapped_once, along, slope

    def _score(self, outputs: Any, numbers: Tensor) -> Tensor:
        """Return the target (image,) of outputs."""
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise InputError("mode maps: expected outputs (image, class) of the model")
        names = self.circuit.output_names(outputs.shape[1])
        bound = bind_target(self.target, names, lambda: self.samples.outputs(self.device))
        score = Ends(None, numbers).target(bound, outputs, 1)(outputs)
        if score.shape != outputs.shape[:1]:
            raise InputError(f"mode maps: expected one target, got {tuple(score.shape[1:])}")
        return score

    @contextlib.contextmanager
    def _primal_behind(self) -> Iterator[None]:
        """Let what comes behind the layer run without the derivative along the image."""

        def bare(value: Any) -> Any:
            if isinstance(value, tuple) and value:
                return first_replaced(value, bare(value[0]))
            return forward_ad.unpack_dual(value).primal if isinstance(value, Tensor) else value

        module = self.circuit.model.get_submodule(self.tap.name)
        if self.tap.side == "input":
            handle: Any = module.register_forward_pre_hook(
                lambda _, inputs, named: (
                    tuple(map(bare, inputs)),
                    {name: bare(one) for name, one in named.items()},
                ),
                with_kwargs=True,
            )
        else:
            handle = module.register_forward_hook(lambda _, inputs, output: bare(output))  # noqa: ARG005
        try:
            yield
        finally:
            handle.remove()

    def named(self, values: Array, modes: Array | None) -> xr.DataArray:
        """Put names and places to the numbers."""
        return xr.DataArray(
            values,
            dims=("image", "mode", *(("sign",) if self.signs else ()), "channel", "y", "x"),
            coords={
                "image": self.samples.coordinate.values,
                "mode": np.arange(values.shape[1]) if modes is None else modes,
                **({"sign": ("sign", np.asarray(SIGNS))} if self.signs else {}),
            },
            name="mode_map",
            attrs={
                "layer": self.circuit.layers[0],
                "rule": "local",
                "units": getattr(self.target, "units", ""),
                "long_name": "contribution of pixels through channels",
            },
        )
