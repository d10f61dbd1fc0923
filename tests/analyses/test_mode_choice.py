"""The number of modes: planted numbers come out, and the rule is the plain one."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import choose_modes, draw_mode_choice
from retinacodec.dictionaries import DirectPursuit, PaperSAE
from retinacodec.dictionary_scores import held_out_r2
from retinacodec.errors import InputError
from retinacodec.row_splits import TimeBlocks

SIZES = [1, 2, 4, 6, 8, 12]


def _node(rows=1200, modes=4, sample="time"):
    random = np.random.default_rng(5)
    atoms = random.gamma(1.0, 1.0, (modes, 12)) * (random.random((modes, 12)) < 0.4)
    atoms[np.arange(modes), np.arange(modes)] += 2
    loadings = (random.random((rows, modes)) < 0.3) * random.gamma(2.0, 1.0, (rows, modes))
    x = np.maximum(loadings @ atoms + 0.3 * random.standard_normal((rows, 12)), 0)
    table = (x * np.repeat([-1.0, 1.0], 6)).reshape(rows, 2, 6)
    return xr.Dataset(
        {"contribution": ((sample, "sign", "channel"), table)}, {"sign": ["negative", "positive"]}
    )


@pytest.fixture(scope="module")
def choice():
    return choose_modes(_node(), SIZES, seeds=2, gap=5, progress=False)


def test_the_planted_number_is_chosen(choice):
    assert choice.attrs["chosen"] == 4 <= choice.attrs["best"] <= 6
    mean = choice["predicted_r2"].mean("seed").values
    assert (np.diff(mean[:3]) > 0.05).all()
    first = choice["predicted_r2"].isel(seed=0)
    assert (choice["predicted_low"] < first).all() and (first < choice["predicted_high"]).all()


def test_more_modes_always_describe_but_do_not_predict(choice):
    assert (np.diff(choice["r2"].mean("seed")) > 0).all()
    mean = choice["predicted_r2"].mean("seed")
    assert float(mean.sel(size=12)) < float(mean.sel(size=4)) - 0.01


def test_modes_are_found_again_only_where_they_exist(choice):
    assert float(choice["stability"].sel(size=4)) > 0.99 > float(choice["stability"].sel(size=12))
    assert choice["alive"].sel(size=6).max() <= 6


def test_scores_are_those_of_single_fits(choice):
    x = _node()["contribution"].stack(feature=("sign", "channel")).values
    signs = np.repeat([-1, 1], 6)
    method = DirectPursuit(modes=2)
    r2 = held_out_r2(method, x, signs=signs, seed=1, split=TimeBlocks(5))
    assert float(choice["r2"].sel(size=2, seed=1)) == pytest.approx(r2)


def test_images_are_held_out_at_random_and_drawn():
    node = _node(300, sample="image")
    found = choose_modes(node, [2, 4], seeds=1, progress=False)
    assert found.attrs["chosen"] == 4
    assert np.isnan(found["stability"]).all()
    figure, ax = plt.subplots()
    draw_mode_choice(found, ax)
    assert ax.get_xlabel() == "Modes (4 chosen)"
    plt.close(figure)


def test_what_cannot_be_chosen_is_refused():
    for sizes in ([1.5, 2.0], [], [0, 1]):
        with pytest.raises(InputError, match="rising whole numbers"):
            choose_modes(_node(rows=60), sizes, progress=False)
    with pytest.raises(InputError, match="at least 1 fit of each size, got 0"):
        choose_modes(_node(rows=60), [1, 2], seeds=0, progress=False)
    with pytest.raises(InputError, match="rising whole numbers"):
        choose_modes(_node(), [4, 2])
    with pytest.raises(InputError, match="has no number of modes"):
        choose_modes(_node(), [2, 4], dictionary=PaperSAE())
