"""What the person who imports a recording decides, where the file leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retinacodec.errors import RecordingError
from retinacodec.nwb_contrast import Contrast

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice:
    """Decisions for one import.

    Parameters
    ----------
    stimulus : sequence of str, optional
        Names of the movies to take; by default all.
    pixel_um : float, optional
        Side of a pixel on the retina, um, where the file does not say it.
    contrast : Contrast, optional
        How pixel values become contrast, where the file holds values without a meaning.
    frame_rate : float, optional
        Frames per second, where the file has no flip times.
    time_scale : float, optional
        Seconds in one unit of the file's times, where they are not those of its format.
    repeat_axes : sequence of str, optional
        Order of "repeat", "cell" and "time" in responses to repeats, where their sizes leave it
        open.
    """

    stimulus: Sequence[str] | None = None
    pixel_um: float | None = None
    contrast: Contrast | None = None
    frame_rate: float | None = None
    time_scale: float | None = None
    repeat_axes: Sequence[str] | None = None

    def movies(self, there: Sequence[str], path: str) -> list[str]:
        """Return the movies to take; `RecordingError` lists what there is if one is missing."""
        wanted = list(there if self.stimulus is None else self.stimulus)
        missing = [name for name in wanted if name not in there]
        if missing or not wanted:
            raise RecordingError(
                path,
                f"has no movie {', '.join(map(repr, missing))}",
                f"it has {', '.join(there) or 'none'}",
            )
        return wanted
