"""What contributions and receptive fields say: modes, dynamics, comparison, figures."""

from __future__ import annotations

from retinacodec.analyses.comparison import compare_models, draw_comparison
from retinacodec.analyses.receptive_fields import (
    draw_sta,
    draw_time_course,
    spike_triggered_average,
    sta_peaks,
)

__all__ = [
    "compare_models",
    "draw_comparison",
    "draw_sta",
    "draw_time_course",
    "spike_triggered_average",
    "sta_peaks",
]
