"""What several tests of the stimuli write: movie files without loss."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest


def _write_clip(path, frames, rate=30, times=None):
    """Write grey frames (time, y, x) without loss."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "gray"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        times = np.arange(len(frames)) / rate if times is None else times
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """Write grey frames (time, y, x) to a movie file and return its path."""
    return _write_clip
