"""Decompositions of tables with known modes, beside the autoencoder of the paper.

The tables are sparse nonnegative loadings on sparse atoms with noise; the error is one less the
mean cosine of true atoms matched one to one, and stability the same between two seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from meter import main, matrix_rate, measure, report

from retinacodec.analyses import Planted
from retinacodec.dictionaries import DirectPursuit, PaperSAE
from retinacodec.metrics import matched_cosine

_ALTERNATIONS = 10


def autoencoder_seconds(x: Any, epochs: int) -> float:
    """Return the CPU seconds of the paper's 800 epochs, from some more and some fewer of them."""
    few, many = (
        measure(lambda count=count: PaperSAE(epochs=count).fit(x, progress=False), repeats=1).cpu_s
        for count in (epochs, 3 * epochs)
    )
    return few + (many - few) / (2 * epochs) * (PaperSAE().epochs - epochs)


def limit_seconds(rows: int, features: int, modes: int) -> float:
    """Return the CPU seconds of ten alternations, each two products of rows and atoms."""
    return _ALTERNATIONS * 2 * 2 * rows * features * modes / matrix_rate()


def _run(name: str, shape: tuple[int, int, int], epochs: int, repeats: int, **kind: Any) -> None:
    rows, features, modes = shape
    table = Planted(rows, features, modes, own=0.0, **kind).draw(seed=0)
    x, atoms, signs = (table[name].values for name in ("x", "atom", "sign"))
    x = x.astype(np.float32)
    DirectPursuit(modes=2, sweeps=10).fit(x[:50], progress=False)
    method = DirectPursuit(modes=modes)

    def fit(seed: int = 0) -> Any:
        return method.fit(x, signs=signs, seed=seed, progress=False)

    ours = measure(fit, repeats=repeats)
    other = fit(1)
    report(
        name,
        ours,
        n={"rows": rows, "features": features, "modes": modes},
        peer=f"PaperSAE, {PaperSAE().epochs} epochs (from {3 * epochs})",
        peer_cpu_s=autoencoder_seconds(x, epochs),
        limit_cpu_s=limit_seconds(*shape),
        error=float(1 - matched_cosine(atoms, ours.result.atoms).mean()),
        stability=float(matched_cosine(ours.result.atoms, other.atoms).mean()),
    )


def planted_large(quick: bool) -> None:
    """Ten thousand rows of 512 features and 200 modes; quick: 4000 of 128 and 48."""
    shape = (4000, 128, 48) if quick else (10000, 512, 200)
    kind = {"active": 5 if quick else 8, "support": 0.06, "signed": False}
    _run("planted_large", shape, 4 if quick else 1, 3, **kind)


def planted_retina(quick: bool) -> None:
    """The size of a retina's layer: 3000 frames, 8 channels of two signs, 14 modes."""
    kind = {"active": 2.5, "support": 0.3, "smooth": 4.0}
    _run("planted_retina", (3000, 16, 14), 5 if quick else 15, 3, **kind)


if __name__ == "__main__":
    main({"planted_large": planted_large, "planted_retina": planted_retina})
