"""Models on disk: weights as safetensors beside a JSON file that says how to build them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from retinacodec.atomic import check_free, replacing
from retinacodec.errors import InputError, Problems

__all__ = ["available", "load_model", "pretrained", "save_model"]

_FORMAT = 1
_SHIPPED = Path(__file__).parent


def pretrained(name: str = "demo") -> nn.Module:
    """Return a fitted model that ships with the package.

    Parameters
    ----------
    name : str, default "demo"
        One of `available`. The demo is a `DeepRetina` fitted to simulated recordings of a
        `CircuitRetina`; ``docs/gallery/train_pretrained.py`` makes it again.

    Returns
    -------
    torch.nn.Module
        The model in evaluation mode; its attribute ``about`` says how it was made and how well
        it does.

    Raises
    ------
    InputError
        If no model of this name ships with the package.

    Examples
    --------
    >>> pretrained("demo").history
    24
    """
    names = available()
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names) or 'none'}"
        raise InputError(f"pretrained: no model {name!r} ships with the package; {hint}")
    return load_model(_SHIPPED / f"{name}.safetensors")


def available() -> tuple[str, ...]:
    """Return the names of the fitted models that ship with the package."""
    found = _SHIPPED.glob("*.safetensors")
    return tuple(sorted(file.stem for file in found if file.with_suffix(".json").is_file()))


def save_model(
    model: nn.Module,
    path: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a model of this package: weights to ``path``, the rest to a JSON file beside it.

    Parameters
    ----------
    model : torch.nn.Module
        A model of ``retinacodec.models`` with a method ``config()``.
    path : str or Path
        File of the weights; its suffix becomes ``.safetensors``.
    about : mapping, optional
        Whatever should travel with it, such as data, scores and seeds, as JSON can hold it.
    overwrite : bool, default False
        Replace earlier files.

    Returns
    -------
    Path
        The file of the weights.

    Raises
    ------
    InputError
        If the model is not one of this package, a weight is not finite, or a file is in the way.
    """
    from safetensors.torch import save

    kind = type(model).__name__
    problems = Problems()
    if problems.require(
        _models().get(kind) is type(model),
        f"expected one of {', '.join(sorted(_models()))}, got {kind}; save its state_dict yourself",
    ):
        _check_finite(problems, model.state_dict())
    problems.raise_as("save_model")
    weights, card = _files(path)
    for file in (weights, card):
        check_free(file, overwrite)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(weights, overwrite=overwrite) as temporary:
        temporary.write_bytes(save(state))
    record = {
        "format": _FORMAT,
        "class": kind,
        "config": cast(Any, model).config(),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "about": dict(about or {}),
    }
    with replacing(card, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return weights


def load_model(path: str | Path) -> nn.Module:
    """Load a model that `save_model` wrote. Nothing in the files is ever executed.

    Parameters
    ----------
    path : str or Path
        The ``.safetensors`` file or the ``.json`` file beside it.

    Returns
    -------
    torch.nn.Module
        The model on the CPU, in evaluation mode, with its record as the attribute ``about``.

    Raises
    ------
    InputError
        If a file is missing, is a pickle, was changed or cut short, or does not fit the model:
        every missing, unknown or misshapen weight is named.
    """
    weights, card = _files(path)
    record = _read_card(card)
    state = _read_weights(weights, record["sha256"])
    model = _rebuild(card, record)
    problems = Problems()
    wanted = model.state_dict()
    for name in sorted(wanted.keys() - state.keys()):
        problems.add(f"weight {name!r} is missing")
    for name in sorted(state.keys() - wanted.keys()):
        problems.add(f"weight {name!r} is not in the model")
    for name in sorted(wanted.keys() & state.keys()):
        have, want = tuple(state[name].shape), tuple(wanted[name].shape)
        problems.require(have == want, f"weight {name!r} has shape {have}, expected {want}")
    _check_finite(problems, state)
    problems.raise_as(str(weights))
    model.load_state_dict(state)
    model.about = record.get("about", {})
    return model.eval()


def _models() -> dict[str, type[nn.Module]]:
    """Return the registered models that can say how to build them."""
    import retinacodec.models as room

    named = {name: getattr(room, name) for name in room.__all__}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, type) and issubclass(value, nn.Module) and hasattr(value, "config")
    }


def _files(path: str | Path) -> tuple[Path, Path]:
    """Return the files of weights and record; refuse the suffixes of pickles."""
    file = Path(path)
    if file.suffix.lower() in (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".th"):
        raise InputError(
            f"{file}: pickled weights can run code and are not opened; load them with "
            "torch.load(..., weights_only=True) into a model and use save_model"
        )
    if file.suffix in (".safetensors", ".json"):
        file = file.with_suffix("")
    return file.with_name(f"{file.name}.safetensors"), file.with_name(f"{file.name}.json")


def _read_card(card: Path) -> dict[str, Any]:
    """Read and check the JSON record."""
    try:
        record = json.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{card}: no such file; save_model writes it beside the weights"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{card}: is not a JSON record of a model: {error}") from error
    problems = Problems()
    if problems.require(isinstance(record, dict), "expected a JSON object"):
        kinds = {"format": int, "class": str, "config": dict, "sha256": str}
        for key, kind in kinds.items():
            fits = isinstance(record.get(key), kind)
            problems.require(fits, f"{key}: expected {kind.__name__}, got {record.get(key)!r}")
        newer = isinstance(record.get("format"), int) and record["format"] > _FORMAT
        problems.require(not newer, "was written by a newer version of the package; update it")
    problems.raise_as(str(card))
    return dict(record)


def _read_weights(weights: Path, sha256: str) -> dict[str, Tensor]:
    """Read the tensors after comparing the file with its recorded hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(f"{weights}: the weights cannot be read: {error.strerror}") from error
    try:
        state: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{weights}: is not a whole safetensors file: {error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(
            f"{weights}: is not the file that its JSON record was written for; copy both again"
        )
    return state


def _rebuild(card: Path, record: dict[str, Any]) -> nn.Module:
    """Build an untrained model from its record."""
    known = _models()
    kind = known.get(record["class"])
    if kind is None:
        raise InputError(
            f"{card}: class {record['class']!r} is not one of {', '.join(sorted(known))}"
        )
    build = getattr(kind, "from_config", None)
    try:
        model = build(record["config"]) if build is not None else kind(**record["config"])
    except (TypeError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        raise InputError(f"{card}: the configuration builds no {kind.__name__}: {error}") from error
    return model


def _check_finite(problems: Problems, state: Mapping[str, Tensor]) -> None:
    """Note every tensor that holds a NaN or an infinity."""
    for name, value in state.items():
        fine = not value.is_floating_point() or bool(torch.isfinite(value).all())
        problems.require(fine, f"weight {name!r} is NaN or infinite")
