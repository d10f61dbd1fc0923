"""What a study file may say about a recording: where things are in it and what they mean."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retinacodec.errors import InputError

if TYPE_CHECKING:
    from retinacodec.nwb_generators import Generator

__all__ = [
    "ContrastSettings",
    "CropSettings",
    "GeneratorSettings",
    "RecordingSettings",
    "StrictSettings",
    "TriggerSettings",
]

Pixels = tuple[int, int]


class StrictSettings(BaseModel):
    """Frozen settings that refuse unknown names, NaN and numbers in disguise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)


class CropSettings(StrictSettings):
    """Part of the frame, in pixels from start (in) to stop (out)."""

    x: Pixels
    y: Pixels


class ContrastSettings(StrictSettings):
    """Values of the file that are mean grey, and the difference from it that is contrast 1."""

    grey: float | None = None
    span: float | None = None


class TriggerSettings(StrictSettings):
    """Events that mark frames, where the movie has no flip times of its own."""

    name: str | None = None
    every: int = Field(1, ge=1)
    label: str | None = None
    threshold: float | None = None


class GeneratorSettings(StrictSettings):
    """How noise is drawn that the file keeps as a seed only; what is left out is as in Python."""

    kind: Literal["binary", "gaussian"] = "binary"
    size: Pixels
    rng: str
    order: str | None = None
    seed: int | None = None
    hold: int | None = Field(None, ge=1)
    contrast: tuple[float, float] | None = None
    white: int | None = None
    draw: str | None = None
    sd: float | None = None
    mean: float | None = None
    clip: float | None = None

    def declared(self) -> Generator:
        """Return the declaration; `InputError` where it means nothing."""
        from retinacodec.nwb_generators import BinaryNoise, GaussianNoise

        given = self.model_dump(exclude_none=True, exclude={"kind"})
        noise = {"binary": BinaryNoise, "gaussian": GaussianNoise}[self.kind]
        other = sorted(set(given) - {field.name for field in fields(noise)})
        if other:
            raise InputError(f"generator: {self.kind} noise has no {', '.join(other)}")
        return noise(**given)


class RecordingSettings(StrictSettings):
    """The recording: an NWB file, or one in a format that can be imported."""

    file: Path
    stimulus: str | None = None
    crop: CropSettings | None = None
    spatial_order: Literal["xy", "yx"] = "xy"
    contrast: ContrastSettings | None = None
    pixel_um: float | None = Field(None, gt=0)
    frame_rate: float | None = Field(None, gt=0)
    repeat_frames: int | None = Field(None, ge=2)
    triggers: TriggerSettings | None = None
    generator: GeneratorSettings | None = None
    allow_external: tuple[Path, ...] = ()
    cells: tuple[str, ...] | None = None
    names: str | None = None
    units: str | None = None
    responses: str | None = None
    quantity: Literal["rate", "count"] | None = None
    traces: str | None = None
    spike_scale: float = Field(1.0, gt=0)
    sort_spikes: bool = False
    max_gap: float = Field(3.0, ge=1)

    def clock_options(self) -> dict[str, Any]:
        """Return the arguments that say when frames were on the screen."""
        from retinacodec.nwb_triggers import Triggers

        triggers = None if self.triggers is None else Triggers(**self.triggers.model_dump())
        return {
            "frame_rate": self.frame_rate,
            "repeat_frames": self.repeat_frames,
            "triggers": triggers,
            "generator": None if self.generator is None else self.generator.declared(),
            "allow_external": self.allow_external,
        }

    def movie_options(self) -> dict[str, Any]:
        """Return the arguments of `retinacodec.read_stimulus`."""
        from retinacodec.nwb_contrast import Contrast

        crop = None if self.crop is None else (*self.crop.y, *self.crop.x)
        contrast = None if self.contrast is None else Contrast(**self.contrast.model_dump())
        return {
            **self.clock_options(),
            "crop": crop,
            "spatial_order": self.spatial_order,
            "contrast": contrast,
            "pixel_um": self.pixel_um,
        }

    def response_options(self) -> dict[str, Any]:
        """Return the arguments of `retinacodec.read_nwb`."""
        names = ("cells", "names", "units", "responses", "quantity", "spike_scale", "sort_spikes")
        return {
            **self.clock_options(),
            **{name: getattr(self, name) for name in (*names, "max_gap")},
        }
