"""Train the demonstration model that ships with the package.

A retina whose wiring is known is shown ten minutes of rendered natural scenes four times, a
network is fitted to its spikes, and the network is then judged on a movie that it has not seen:
against the noise ceiling of repeats, against the true rates, and by how well its channels match
the retina's interneurons. Everything is made from seeds; it takes about ten minutes on one core::

    python docs/gallery/train_pretrained.py --out demo.safetensors
"""

from __future__ import annotations

import argparse
import logging
import time

import numpy as np

import retinacodec as rc
from retinacodec.analyses import channel_activations, match_interneurons
from retinacodec.ceilings import cc_norm
from retinacodec.metrics import pearson
from retinacodec.models import CircuitRetina, DeepRetina, save_model
from retinacodec.provenance import provenance

SIZE = (32, 32)


def record(retina, seconds, movie_seed, *, repeats, seed):
    """Show the retina a natural movie and count its spikes."""
    movie = rc.stimuli.natural_movie(seconds=seconds, size=SIZE, seed=movie_seed)
    return movie, retina.simulate(movie, repeats=repeats, seed=seed)


def network(retina, seed):
    """Build the network to be fitted."""
    return DeepRetina(
        retina.cells,
        size=SIZE,
        history=retina.history,
        channels=(8, 8),
        kernels=(11, 7),
        noise=0.02,
        dropout=0.0,
        seed=seed,
        cell_names=retina.cell_names,
    )


def judge(model, movie, recording):
    """Return scores per cell on a movie that the model has not seen."""
    first = model.history - 1
    rate = rc.predict(rc.Circuit(model, layers=[]), movie).values
    repeats = recording["repeats"].values[:, first:]
    return {
        "cc_norm": cc_norm(repeats, rate),
        "correlation_with_true_rate": pearson(rate, recording["rate"].values[first:]),
    }


def matches(model, retina, movie, layer):
    """Match the interneurons at the centre with the units of a layer."""
    truth = retina.interneuron_traces(movie, every=SIZE[0]).isel(y=0, x=0)
    return match_interneurons(truth, channel_activations(rc.Circuit(model, [layer]), movie))


def rounded(values):
    """Return plain numbers with four decimals."""
    return np.asarray(values, dtype=np.float64).round(4).tolist()


def as_record(scores, found, control):
    """Turn scores and matches into plain values for the model's JSON record."""
    record = {name: rounded(values) for name, values in scores.items()}
    record |= {f"mean_{name}": round(float(v.mean()), 3) for name, v in scores.items()}
    for layer, match in found.items():
        record[f"interneurons_{layer}"] = {
            "type": match["type"].values.tolist(),
            "correlation": rounded(match["correlation"]),
            "untrained": rounded(control[layer]["correlation"]),
            "null_95": rounded(match["null"].quantile(0.95, "shift")),
            "p_value": rounded(match["p_value"]),
        }
    return record


def show(scores, found, control):
    """Print scores per cell and the matches of each layer."""
    for name, values in scores.items():
        print(f"{name:28s} mean {values.mean():.3f}   cells {np.round(values, 2)}")
    for layer, match in found.items():
        match["untrained"] = control[layer]["correlation"]
        shown = ["correlation", "p_value", "untrained"]
        print(layer, match[shown].drop_vars(["y", "x"]).to_dataframe().round(3))


def main():
    """Simulate, fit, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="file of the weights, .safetensors")
    parser.add_argument("--quick", action="store_true", help="a minute, for a test of the script")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier files")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds, unseen_seconds, epochs = (40, 20, 2) if options.quick else (600, 60, 16)

    retina = CircuitRetina(SIZE)
    movie, recording = record(retina, seconds, 0, repeats=4, seed=1)
    unseen, repeats = record(retina, unseen_seconds, 1000, repeats=30, seed=2)

    start = time.process_time()
    training = {"epochs": epochs, "batch": 384, "lr": 5e-3, "weight_decay": 1e-2, "seed": 0}
    model = rc.fit(network(retina, seed=0), movie, recording, **training)
    spent = time.process_time() - start

    scores = judge(model, unseen, repeats)
    found, control = (
        {layer: matches(each, retina, unseen, layer) for layer in ("norm1", "norm2")}
        for each in (model, network(retina, seed=1))
    )
    show(scores, found, control)
    if options.out:
        about = {
            "what": "DeepRetina fitted to a simulated CircuitRetina on rendered natural scenes",
            "movie": {"name": "natural_movie", "seconds": seconds, "seed": 0, "repeats": 4},
            "unseen_movie": {
                "name": "natural_movie",
                "seconds": unseen_seconds,
                "seed": 1000,
                "repeats": 30,
            },
            "training": training,
            "training_cpu_s": round(spent),
            "scores": as_record(scores, found, control),
            "provenance": provenance(),
        }
        save_model(model, options.out, about=about, overwrite=options.overwrite)


if __name__ == "__main__":
    main()
