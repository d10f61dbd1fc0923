"""An array file and its JSON card, written together, opened together, never half."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from retinacodec.atomic import replacing
from retinacodec.errors import InputError, Problems

__all__ = ["CardFormat", "both_files", "one_line", "read_both", "write_both"]

Arrays = TypeVar("Arrays")


@dataclass(frozen=True)
class CardFormat:
    """What a pair of files holds, and what its card must say.

    Attributes
    ----------
    noun : str
        What is saved, such as ``"dictionary"``.
    arrays : str
        What its arrays are called, such as ``"weights"``.
    card : str
        What its card is called, such as ``"record"``.
    writer : str
        Function that writes such files.
    keys : mapping of str to type
        What the card must hold beside ``format`` and ``sha256``.
    kind : str, optional
        What the card says under ``kind``; nothing if left out.
    version : int, default 1
        Version of the format that is written, and the newest that is read.
    """

    noun: str
    arrays: str
    card: str
    writer: str
    keys: Mapping[str, type]
    kind: str | None = None
    version: int = 1


def both_files(path: str | Path) -> tuple[Path, Path]:
    """Return the file of the arrays and that of the card.

    Parameters
    ----------
    path : str or Path
        Either of them, or their name without a suffix; any other suffix belongs to the name.

    Returns
    -------
    arrays, card : Path
        ``<name>.safetensors`` and ``<name>.json``.
    """
    file = Path(path)
    if file.suffix in (".safetensors", ".json"):
        file = file.with_suffix("")
    return file.with_name(f"{file.name}.safetensors"), file.with_name(f"{file.name}.json")


def write_both(
    what: CardFormat,
    path: str | Path,
    arrays: bytes,
    record: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Path:
    """Write both files under other names and rename them when both are whole.

    Parameters
    ----------
    what : CardFormat
        What is saved.
    path : str or Path
        Where to, as in `both_files`.
    arrays : bytes
        What a safetensors file holds.
    record : mapping
        The card, as JSON can hold it; version, kind and hash of the arrays are added.
    overwrite : bool, default False
        Replace earlier files.

    Returns
    -------
    Path
        The file of the arrays.

    Raises
    ------
    InputError
        If the folder does not exist, or a file is in the way.
    """
    weights, card = both_files(path)
    head = {"format": what.version} | ({} if what.kind is None else {"kind": what.kind})
    whole = head | dict(record) | {"sha256": hashlib.sha256(arrays).hexdigest()}
    text = json.dumps(whole, indent=1) + "\n"
    with (
        replacing(weights, overwrite=overwrite) as arrays_file,
        replacing(card, overwrite=overwrite) as card_file,
    ):
        arrays_file.write_bytes(arrays)
        card_file.write_text(text, encoding="utf-8")
    return weights


def read_both(
    what: CardFormat, path: str | Path, load: Callable[[bytes], Arrays]
) -> tuple[Arrays, dict[str, Any]]:
    """Read both files and check that they are whole and belong together.

    Parameters
    ----------
    what : CardFormat
        What is expected.
    path : str or Path
        Where, as in `both_files`.
    load : callable
        Makes arrays of the bytes of a safetensors file: ``safetensors.numpy.load`` or that of
        another library.

    Returns
    -------
    arrays : dict of str to array
        What `load` returns.
    record : dict
        The card, with every key that must be there.

    Raises
    ------
    InputError
        If a file is missing, was changed or cut short, belongs to another one, or was written by
        a newer version.
    """
    from safetensors import SafetensorError

    weights, card = both_files(path)
    record = _read_card(what, card)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(
            f"{weights}: the {what.arrays} cannot be read: {error.strerror}"
        ) from error
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{weights}: is not a whole safetensors file; copy it again: {one_line(error)}"
        ) from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise InputError(
            f"{weights}: is not the file that {card.name} was written for; copy both again"
        )
    return arrays, record


def one_line(error: Exception) -> str:
    """Return the kind of an error and what it says, on one line."""
    return f"{type(error).__name__} {' '.join(str(error).split())}"


def _read_card(what: CardFormat, card: Path) -> dict[str, Any]:
    """Read and check the card."""
    try:
        record = json.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{card}: no such file; {what.writer} writes it beside the {what.arrays}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{card}: is not a JSON {what.card} of a {what.noun}: {one_line(error)}"
        ) from error
    problems = Problems()
    if problems.require(
        isinstance(record, dict) and record.get("kind") == what.kind,
        f"expected the settings of a {what.noun}",
    ):
        for key, kind in {"format": int, **what.keys, "sha256": str}.items():
            fits = isinstance(record.get(key), kind)
            problems.require(fits, f"{key}: expected {kind.__name__}, got {record.get(key)!r}")
        newer = isinstance(record.get("format"), int) and record["format"] > what.version
        problems.require(not newer, "was written by a newer version of the package; update it")
    problems.raise_as(str(card))
    return dict(record)
