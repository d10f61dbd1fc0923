"""A circuit: a model with named interneuron layers, its history and its outputs."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor, nn

from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.schema import check_stimulus
from retinacodec.taps import Tap, find_taps

__all__ = ["Circuit", "check_circuit", "evaluating", "predict", "rate_array"]

_LOCKS: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Circuit:
    """A model, the layers whose interneurons are asked about, and how it reads a movie.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (batch, history, y, x) contrast to (batch, cell) rates in Hz; oldest frame first.
    layers : sequence of str or Tap
        Where the interneurons are: names of modules of the model, whose outputs are meant;
        patterns such as ``"blocks.*"``; or `Tap`, for inputs of modules and attention heads.
        Afterwards the labels of all layers found, in this order.
    history : int, optional
        Frames of a stimulus window; the model's own ``history`` if left out.
    latency : int, optional
        Frames between the newest frame of the window and the response; the model's own
        ``latency`` if left out, else 0. The window of response bin t is the frames
        ``t - latency - history + 1`` to ``t - latency``.
    outputs : sequence of str, optional
        Names of the outputs; the model's own ``cell_names``, else numbers, if left out.
    sample : str, default "time"
        Dimension of the samples: ``"time"`` for movies, ``"image"`` for classifiers.
    output : str, default "cell"
        Dimension of the outputs.
    preprocess : object, optional
        How pixels of pictures become images for a classifier; see
        `retinacodec.preprocessing.Preprocess`.

    Raises
    ------
    InputError
        If a layer is not in the model or the history is unknown.

    Examples
    --------
    >>> from retinacodec.models import ToyCircuit
    >>> circuit = Circuit(ToyCircuit(), layers=["relu1"])
    >>> circuit.first_frame == circuit.history - 1
    True
    """

    model: nn.Module
    layers: Sequence[Any]
    history: int | None = None
    latency: int | None = None
    outputs: Sequence[str] | None = field(default=None, repr=False)
    sample: str = "time"
    output: str = "cell"
    preprocess: Any = field(default=None, repr=False, compare=False)
    taps: dict[str, Tap] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = Problems()
        history = getattr(self.model, "history", None) if self.history is None else self.history
        latency = getattr(self.model, "latency", 0) if self.latency is None else self.latency
        names = getattr(self.model, "cell_names", None) if self.outputs is None else self.outputs
        object.__setattr__(self, "history", history)
        object.__setattr__(self, "latency", latency)
        object.__setattr__(self, "outputs", None if names is None else tuple(map(str, names)))
        if self.sample == "time":
            whole = isinstance(history, int) and history > 0
            problems.require(whole, f"history: expected frames > 0, got {history!r}; pass history=")
            fits = isinstance(latency, int) and latency >= 0
            problems.require(fits, f"latency: expected frames >= 0, got {latency!r}")
        taps = find_taps(self.model, self.layers, problems)
        problems.raise_as("circuit")
        object.__setattr__(self, "taps", taps)
        object.__setattr__(self, "layers", tuple(taps))

    @property
    def first_frame(self) -> int:
        """Number of the first movie frame that has an output."""
        return (self.history or 1) - 1 + (self.latency or 0)

    def windows(self, movie: Tensor) -> Tensor:
        """Return the stimulus window of every response, as a view of the movie.

        Parameters
        ----------
        movie : torch.Tensor (time, y, x)
            Contrast.

        Returns
        -------
        torch.Tensor (time - first_frame, history, y, x)
            Windows, oldest frame first; row i belongs to movie frame ``first_frame + i``.

        Raises
        ------
        InputError
            If the movie is shorter than the history and latency.
        """
        if len(movie) <= self.first_frame:
            raise InputError(
                f"movie: expected more than {self.first_frame} frames (history "
                f"{self.history}, latency {self.latency}), got {len(movie)}; use a longer movie"
            )
        last = len(movie) - (self.latency or 0)
        return movie[:last].unfold(0, self.history or 1, 1).movedim(-1, 1)

    def output_names(self, count: int) -> tuple[str, ...]:
        """Return a name for each of ``count`` outputs.

        Raises
        ------
        InputError
            If the circuit has names, but not that many.
        """
        if self.outputs is None:
            return tuple(str(number) for number in range(count))
        if len(self.outputs) != count:
            raise InputError(
                f"circuit: the model has {count} outputs but {len(self.outputs)} names; "
                "pass outputs= with one name an output"
            )
        return tuple(self.outputs)


@contextlib.contextmanager
def evaluating(model: nn.Module, device: torch.device | None = None) -> Iterator[nn.Module]:
    """Put a model into evaluation mode without parameter gradients, and back as it was.

    Parameters
    ----------
    model : torch.nn.Module
        The model; on leaving, its training flags, gradient flags and device are as before.
    device : torch.device, optional
        Where the model should live meanwhile.

    Yields
    ------
    torch.nn.Module
        The same model.

    Notes
    -----
    Convolutions on a GPU are meanwhile in full single precision. Another thread that asks for
    the same model waits until this one is done.
    """
    with _LOCKS.setdefault(model, threading.RLock()):
        yield from _evaluating(model, device)


def _evaluating(model: nn.Module, device: torch.device | None) -> Iterator[nn.Module]:
    training = {name: module.training for name, module in model.named_modules()}
    gradients = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    home = resolve_device(None, model)
    try:
        model.eval()
        model.requires_grad_(False)
        if device is not None and device != home:
            model.to(device)
        with _full_precision(), _outside_inference():
            yield model
    finally:
        if device is not None and device != home:
            model.to(home)
        for name, module in model.named_modules():
            module.training = training[name]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(gradients[name])


@contextlib.contextmanager
def _outside_inference() -> Iterator[None]:
    """Leave inference mode, whose tensors carry no gradients; leaving it alone enables them."""
    enabled = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(enabled):
        yield


def _full_precision() -> contextlib.AbstractContextManager[None]:
    """Switch off the shortened mantissas that convolutions on a GPU use by default."""
    now = torch.backends.cudnn
    return now.flags(
        enabled=now.enabled,
        benchmark=now.benchmark,
        deterministic=now.deterministic,
        allow_tf32=False,
    )


def precision(model: nn.Module) -> torch.dtype:
    """Return float64 for a model with weights in it, else float32.

    Raises
    ------
    InputError
        If weights are in half precision, in which contributions would drown in rounding.
    """
    state = (*model.parameters(), *model.buffers())
    kinds = {one.dtype for one in state if one.is_floating_point()}
    short = kinds - {torch.float32, torch.float64}
    if short:
        raise InputError(
            f"circuit: expected weights in float32 or float64, got {', '.join(map(str, short))}; "
            "call model.float()"
        )
    return torch.float64 if torch.float64 in kinds else torch.float32


def movie_tensor(circuit: Circuit, movie: xr.Dataset) -> Tensor:
    """Return the contrast of a movie as a tensor on the CPU, after checking that it fits."""
    check_stimulus(movie)
    size = getattr(circuit.model, "size", None)
    have = (movie.sizes["y"], movie.sizes["x"])
    if size is not None and tuple(size) != have:
        raise InputError(
            f"movie: the model reads frames of {tuple(size)} pixels (y, x), got {have}; "
            "crop or resample the movie, or fit a model of this size"
        )
    values = np.asarray(movie["contrast"].values, dtype=np.float32)
    contrast = torch.from_numpy(values).to(precision(circuit.model))
    if len(contrast) <= circuit.first_frame:
        circuit.windows(contrast)
    return contrast


def predict(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    batch: int = 256,
    device: str | torch.device | None = None,
) -> xr.DataArray:
    """Return the rate of every cell of a circuit for a movie.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    batch : int, default 256
        Windows computed at a time; the result does not depend on it.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.

    Returns
    -------
    xarray.DataArray (time, cell)
        Rate, Hz; time starts at frame ``circuit.first_frame``.

    Raises
    ------
    InputError
        If the movie does not fit the circuit.
    """
    contrast = movie_tensor(circuit, movie)
    where = resolve_device(device, circuit.model)
    windows = circuit.windows(contrast)
    rows = []
    with torch.no_grad(), evaluating(circuit.model, where) as model:
        for part in windows.split(batch):
            rows.append(model(part.contiguous().to(where)).cpu())
    return rate_array(circuit, movie, torch.cat(rows).numpy())


def rate_array(circuit: Circuit, movie: xr.Dataset, rate: npt.NDArray[np.float32]) -> xr.DataArray:
    """Return rates (time, cell) in Hz with the coordinates of a circuit and a movie."""
    return xr.DataArray(
        rate,
        dims=("time", "cell"),
        coords={
            "time": movie["time"][circuit.first_frame :],
            "cell": ("cell", np.asarray(circuit.output_names(rate.shape[1]))),
        },
        name="rate",
        attrs={"units": "Hz", "long_name": "model firing rate"},
    )


def check_circuit(circuit: Circuit, size: tuple[int, ...], *, seed: int = 0) -> Circuit:
    """Run the contract of a circuit and report every breach in one message.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    size : tuple of int
        Shape of one sample: (y, x) of a movie's frames, or (channel, y, x) of an image.
    seed : int, default 0
        Seed of the random samples it is tried on.

    Returns
    -------
    Circuit
        The same circuit.

    Raises
    ------
    InputError
        If outputs are not (batch, output), not finite, differ from call to call, or depend on
        the other samples of the batch; each with what to do.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (circuit.history or 1, *size) if circuit.sample == "time" else tuple(size)
    where = resolve_device(None, circuit.model)
    samples = torch.randn((3, *shape), generator=generator).to(where)
    problems = Problems()
    with torch.no_grad(), evaluating(circuit.model) as model:
        try:
            first, again, alone = model(samples), model(samples), model(samples[:1])
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(
                f"circuit: the model does not take {tuple(samples.shape)}: {_first_line(error)}"
            ) from error
    if problems.require(
        isinstance(first, Tensor) and first.ndim == 2 and len(first) == 3,
        f"outputs must be (batch, output), got {getattr(first, 'shape', type(first))}",
    ):
        problems.require(bool(first.isfinite().all()), "outputs are NaN or infinite; check weights")
        problems.require(
            torch.equal(first, again),
            "two calls on one input differ; switch noise and dropout off in eval()",
        )
        problems.require(
            torch.allclose(first[:1], alone, rtol=1e-4, atol=1e-5),
            "the output of a sample depends on the others; batch statistics must be off in eval()",
        )
        circuit.output_names(first.shape[1])
    problems.raise_as("circuit")
    return circuit


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
