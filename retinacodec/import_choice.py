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
    """

    stimulus: Sequence[str] | None = None
    pixel_um: float | None = None
    contrast: Contrast | None = None

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
