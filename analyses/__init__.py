"""What contributions and receptive fields say: modes, dynamics, comparison, figures."""

from __future__ import annotations

__all__: list[str] = []
