"""Any image classifier as a circuit: its blocks as layers, its pixels, its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from retinacodec.block_names import block_taps
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.preprocessing import Preprocess
from retinacodec.taps import Tap
from retinacodec.weight_files import load_weights

__all__ = ["block_taps", "classifier", "load_weights", "read_labels"]


def classifier(
    model: nn.Module,
    layers: Sequence[str | Tap] | str | None = None,
    *,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | str | Path | None = None,
) -> Circuit:
    """Make a circuit of an image classifier.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images (image, channel, y, x) to logits (image, class).
    layers : sequence of str or Tap, optional
        Where contributions are asked for; the outputs of its blocks if left out, see
        `block_taps`.
    preprocess : Preprocess, optional
        How pixels become images; needed where pictures are read from files.
    labels : sequence of str, or path of a text file with one a line, optional
        Names of the classes; numbers if left out. Of names that are there more than once all but
        the first get their number behind them.

    Returns
    -------
    Circuit
        With samples ``image`` and outputs ``class``.

    Raises
    ------
    InputError
        If a layer is not in the model, or no blocks are found.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    >>> classifier(net, labels=["cat", "dog"]).layers
    ('1',)
    """
    if preprocess is not None and not callable(preprocess):
        raise InputError(
            f"classifier: expected a Preprocess, got {type(preprocess).__name__}; take one of "
            "retinacodec.preprocessing"
        )
    names = read_labels(labels) if isinstance(labels, str | Path) else labels
    asked: Any = block_taps(model) if layers is None else layers
    return Circuit(
        model,
        asked,
        outputs=None if names is None else _unique(names),
        sample="image",
        output="class",
        preprocess=preprocess,
    )


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Return the names of classes of a text file, one a line, in the order of the outputs.

    Raises
    ------
    InputError
        If the file cannot be read or is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {path}: expected text, one class a line ({error})") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise InputError(f"labels {path}: the file is empty")
    return names


def _unique(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    said = []
    for number, name in enumerate(map(str, names)):
        said.append(f"{name} ({number})" if seen[name] else name)
        seen[name] += 1
    return said
