"""Receptive fields: classical estimates from spikes, beside the code that the field uses."""

from __future__ import annotations

from meter import main
from triggered import sta, stc

if __name__ == "__main__":
    main(
        {
            "sta": sta,
            "stc": stc,
        }
    )
