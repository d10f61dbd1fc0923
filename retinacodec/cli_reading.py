"""The options with which every command reads a recording: what its file leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from retinacodec.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["AS_STATED", "Reading", "ReadingOptions"]


@dataclass(frozen=True)
class Reading:
    """How a recording is read; the names are those of `retinacodec.read_nwb` and `read_stimulus`.

    Parameters
    ----------
    stimulus : str, optional
        Which movie, where there are several.
    spatial_order : {"xy", "yx"}
        What the axes of a picture are.
    grey, span : float, optional
        Value of mean grey, and difference from it that is contrast 1.
    pixel_um : float, optional
        Side of a pixel, um.
    frame_rate : float, optional
        Hz, where the file has no flips.
    repeat_frames : int, optional
        Frames of one repeat.
    triggers : str, optional
        Place of the pulses of the display.
    every : int
        Frames from one pulse to the next.
    threshold : float, optional
        Where a pulse begins in a voltage trace.
    allow_external : tuple of Path
        Films, or folders of films, outside the folder of the file.
    units, names : str, optional
        Place of the table of units, and its column with their names.
    spike_scale : float
        Seconds in one unit of spike times.
    sort_spikes : bool
        Put unsorted times in order.
    """

    stimulus: Annotated[str | None, Parameter(help="Which stimulus, where there are several.")] = (
        None
    )
    spatial_order: Annotated[
        Literal["xy", "yx"], Parameter(help="Axes of a picture in the file; NWB says xy.")
    ] = "xy"
    grey: Annotated[float | None, Parameter(help="Pixel value of the mean grey.")] = None
    span: Annotated[float | None, Parameter(help="Difference from grey that is contrast 1.")] = None
    pixel_um: Annotated[float | None, Parameter(help="Pixel side, um, if the file has none.")] = (
        None
    )
    frame_rate: Annotated[
        float | None, Parameter(help="Frames per second, if the file is wrong.")
    ] = None
    repeat_frames: Annotated[
        int | None, Parameter(help="Frames of a repeat, if the file does not say.")
    ] = None
    triggers: Annotated[
        str | None, Parameter(help="Place of pulses that mark frames, if the movie has no flips.")
    ] = None
    every: Annotated[int, Parameter(help="Frames from one pulse to the next.")] = 1
    threshold: Annotated[
        float | None, Parameter(help="Value at which a pulse begins in a voltage trace.")
    ] = None
    allow_external: Annotated[
        tuple[Path, ...], Parameter(help="Folders of films outside the file's own.", negative="")
    ] = ()
    units: Annotated[str | None, Parameter(help="Place of the units, where there are several.")] = (
        None
    )
    names: Annotated[str | None, Parameter(help="Column with the names of the units.")] = None
    spike_scale: Annotated[float, Parameter(help="Seconds in one unit of spike times.")] = 1.0
    sort_spikes: Annotated[
        bool, Parameter(help="Put unsorted spike times in order.", negative="")
    ] = False

    def movie(self, path: Path) -> xr.Dataset:
        """Read the movie."""
        from retinacodec.nwb import read_stimulus
        from retinacodec.nwb_contrast import Contrast

        given = self.grey is not None or self.span is not None
        return read_stimulus(
            path,
            self.stimulus,
            spatial_order=self.spatial_order,
            contrast=Contrast(self.grey, self.span) if given else None,
            pixel_um=self.pixel_um,
            **self._clock(),
        )

    def cells(self, path: Path) -> xr.Dataset:
        """Count the spikes on its flips."""
        from retinacodec.nwb import read_nwb

        return read_nwb(
            path,
            stimulus=self.stimulus,
            units=self.units,
            names=self.names,
            spike_scale=self.spike_scale,
            sort_spikes=self.sort_spikes,
            **self._clock(),
        )

    def _clock(self) -> dict[str, Any]:
        from retinacodec.nwb_triggers import Triggers

        pulses = None
        if self.triggers is not None:
            pulses = Triggers(self.triggers, every=self.every, threshold=self.threshold)
        elif self.every != 1 or self.threshold is not None:
            raise InputError("every, threshold: expected --triggers with the place of the pulses")
        return {
            "frame_rate": self.frame_rate,
            "repeat_frames": self.repeat_frames,
            "triggers": pulses,
            "allow_external": self.allow_external,
        }


ReadingOptions = Annotated[Reading, Parameter(name="*")]
AS_STATED = Reading()
"""Everything as the file states it."""
