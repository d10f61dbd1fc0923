"""Baselines: where paths start, on both paths of computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import retinacodec as rc
from retinacodec.errors import InputError
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus

SIZE, HISTORY = (11, 11), 5
FRAME = np.random.default_rng(3).normal(0.4, 0.3, SIZE).astype(np.float32)
WINDOW = np.random.default_rng(4).normal(0, 0.5, (HISTORY, *SIZE)).astype(np.float32)
BASELINES = {
    "zero": rc.ZeroContrast(),
    "mean": rc.MeanFrame(),
    "frame": rc.GivenFrames(FRAME),
    "window": rc.GivenFrames(WINDOW),
    "two frames": rc.GivenFrames(np.stack([FRAME, -FRAME])),
    "drawn": rc.DrawnFrames(4, seed=1),
}


@pytest.fixture(scope="module")
def circuit():
    model = DeepRetina(3, size=SIZE, history=HISTORY, channels=(4, 3), kernels=(5, 3), seed=2)
    torch.manual_seed(0)
    for norm in (model.norm1, model.norm2):
        norm.running_mean.normal_(0, 0.3)
        torch.nn.init.normal_(norm.bias, 0, 0.5)
    return rc.Circuit(model, ["conv1", "norm1", "relu1", "relu2"])


@pytest.fixture(scope="module")
def movie():
    frames = np.random.default_rng(0).normal(0.2, 1, (24, *SIZE))
    return make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")


def starts(name, movie):
    frames = torch.from_numpy(movie["contrast"].values)
    return BASELINES[name].starts(frames, (HISTORY, *SIZE))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("rule", [rc.Secant, rc.IntegratedGradients], ids=lambda r: r.__name__)
def test_both_paths_agree_for_every_baseline(circuit, movie, name, rule):
    fast, slow = (
        rc.contributions(
            circuit,
            movie,
            rc.EachCell(),
            rule=rule(4, baseline=BASELINES[name]),
            fast=fast,
            activations=True,
            gradients=True,
            progress=False,
        )
        for fast in (True, False)
    )
    assert (fast.attrs["path"], slow.attrs["path"]) == ("movie", "generic")
    np.testing.assert_allclose(fast["baseline_value"], slow["baseline_value"], rtol=2e-5)
    for layer in circuit.layers:
        for key in ("contribution", "activation", "gradient"):
            quick, plain = fast[layer][key].values, slow[layer][key].values
            assert np.linalg.norm(quick - plain) < 1e-5 * np.linalg.norm(plain), (layer, key)


@pytest.mark.parametrize("name", BASELINES)
def test_contributions_sum_to_the_change_from_the_mean_of_the_baselines(circuit, movie, name):
    rule = rc.Secant(3, baseline=BASELINES[name])
    tree = rc.contributions(circuit, movie, rc.Cell(1), rule=rule, progress=False)
    with torch.no_grad():
        begin = circuit.model.eval()(starts(name, movie)).double().mean(dim=0)[1]
    np.testing.assert_allclose(tree["baseline_value"].values, float(begin), rtol=1e-5)
    change = tree["value"] - tree["baseline_value"]
    for layer in circuit.layers:
        total = tree[layer]["contribution"].sum(("sign", "channel"))
        assert float(abs(total - change).max()) < 1e-5 * float(abs(change).max())


def test_several_baselines_are_averaged_before_the_split_by_sign(circuit, movie):
    frames = np.stack([FRAME, -FRAME])
    whole, *single = (
        rc.contributions(
            circuit,
            movie,
            rc.Cell(0),
            rule=rc.Secant(2, baseline=rc.GivenFrames(values)),
            maps=True,
            progress=False,
        )
        for values in (frames, *frames)
    )
    mean = sum(one["relu1"]["contribution"].sum("sign").values for one in single) / 2
    found = whole["relu1"]["contribution"]
    np.testing.assert_allclose(
        found.sel(sign="positive"), np.maximum(mean, 0), atol=1e-5 * abs(mean).max()
    )
    np.testing.assert_allclose(
        found.sel(sign="negative"), np.minimum(mean, 0), atol=1e-5 * abs(mean).max()
    )


def test_mean_frame_and_drawn_frames_are_the_movies(movie):
    contrast = movie["contrast"].values
    mean = starts("mean", movie)
    np.testing.assert_allclose(mean[0, 2], contrast.mean(axis=0), rtol=1e-5)
    drawn = starts("drawn", movie)
    assert drawn.shape == (4, HISTORY, *SIZE)
    for one in drawn:
        assert (contrast == one[0].numpy()).all(axis=(1, 2)).sum() == 1
    assert len({float(one[0, 0, 0]) for one in drawn}) == 4


def test_images_have_baselines_too():
    frames = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert rc.ZeroContrast().starts(frames, (3, 4, 4)).shape == (1, 3, 4, 4)
    np.testing.assert_allclose(
        rc.MeanFrame().starts(frames, (3, 4, 4))[0], frames.mean(dim=0), atol=1e-6
    )
    assert rc.DrawnFrames(2).starts(frames, (3, 4, 4)).shape == (2, 3, 4, 4)
    assert rc.GivenFrames(frames.numpy()).starts(frames, (3, 4, 4)).shape == (5, 3, 4, 4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rc.GivenFrames(np.full((3, 3), np.nan)), "finite contrasts"),
        (lambda: rc.DrawnFrames(0), "count of at least 1"),
    ],
)
def test_impossible_baselines_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_baselines_that_do_not_fit_the_movie_are_refused(circuit, movie):
    for baseline, said in (
        (rc.GivenFrames(np.zeros((4, 4))), "expected frames of"),
        (rc.DrawnFrames(99), "99 frames to draw from a movie of 24"),
    ):
        with pytest.raises(InputError, match=said):
            rc.contributions(
                circuit, movie, rc.Cell(0), rule=rc.Secant(2, baseline=baseline), progress=False
            )


def test_what_is_written_down_names_the_baseline_but_not_its_numbers(circuit, movie):
    rule = rc.Secant(2, baseline=rc.GivenFrames(FRAME))
    tree = rc.contributions(circuit, movie, rc.Cell(0), rule=rule, progress=False)
    assert tree.attrs["baseline"].startswith("GivenFrames(11 x 11, ")
    assert rc.GivenFrames(FRAME) == rc.GivenFrames(FRAME.copy()) != rc.GivenFrames(-FRAME)
    assert "baseline" not in repr(rc.Secant(2))
