"""Receptive fields: estimates from spikes and gradients of models, beside what others use."""

from __future__ import annotations

from field_parts import chance, parts
from instantaneous import instantaneous
from meter import main
from triggered import sta, stc

if __name__ == "__main__":
    main(
        {
            "sta": sta,
            "stc": stc,
            "instantaneous": instantaneous,
            "parts": parts,
            "chance": chance,
        }
    )
