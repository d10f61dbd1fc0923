"""Settings of a study: what a study file may say, its defaults, and words for its mistakes."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from retinacodec.errors import InputError
from retinacodec.names import MethodName, RuleName
from retinacodec.recording_settings import (
    ContrastSettings,
    CropSettings,
    RecordingSettings,
    StrictSettings,
    TriggerSettings,
)

__all__ = [
    "BaselineSettings",
    "ContrastSettings",
    "ContributionSettings",
    "CropSettings",
    "FieldSettings",
    "FitSettings",
    "ModeSettings",
    "ModelSettings",
    "MovieSettings",
    "RecordingSettings",
    "SplitSettings",
    "StudySettings",
    "TriggerSettings",
    "read_settings",
    "settings_toml",
]

_PATHS = (("recording", "file"), ("recording", "allow_external"), ("movie", "source"))
Pixels = tuple[int, int]
Count = Field(ge=1)


class MovieSettings(StrictSettings):
    """A movie rendered by the package or read from the user's own clip or images."""

    source: Path | None = None
    seconds: float = Field(20.0, gt=0)


class SplitSettings(StrictSettings):
    """Contiguous blocks of the recording, and which of them are held out."""

    blocks: int = Field(60, ge=3)
    test_every: int = Field(10, ge=2)
    validation_every: int = Field(10, ge=2)


class ModelSettings(StrictSettings):
    """The network, or the name of one that ships with the package."""

    pretrained: str | None = None
    history: int = Field(24, ge=1)
    latency: int = Field(0, ge=0)
    channels: tuple[int, ...] = (8, 8)
    kernels: tuple[int, ...] = (9, 7)
    norm: Literal["channel", "unit"] = "channel"
    readout: Literal["linear", "one_position"] = "linear"
    readout_kernel: int = Field(3, ge=1)
    bands: int | None = Field(None, ge=1)
    noise: float = Field(0.5, ge=0)
    dropout: float = Field(0.5, ge=0, lt=1)


class FitSettings(StrictSettings):
    """How the network is fitted."""

    epochs: int = Field(10, ge=1)
    batch: int = Field(512, ge=1)
    lr: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    patience: int | None = Field(None, ge=1)


class BaselineSettings(StrictSettings):
    """The linear-nonlinear baseline and how it is fitted; a GLM beside it."""

    glm: bool = True
    rank: int = Field(2, ge=1)
    epochs: int = Field(10, ge=1)
    lr: float = Field(5e-3, gt=0)


class ContributionSettings(StrictSettings):
    """Which contributions are computed, and over how many frames."""

    layers: tuple[str, ...] = ("conv1", "conv2")
    target: Literal["surprisal", "population", "mean"] = "surprisal"
    rule: RuleName = "secant"
    steps: int = Field(10, ge=1)
    frames: int = Field(6000, ge=100)


class ModeSettings(StrictSettings):
    """How contributions are decomposed; the pursuit chooses the number of modes if left out."""

    method: MethodName = "pursuit"
    modes: int | None = Field(None, ge=1)
    contrast: bool = True


class FieldSettings(StrictSettings):
    """How many frames of each cell get an instantaneous field, and what is asked of them."""

    frames: int = Field(400, ge=10)
    minimum_rate: float = Field(1.0, ge=0)
    null_shifts: int = Field(200, ge=20)
    dynamics: bool = True
    film: float | None = Field(None, gt=0)


class StudySettings(StrictSettings):
    """Everything a study file may say."""

    name: str = "study"
    seed: int = Field(0, ge=0, strict=True)
    device: str = "cpu"
    recording: RecordingSettings | None = None
    movie: MovieSettings | None = None
    split: SplitSettings = SplitSettings()
    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    baseline: BaselineSettings = BaselineSettings()
    contributions: ContributionSettings = ContributionSettings()
    modes: ModeSettings = ModeSettings()
    fields: FieldSettings = FieldSettings()


def read_settings(path: str | Path) -> StudySettings:
    """Read a study file.

    Parameters
    ----------
    path : str or Path
        A TOML file. Paths in it are relative to its own folder.

    Returns
    -------
    StudySettings
        With every path resolved.

    Raises
    ------
    InputError
        If the file is missing, is not TOML, or says what no study can; all mistakes at once,
        each with its dotted name.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such study file; 'retinacodec config' prints one to start on")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a TOML file: {error}") from error
    for section, key in (
        ("recording", "file"),
        ("recording", "allow_external"),
        ("movie", "source"),
    ):
        entry = values.get(section)
        if isinstance(entry, dict) and key in entry:
            entry[key] = _from(file.parent, entry[key])
    return make_settings(values, subject=str(file))


def _from(folder: Path, value: Any) -> Any:
    """Return a path, or each of several, seen from a folder; anything else as it is."""
    if isinstance(value, list):
        return [_from(folder, one) for one in value]
    return str((folder / Path(value).expanduser()).resolve()) if isinstance(value, str) else value


def make_settings(values: dict[str, Any], *, subject: str = "settings") -> StudySettings:
    """Check nested values and return them as settings.

    Raises
    ------
    InputError
        If a name is unknown or a value is out of range.

    Examples
    --------
    >>> make_settings({"fit": {"epoch": 3}})
    Traceback (most recent call last):
        ...
    retinacodec.errors.InputError: settings: fit.epoch: unknown setting; did you mean 'epochs'?
    """
    try:
        settings = StudySettings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_words(dict(item)) for item in error.errors())
        raise InputError(f"{subject}: {problems}") from error
    if settings.recording is not None and settings.movie is not None:
        raise InputError(f"{subject}: give a [recording] or a [movie], not both")
    return settings


def settings_toml(settings: StudySettings) -> str:
    """Return settings as the text of a study file, every default written out."""
    lines: list[str] = []
    sections: list[tuple[str, BaseModel]] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            sections.append((name, value))
        elif value is not None:
            lines.append(f"{name} = {_toml(value)}")
    for name, section in sections:
        lines += ["", f"[{name}]"]
        pairs = [(key, getattr(section, key)) for key in type(section).model_fields]
        lines += [f"{key} = {_toml(value)}" for key, value in pairs if value is not None]
    return "\n".join(lines) + "\n"


def _words(item: dict[str, Any]) -> str:
    """Return one problem of a validation as a line."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]} (got {item['input']!r})"
    known = list(_section(item["loc"][:-1]).model_fields)
    close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"{where}: unknown setting; {hint}"


def _section(location: tuple[Any, ...]) -> type[BaseModel]:
    """Return the settings class that a location lies in."""
    section: Any = StudySettings
    for part in location:
        annotation = section.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            option
            for option in options
            if isinstance(option, type) and issubclass(option, BaseModel)
        )
    return section


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        pairs = ((key, getattr(value, key)) for key in type(value).model_fields)
        given = (f"{key} = {_toml(item)}" for key, item in pairs if item is not None)
        return "{ " + ", ".join(given) + " }"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
