"""Circuit models of the retina: fitted networks, baselines and a simulated retina."""

from __future__ import annotations

__all__: list[str] = []
