"""Models on disk: weights as safetensors beside a JSON file that says how to build them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from retinacodec.card_files import CardFormat, both_files, read_both, write_both
from retinacodec.errors import InputError, Problems

__all__ = ["available", "load_model", "pretrained", "save_model"]

_FORMAT = CardFormat(
    noun="model",
    arrays="weights",
    card="record",
    writer="save_model",
    keys={"class": str, "config": dict},
)
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
    _refuse_pickle(path)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    record = {
        "class": kind,
        "config": cast(Any, model).config(),
        "about": dict(about or {}),
    }
    return write_both(_FORMAT, path, save(state), record, overwrite=overwrite)


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
    from safetensors.torch import load

    _refuse_pickle(path)
    weights, card = both_files(path)
    state, record = read_both(_FORMAT, path, load)
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


def _refuse_pickle(path: str | Path) -> None:
    """Raise `InputError` where a path has the suffix of a pickle."""
    file = Path(path)
    if file.suffix.lower() in (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".th"):
        raise InputError(
            f"{file}: pickled weights can run code and are not opened; load them with "
            "torch.load(..., weights_only=True) into a model and use save_model"
        )


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
