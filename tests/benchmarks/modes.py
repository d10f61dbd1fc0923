"""Decompositions of tables with known modes, and the other benchmarks of modes.

The tables are sparse nonnegative loadings on sparse atoms with noise; the error is one less the
mean cosine of true atoms matched one to one, and stability the same between two seeds. Beside the
autoencoder of the paper stand scikit-learn's NMF and dictionary learning, on the same rows made
nonnegative by their signs.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from meter import main, matrix_rate, measure, report
from modes_stream import stream
from pathways import circuit_retina
from real_modes import real_table

from retinacodec.analyses import Planted
from retinacodec.dictionaries import DirectPursuit, PaperSAE
from retinacodec.metrics import matched_cosine

_ALTERNATIONS = 10


def autoencoder(x: Any, atoms: Any, epochs: int | None) -> tuple[str, float, float | None]:
    """Return words, CPU seconds and error of the paper's 800 epochs; seconds from fewer epochs."""
    whole = PaperSAE().epochs
    if epochs is None:
        run = measure(lambda: PaperSAE().fit(x, progress=False), repeats=1)
        found = run.result.atoms
        error = 1 - matched_cosine(atoms, found).sum() / len(atoms) if len(found) else 1.0
        return f"PaperSAE, {whole} epochs", run.cpu_s, float(error)
    PaperSAE(epochs=1).fit(x, progress=False)
    few, many = (
        measure(lambda count=count: PaperSAE(epochs=count).fit(x, progress=False), repeats=1).cpu_s
        for count in (epochs, 3 * epochs)
    )
    seconds = few + (many - few) / (2 * epochs) * (whole - epochs)
    return f"PaperSAE, {whole} epochs (from {3 * epochs})", seconds, None


def library_scores(x: Any, atoms: Any, modes: int) -> dict[str, dict[str, float]]:
    """Return CPU seconds and error of scikit-learn's methods on nonnegative rows."""
    from sklearn.decomposition import NMF, MiniBatchDictionaryLearning

    sparse = {"positive_code": True, "positive_dict": True, "transform_algorithm": "lasso_cd"}
    library = {
        "NMF": NMF(modes, init="nndsvda", max_iter=300, random_state=0),
        "MiniBatchDictionaryLearning": MiniBatchDictionaryLearning(
            modes,
            alpha=0.3,
            batch_size=256,
            max_iter=20,
            fit_algorithm="cd",
            random_state=0,
            **sparse,
        ),
    }
    found = {}
    scaled = (x / x.std()).astype(np.float64)
    for name, model in library.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = measure(lambda model=model: model.fit(scaled), repeats=1)
        error = 1 - matched_cosine(atoms, model.components_).mean()
        found[name] = {"cpu_s": round(run.cpu_s, 2), "error": round(float(error), 4)}
    return found


def limit_seconds(rows: int, features: int, modes: int) -> float:
    """Return the CPU seconds of ten alternations, each two products of rows and atoms."""
    return _ALTERNATIONS * 2 * 2 * rows * features * modes / matrix_rate()


def _run(
    name: str, shape: tuple[int, int, int], epochs: int | None, repeats: int, **kind: Any
) -> None:
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
    peer, peer_seconds, peer_error = autoencoder(x, atoms, epochs)
    report(
        name,
        ours,
        n={"rows": rows, "features": features, "modes": modes},
        peer=peer,
        peer_cpu_s=peer_seconds,
        peer_error=peer_error,
        limit_cpu_s=limit_seconds(*shape),
        error=float(1 - matched_cosine(atoms, ours.result.atoms).mean()),
        stability=float(matched_cosine(ours.result.atoms, other.atoms).mean()),
        library=library_scores(x * signs, atoms * signs, modes),
    )


def planted_large(quick: bool) -> None:
    """Ten thousand rows of 512 features and 200 modes; quick: 4000 of 128 and 48."""
    shape = (4000, 128, 48) if quick else (10000, 512, 200)
    kind = {"active": 5 if quick else 8, "support": 0.06, "signed": False}
    _run("planted_large", shape, 4 if quick else 1, 3, **kind)


def planted_retina(quick: bool) -> None:
    """The size of a retina's layer: 3000 frames, 8 channels of two signs, 14 modes."""
    kind = {"active": 2.5, "support": 0.3, "smooth": 4.0}
    _run("planted_retina", (3000, 16, 14), 5 if quick else None, 3, **kind)


if __name__ == "__main__":
    main(
        {
            "planted_large": planted_large,
            "planted_retina": planted_retina,
            "real_table": real_table,
            "stream": stream,
            "circuit_retina": circuit_retina,
        }
    )
