"""The main job in eight lines: stimulus, recording, fit, contributions, modes, fields, file.

The first part makes what a laboratory would bring, a folder of images and an NWB file, by
showing a movie to the simulated retina; the eight lines follow.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import matplotlib.image
import numpy as np

import retinacodec as rc


def bring_data(folder: Path, seconds: float) -> None:
    """Write images to clips/ and a recording of the simulated retina to recording.nwb."""
    (folder / "clips").mkdir()
    for seed in range(4):
        scene = rc.stimuli.dead_leaves((200, 200), seed=seed)
        grey = (scene - scene.min()) / np.ptp(scene)
        image = np.repeat(np.uint8(255 * grey)[..., None], 3, axis=-1)
        matplotlib.image.imsave(folder / "clips" / f"scene{seed}.png", image)
    movie = rc.stimuli.natural_movie(folder / "clips", seconds=seconds, seed=0)
    retina = rc.models.CircuitRetina(size=(movie.sizes["y"], movie.sizes["x"]), cells=6)
    rc.write_nwb(folder / "recording.nwb", movie, retina.simulate(movie, seed=0))


def main_job(seconds: float, epochs: int) -> None:
    """Run the eight lines in the working directory."""
    movie = rc.stimuli.natural_movie("clips/", seconds=seconds, seed=0)
    cells = rc.read_nwb("recording.nwb")
    model = rc.fit(rc.models.DeepRetina(cells=cells.sizes["cell"]), movie, cells, epochs=epochs)
    circuit = rc.Circuit(model, layers=["conv1", "conv2"])
    parts = rc.contributions(circuit, movie, rc.Surprisal(), rule=rc.Secant(steps=10))
    modes = rc.analyses.find_modes(parts["conv1"], seed=0)
    fields = rc.analyses.dynamic_fields(circuit, movie, modes=modes)
    rc.save(parts, "parts.zarr")

    print(f"{modes.sizes['mode']} modes; residual {parts['conv1'].attrs['relative_residual']:.0e}")
    print(fields)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        bring_data(Path(name), options.seconds)
        main_job(options.seconds, options.epochs)
        os.chdir("/")
