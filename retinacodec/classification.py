"""What a classifier says of images, and how often it is right."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.circuit import Circuit, evaluating, precision
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.image_files import open_images
from retinacodec.image_sources import ImageBatch, OnError
from retinacodec.progress import track

__all__ = ["classify", "wilson"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


def classify(
    circuit: Circuit,
    images: Any,
    *,
    labels: npt.ArrayLike | None = None,
    top: int = 5,
    batch: int = 32,
    on_error: OnError = "raise",
    level: float = 0.95,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Say which classes a circuit sees in images, and how often it is right.

    Parameters
    ----------
    circuit : Circuit
        A classifier; see `retinacodec.classifiers.classifier`.
    images : str, Path, array, tensor or ImageSource
        What `retinacodec.image_files.open_images` takes; read a batch at a time.
    labels : array_like (image,), optional
        Positions of the true classes, in place of those of the source.
    top : int, default 5
        Strongest classes kept of each image; all if there are fewer.
    batch : int, default 32
        Images computed at a time; the result does not depend on it.
    on_error : {"raise", "skip"}, default "raise"
        What to do about a file that cannot be read.
    level : float, default 0.95
        Coverage of the intervals.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        ``predicted`` (image, rank), positions of the strongest classes, ``logit`` and
        ``probability`` (image, rank); coordinate ``name`` (image), and ``prediction`` (image,
        rank) their names. Where true classes are known: ``label`` (image), ``correct`` and
        ``correct_top`` (image), whether the first and any of the ranks are right; ``accuracy``
        and ``accuracy_top`` with ``_low`` and ``_high``; and the same with ``class_`` before,
        over class, beside ``images`` (class), how many there are.

    Raises
    ------
    InputError
        If images cannot be read, outputs are not finite, or labels are no outputs.

    Notes
    -----
    Intervals are Wilson's, of a share of k in n images. Images without a known class (-1) do not
    count in any share.
    """
    if top < 1:
        raise InputError(f"classify: expected top of at least 1, got {top}")
    if not 0 < level < 1:
        raise InputError(f"classify: expected a level between 0 and 1, got {level}")
    source = open_images(images, labels=labels)
    batches = source.batches(circuit.preprocess, batch=batch, on_error=on_error)
    told = track(batches, "images", total=-(-len(source) // batch), enabled=progress)
    parts = list(_ranked(circuit, told, top, device))
    places, logits, shares, names, truth = (
        np.concatenate([part[k] for part in parts]) for k in range(5)
    )
    classes = np.asarray(circuit.output_names(parts[0][5]))
    data: dict[str, Any] = {
        "predicted": (("image", "rank"), places),
        "logit": (("image", "rank"), logits),
        "probability": (("image", "rank"), shares, {"units": "1"}),
    }
    coords: dict[str, Any] = {
        "image": np.arange(len(names)),
        "rank": np.arange(1, places.shape[1] + 1),
        "name": ("image", names),
        "prediction": (("image", "rank"), classes[places]),
    }
    attrs = {"kind": "classification", "level": level, "top": places.shape[1]}
    attrs |= {"left_out": len(source) - len(names)}
    if (truth >= 0).any():
        if truth.max() >= len(classes):
            raise InputError(
                f"labels: class {truth.max()} of {len(classes)} outputs; shift or map them"
            )
        coords["class"] = classes
        data |= _rightness(places, truth, len(classes), level)
    return xr.Dataset(data, coords=coords, attrs=attrs)


def wilson(right: npt.ArrayLike, count: npt.ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Return Wilson's interval of shares ``right / count``; NaN where there is nothing to count.

    Examples
    --------
    >>> [float(end.round(3)) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    from statsmodels.stats.proportion import proportion_confint

    hits, of = np.broadcast_arrays(np.asarray(right, float), np.asarray(count, float))
    low, high = proportion_confint(hits, np.maximum(of, 1), alpha=1 - level, method="wilson")
    return np.where(of > 0, low, np.nan), np.where(of > 0, high, np.nan)


def _ranked(
    circuit: Circuit, batches: Iterator[ImageBatch], top: int, device: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield positions, logits, probabilities, names and labels of batches, and the outputs."""
    where = resolve_device(device, circuit.model)
    kind = precision(circuit.model)
    with torch.no_grad(), evaluating(circuit.model, where) as model:
        for part in batches:
            inputs = torch.from_numpy(part.images).to(where, kind)
            try:
                outputs = model(inputs)
            except (RuntimeError, ValueError) as error:
                raise InputError(
                    f"classify: the network does not take {tuple(inputs.shape)}: "
                    f"{str(error).splitlines()[0][:150]}"
                ) from error
            if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
                raise InputError("classify: expected outputs (image, class)")
            if not bool(outputs.isfinite().all()):
                raise InputError("classify: outputs are NaN or infinite; check the weights")
            best = outputs.topk(min(top, outputs.shape[1]), dim=1)
            share = outputs.double().softmax(dim=1).gather(1, best.indices)
            ranked = (one.cpu().numpy() for one in (best.indices, best.values, share))
            yield (*ranked, part.names, part.labels, outputs.shape[1])


def _rightness(places: Array, truth: Array, classes: int, level: float) -> dict[str, Any]:
    known = truth >= 0
    first = places[:, 0] == truth
    data: dict[str, Any] = {"label": ("image", truth)}
    count = np.bincount(truth[known], minlength=classes)
    data["images"] = ("class", count, {"units": "1", "long_name": "images of the class"})
    for end, right in (("", first), ("_top", (places == truth[:, None]).any(axis=1))):
        data[f"correct{end}"] = ("image", right)
        hits = np.bincount(truth[known & right], minlength=classes)
        shares = np.where(count > 0, hits / np.maximum(count, 1), np.nan)
        whole, total = int(hits.sum()), int(known.sum())
        overall = (whole / total, *wilson(whole, total, level))
        each = (shares, *wilson(hits, count, level))
        for suffix, value, row in zip(("", "_low", "_high"), overall, each, strict=True):
            data[f"accuracy{end}{suffix}"] = ((), value, {"units": "1"})
            data[f"class_accuracy{end}{suffix}"] = ("class", row, {"units": "1"})
    return data
