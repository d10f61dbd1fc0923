"""Stimuli with their per-frame ground truth: noise, natural movies, moving objects."""

from __future__ import annotations

__all__: list[str] = []
