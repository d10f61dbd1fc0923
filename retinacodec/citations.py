"""What to cite for exactly the methods that were used, and the paragraph that describes them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import retinacodec
from retinacodec.errors import Problems
from retinacodec.literature import METHODS, Reference

__all__ = ["METHODS", "Reference", "cite", "methods_paragraph", "references"]


def references(*methods: object) -> tuple[Reference, ...]:
    """Return the publications of the methods, each once, in the order of first use.

    Parameters
    ----------
    *methods : object
        Names from `METHODS`, or the values and classes themselves, such as ``Secant(10)``. The
        paper of the method as a whole always comes first.

    Returns
    -------
    tuple of Reference
        The publications.

    Raises
    ------
    InputError
        If a method is not known; the message names all of these.
    """
    found = dict.fromkeys(METHODS["contributions"])
    problems = Problems()
    for method in methods:
        name = _name(method)
        if name not in METHODS:
            close = difflib.get_close_matches(name, METHODS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(METHODS)}"
            problems.add(f"no method {name!r}; {hint}")
        found |= dict.fromkeys(METHODS.get(name, ()))
    problems.raise_as("cite")
    return tuple(found)


def cite(*methods: object) -> str:
    """Return BibTeX for the methods that were used, the software included.

    Parameters
    ----------
    *methods : object
        As for `references`.

    Returns
    -------
    str
        BibTeX entries, one after the other.

    Raises
    ------
    InputError
        If a method is not known.

    Examples
    --------
    >>> [line for line in cite("cc_norm").splitlines() if line.startswith("@")]
    ['@inproceedings{melander2026,', '@article{schoppe2016,', '@software{retinacodec,']
    """
    software = "\n".join(
        [
            "@software{retinacodec,",
            "  author = {{The retinacodec authors}},",
            "  title = {{retinacodec: fit and dissect circuit models of the retina}},",
            f"  version = {{{retinacodec.__version__}}},",
            "}",
        ]
    )
    return "\n\n".join([*(entry.bibtex() for entry in references(*methods)), software]) + "\n"


def methods_paragraph(
    *,
    layers: Sequence[str],
    target: object,
    rule: object,
    cells: int,
    frames: int,
    frame_rate: float,
    dictionary: object | None = None,
    modes: Mapping[str, int] | None = None,
    r2: Mapping[str, float] | None = None,
    seed: int | None = None,
) -> str:
    """Return a paragraph for the methods section of a paper, from the settings that were used.

    Parameters
    ----------
    layers : sequence of str
        Layers whose channels were asked about.
    target, rule : object
        The values that were given to ``contributions``.
    cells, frames : int
        Number of model ganglion cells and of analysed frames.
    frame_rate : float
        Frames per second, Hz.
    dictionary : object, optional
        The value that was given to ``find_modes``; no sentence on modes if left out.
    modes : mapping of str to int, optional
        Number of modes in each layer.
    r2 : mapping of str to float, optional
        Share of held-out variance that the modes of each layer explain.
    seed : int, optional
        Seed of the decomposition.

    Returns
    -------
    str
        The paragraph; a rule or dictionary of the user's own stands there without a citation.
    """
    said = [
        f"We analysed a circuit model of {cells} ganglion cell{'s' * (cells != 1)} over {frames} "
        f"stimulus frames at {frame_rate:g} Hz ({frames / frame_rate:.1f} s).",
        f"For every frame, the contribution of each channel of {_listing(layers)} to the target "
        f"({target!r}) was computed along the straight path from mean grey to the stimulus "
        f"({_cited(rule, 'contributions', rule)}).",
        "Contributions were split by sign at every position before they were summed over space, "
        "and so keep excitation and inhibition apart.",
    ]
    if dictionary is not None:
        counts = {name: f"{count} in {name}" for name, count in (modes or {}).items()}
        numbers = f", which gave {_listing(list(counts.values()))}" if counts else ""
        seeded = f", seed {seed}" if seed is not None else ""
        said.append(
            f"Contributions of each layer, divided by their overall standard deviation, were "
            f"decomposed into sparse modes "
            f"({_cited(f'{dictionary!r}{seeded}', 'find_modes', dictionary)}){numbers}."
        )
    if r2:
        shares = [f"{100 * share:.1f} % ({name})" for name, share in r2.items()]
        said.append(f"On held-out frames the modes explained {_listing(shares)} of the variance.")
    said.append(f"Computations used retinacodec {retinacodec.__version__}.")
    return " ".join(said)


def _name(method: object) -> str:
    """Return the name of a method, of a value's class or of a class, as `METHODS` writes it."""
    if isinstance(method, str):
        name: Any = method
    else:
        name = getattr(method, "__name__", type(method).__name__)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return name.replace("-", "_").replace(" ", "_").lower()


def _cited(value: object, *methods: object) -> str:
    """Return a value followed by the short forms of the publications of the methods."""
    found = dict.fromkeys(entry for method in methods for entry in METHODS.get(_name(method), ()))
    text = value if isinstance(value, str) else repr(value)
    return "; ".join([text, *(entry.short for entry in found)])


def _listing(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    items = [str(word) for word in words]
    return " and ".join(
        part for part in (", ".join(items[:-1]), items[-1] if items else "") if part
    )
