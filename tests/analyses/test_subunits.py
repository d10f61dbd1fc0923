"""Subunits of simulated cells whose subunits are known, and Moran's I by its definition."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from retinacodec.analyses.subunit_modules import ModuleRule, morans_i
from retinacodec.analyses.subunits import draw_subunits, subunits
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus

COURSE = np.array([0.2, 0.7, 1.0, 0.6, -0.3, -0.4])
MIDDLES = [(2, 2), (2, 5), (5, 2), (5, 5)]


def _cell(rectified, frames=40_000, seed=0, side=8):
    """A cell of four Gaussian subunits that rectify by themselves, or only together."""
    rng = np.random.default_rng(seed)
    contrast = np.sign(rng.normal(size=(frames, side, side)))
    y, x = np.mgrid[:side, :side]
    maps = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * 0.8**2)) for a, b in MIDDLES])
    maps /= np.linalg.norm(maps, axis=(1, 2), keepdims=True)
    drive = np.tensordot(contrast, maps, ((1, 2), (1, 2)))
    course = COURSE / np.linalg.norm(COURSE)
    drive = np.stack([np.convolve(column, course)[:frames] for column in drive.T], axis=1)
    rate = np.maximum(drive, 0).sum(1) ** 1.5 if rectified else np.exp(drive.sum(1) / 2)
    counts = rng.poisson(0.5 * rate / rate.mean()).astype(float)
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=30, name="noise")
    recording = make_recording(counts[:, None], time=movie["time"], frame_rate=60, cells=["a"])
    return movie, recording, maps


def _found(movie, recording, **options):
    settings = {"cell": "a", "history": 6, "largest": 5, "folds": 2, "nulls": 19} | options
    return subunits(movie, recording, progress=False, **settings)


def test_planted_subunits_are_recovered():
    movie, recording, maps = _cell(rectified=True)
    found = _found(movie, recording)
    modules = found["module"].values[found["localised"].values]
    cosines = np.tensordot(modules, maps, ((1, 2), (1, 2)))
    rows, columns = linear_sum_assignment(-cosines)
    assert found.attrs["subunits"] == 4 and found.attrs["p_value"] <= 0.05
    assert len(rows) == 4 and cosines[rows, columns].min() > 0.9
    np.testing.assert_allclose(found["weight"][:4], 0.25, atol=0.06)
    near = (found["centre_y"].values[rows] - float(movie["y"][0])) / 30
    np.testing.assert_allclose(near, np.asarray(MIDDLES)[columns, 0], atol=0.5)
    gain, null = found["gain"].values, found["gain_null"].values
    assert gain[3] - gain[0] > 3 * (null[:, 3] - null[:, 0]).max() and gain[3] > 2 * gain[0]
    ax = draw_subunits(found, figure().subplots())
    assert "4 subunits" in ax.get_title() and len(ax.texts) >= 4


def test_a_single_field_with_a_nonlinearity_has_one_subunit():
    movie, recording, maps = _cell(rectified=False)
    found = _found(movie, recording, largest=3)
    assert found.attrs["subunits"] == 1 and found.attrs["p_value"] > 0.05
    assert found.sizes["subunit"] == 1 and "single field" in found.attrs["reason"]
    whole = maps.sum(axis=0) / np.linalg.norm(maps.sum(axis=0))
    assert float((found["module"][0].values * whole).sum()) > 0.95


def test_modules_of_second_moments_are_those_of_the_spikes():
    """The factorisation of a root of E^T E has the error and modules of that of E itself."""
    from retinacodec.semi_nmf import SemiNMF

    rng = np.random.default_rng(1)
    parts = np.kron(np.eye(3), np.ones(4))
    pictures = rng.normal(size=(500, 3)) @ parts + 0.1 * rng.normal(size=(500, 12))
    direct = SemiNMF(3, active=1).fit(pictures.T, progress=False)
    modules = ModuleRule(3, 1, 0).modules(pictures.T @ pictures / 500, 3)
    plain = direct.loadings.T / np.linalg.norm(direct.loadings.T, axis=1, keepdims=True)
    cosines = modules @ plain.T
    assert cosines[linear_sum_assignment(-cosines)].min() > 0.999
    truth = modules @ parts.T / 2
    assert truth[linear_sum_assignment(-truth)].min() > 0.99


def test_morans_i_equals_its_double_sum_and_its_expectation():
    rng = np.random.default_rng(2)
    picture = rng.normal(size=(4, 5)) + np.arange(5)
    places = [(i, j) for i in range(4) for j in range(5)]
    apart = picture - picture.mean()
    top = weights = 0.0
    for one in places:
        for two in places:
            if abs(one[0] - two[0]) + abs(one[1] - two[1]) == 1:
                weights += 1
                top += apart[one] * apart[two]
    moran, p = morans_i(picture)
    assert moran == pytest.approx(20 / weights * top / (apart**2).sum())
    assert p < 0.01
    values = [morans_i(rng.normal(size=(4, 5)), draws=99, seed=k) for k in range(300)]
    assert np.mean([one[0] for one in values]) == pytest.approx(-1 / 19, abs=0.03)
    assert 0.02 < np.mean([one[1] <= 0.05 for one in values]) < 0.09
    assert np.isnan(morans_i(np.ones((3, 3)))).all()
    with pytest.raises(InputError, match="finite"):
        morans_i([[np.nan, 1.0]])


def test_bad_calls_and_silent_cells_are_refused():
    movie, recording, _ = _cell(rectified=True, frames=400)
    with pytest.raises(InputError, match=r"window.*folds.*nulls"):
        _found(movie, recording, window=1, folds=1, nulls=5)
    with pytest.raises(InputError, match="640 are needed"):
        _found(movie, recording)
    with pytest.raises(InputError, match="no cell 'b'"):
        _found(movie, recording, cell="b")
    with pytest.raises(InputError, match="no spikes"):
        _found(movie, recording * 0)
