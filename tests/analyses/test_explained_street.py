"""Concepts of a labelled street: what was planted in its pixels is found on frames held out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import jaccard_score

import retinacodec as rc
from retinacodec import analyses

NAMES = "sky building pole road pavement tree sign fence car pedestrian bicyclist".split()


@pytest.mark.realdata
def test_planted_masks_of_a_street_are_explained(data_dir):
    image = pytest.importorskip("PIL.Image")
    folder = data_dir / "concepts_camvid" / "annot"
    if not folder.is_dir():
        pytest.skip("no labelled street in the data folder")
    files = sorted(folder.iterdir())
    labels = np.stack([np.asarray(image.open(path)) for path in files])
    concepts = analyses.pixel_concepts(labels, dict(enumerate(NAMES)), stride=12)
    assert concepts.sizes == {"concept": 11, "position": 101 * 30 * 40}
    share = (labels == 3).mean()
    assert float(concepts.sel(concept="road").mean()) == pytest.approx(share, abs=0.01)
    rng = np.random.default_rng(0)
    cars = np.isin(labels[:, 5::12, 5::12], (8, 10)).ravel()
    noisy = cars ^ (rng.random(cars.size) < 0.01)
    coords = {name: concepts[name] for name in ("image", "y", "x")}
    masks = xr.DataArray(np.stack([cars, noisy]), coords, ("mask", "position"))
    found = analyses.explain(
        masks,
        concepts,
        length=2,
        held_out=rc.TimeBlocks(gap=4, blocks=5),
        null=analyses.ShiftedMasks(40, least=10),
    )
    assert (found["formula"].sel(length=2) == "bicyclist OR car").all()
    held = found.sel(part="held out", length=2)
    assert held["score"].values[0] == 1
    here = np.isin(concepts["image"], rc.TimeBlocks(gap=4, blocks=5).split(101)[1])
    expected = jaccard_score(noisy[here], cars[here])
    assert held["score"].values[1] == pytest.approx(expected, abs=1e-12)
    single = found["score"].sel(part="held out", length=1)
    assert (held["score"] > single).all()
    assert (held["p"] == pytest.approx(1 / 12)).all()  # there are 11 shifts of the part held out
