"""Modes of planted contributions: recovery, scores, targets, new times, errors, drawings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import (
    distil_modes,
    draw_atoms,
    draw_mode_loadings,
    draw_modes_raster,
    find_modes,
    project_modes,
)
from retinacodec.dictionaries import PCA, DirectPursuit, PaperSAE, Transcoder, Warmup
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, matched_cosine
from retinacodec.schema import check_modes

FRAMES, CHANNELS, MODES = 1200, 6, 5


@pytest.fixture(scope="module")
def planted():
    """Contributions of five modes that come and go, with a channel that does nothing."""
    random = np.random.default_rng(4)
    atoms = random.gamma(1.0, 1.0, (MODES, 2, CHANNELS)) * (
        random.random((MODES, 2, CHANNELS)) < 0.4
    )
    atoms[np.arange(MODES), np.arange(MODES) % 2, np.arange(MODES)] += 2
    atoms[:, 0] *= -1
    atoms[..., -1] = 0
    atoms /= np.linalg.norm(atoms, axis=(1, 2), keepdims=True)
    slow = np.apply_along_axis(
        lambda row: np.convolve(row, np.ones(8), mode="same"),
        0,
        random.standard_normal((FRAMES, MODES)),
    )
    loadings = np.maximum(slow / slow.std(axis=0) - 1, 0)
    table = 30 * np.einsum("tm,msc->tsc", loadings, atoms)
    noise = 0.3 * random.standard_normal(table.shape) * (np.arange(CHANNELS) < CHANNELS - 1)
    table[:, 0] = np.minimum(table[:, 0] + noise[:, 0], 0)
    table[:, 1] = np.maximum(table[:, 1] + noise[:, 1], 0)
    return _node(table), atoms, loadings


def _node(table, **extra):
    return xr.Dataset(
        {"contribution": (("time", "sign", "channel"), table), **extra},
        {
            "time": np.arange(len(table)) / 100,
            "sign": ["negative", "positive"],
            "channel": [f"c{number}" for number in range(table.shape[2])],
        },
    )


@pytest.fixture(scope="module")
def modes(planted):
    return find_modes(planted[0], dictionary=DirectPursuit(modes=MODES), seed=2, progress=False)


def test_planted_modes_come_back_with_signs_and_names(planted, modes):
    _, atoms, _ = planted
    found = modes["atom"].transpose("mode", "sign", "channel")
    score = matched_cosine(atoms.reshape(MODES, -1), found.values.reshape(MODES, -1))
    assert score.min() > 0.99
    assert (found.sel(sign="negative") <= 0).all() and (found.sel(sign="positive") >= 0).all()
    assert found["channel"].values.tolist() == [f"c{number}" for number in range(CHANNELS)]
    assert check_modes(modes) is modes


def test_product_times_scale_is_the_contribution(planted, modes):
    node, _, _ = planted
    made = modes.attrs["scale"] * (modes["loading"] * modes["atom"]).sum("mode")
    made = made.transpose("time", "sign", "channel")
    assert explained_variance(node["contribution"], made) == pytest.approx(modes.attrs["r2_fitted"])
    assert modes.attrs["r2_fitted"] > 0.98
    left = ((node["contribution"] - made) ** 2).sum(("sign", "channel"))
    energy = (node["contribution"] ** 2).sum(("sign", "channel"))
    np.testing.assert_allclose(modes["reconstruction_r2"], 1 - left / energy, atol=1e-4)


def test_scores_say_that_planted_modes_can_be_trusted(modes):
    assert modes.attrs["r2_fitted"] - 0.01 < modes.attrs["r2"] < modes.attrs["r2_fitted"] + 0.01
    assert modes.attrs["stability"] > 0.98 > modes.attrs["stability_null"]
    assert (modes["stability"] > 0.95).all() and (modes["agreement"] > 0.95).all()
    assert modes.attrs["alive"] == MODES and modes.attrs["dead"] == 0
    assert modes.attrs["l0"] == pytest.approx(float((modes["loading"] > 0).sum("mode").mean()))
    assert float(modes["share"].sum()) == pytest.approx(1)
    assert (np.diff(modes["share"]) <= 1e-6).all()


def test_every_mode_is_found_in_both_halves_and_none_is_surplus(modes):
    assert (modes["half_stability"] > 0.95).all()
    assert not modes["surplus"].any()
    assert (modes["gain"] > 10 * modes.attrs["gain_null"]).all()
    low, high = modes.attrs["r2_low"], modes.attrs["r2_high"]
    assert low < modes.attrs["r2"] < high < low + 0.05
    assert modes.attrs["report"].splitlines()[0].startswith(f"modes: {MODES} in use, 0 atoms dead")


def test_modes_that_are_not_there_are_called_surplus(planted):
    found = find_modes(planted[0], dictionary=DirectPursuit(modes=MODES + 3), progress=False)
    assert found["surplus"].sum() == 3
    kept = found["atom"].where(~found["surplus"], drop=True).values.reshape(MODES, -1)
    assert matched_cosine(planted[1].reshape(MODES, -1), kept).min() > 0.97


def test_channels_that_do_nothing_are_marked(modes):
    assert not modes["varies"].sel(channel="c5").any()
    assert modes["varies"].sum() > CHANNELS


def test_provenance_is_the_call(modes):
    assert modes.attrs["method"] == repr(DirectPursuit(modes=MODES))
    assert (modes.attrs["seed"], modes.attrs["quantity"]) == (2, "contribution")


def test_same_seed_same_modes(planted, modes):
    again = find_modes(planted[0], dictionary=DirectPursuit(modes=MODES), seed=2, progress=False)
    xr.testing.assert_identical(again, modes)


def test_default_chooses_the_number(planted):
    found = find_modes(planted[0], stability_seeds=0, halves=False, progress=False)
    assert found.sizes["mode"] == MODES
    assert found["stability"].isnull().all() and found["half_stability"].isnull().all()


def test_loadings_of_new_times_after_saving(planted, modes, tmp_path):
    node, _, _ = planted
    modes.to_netcdf(tmp_path / "modes.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "modes.nc", engine="h5netcdf") as opened:
        part = project_modes(opened, node.isel(time=slice(200, 500)))
    xr.testing.assert_allclose(part, modes["loading"].isel(time=slice(200, 500)), atol=1e-4)
    with pytest.raises(InputError, match="6 channels, the contributions 4"):
        project_modes(modes, node.isel(channel=slice(4)))


def test_an_autoencoder_can_be_used_and_projected(planted):
    node, _, _ = planted
    method = PaperSAE(epochs=12, learning_rate=5e-3, evaluate_every=4, start=Warmup(epochs=4))
    found = find_modes(node, dictionary=method, stability_seeds=0, progress=False)
    assert found.attrs["dead"] == 120 - found.attrs["alive"]
    np.testing.assert_array_equal(project_modes(found, node), found["loading"])
    with pytest.raises(InputError, match="all 120 atoms are dead"):
        find_modes(node, dictionary=PaperSAE(epochs=1, threshold=0.999), progress=False)


def test_components_come_back_with_their_centre(planted, tmp_path):
    node, _, _ = planted
    found = find_modes(node, dictionary=PCA(4), stability_seeds=0, halves=False, progress=False)
    made = (found["loading"] * found["atom"]).sum("mode") + found["centre"]
    made = (found.attrs["scale"] * made).transpose("time", "sign", "channel")
    r2 = explained_variance(node["contribution"], made)
    assert r2 == pytest.approx(found.attrs["r2_fitted"], abs=1e-5)
    found.to_netcdf(tmp_path / "modes.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "modes.nc", engine="h5netcdf") as opened:
        np.testing.assert_allclose(project_modes(opened, node), found["loading"], atol=1e-4)


def test_a_transcoder_reads_one_layer_and_writes_another(planted):
    node, _, loadings = planted
    random = np.random.default_rng(7)
    reading = random.random((MODES, 10)) * (random.random((MODES, 10)) < 0.3)
    reading[np.arange(MODES), np.arange(MODES)] += 2
    table = np.stack([np.zeros((FRAMES, 10)), loadings @ reading], axis=1)
    before = xr.Dataset(
        {"activation": (("time", "sign", "channel"), table)},
        {"time": node["time"], "sign": ["negative", "positive"]},
    )
    method = Transcoder(MODES, active=3, epochs=60)
    found = find_modes(
        node, dictionary=method, inputs=before, stability_seeds=0, halves=False, progress=False
    )
    assert found.attrs["r2"] > 0.9
    np.testing.assert_allclose(project_modes(found, before), found["loading"], atol=1e-4)
    with pytest.raises(InputError, match="inputs of 100 samples"):
        find_modes(node, dictionary=method, inputs=before.isel(time=slice(100)))


def test_an_encoder_learns_the_loadings(planted, modes):
    node, _, _ = planted
    taught = distil_modes(modes, node, gap=5)
    assert float(taught["log_encoder_r2"]) > float(taught["log_pursuit_r2"]) - 0.02 > 0.95
    assert float(taught["log_support_f1"]) > 0.9
    quick = project_modes(taught, node)
    assert np.corrcoef(quick.values.ravel(), modes["loading"].values.ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(taught["loading"], modes["loading"])


def test_maps_are_summed_after_the_split(planted, modes):
    node, _, _ = planted
    halves = xr.concat([0.25 * node["contribution"], 0.75 * node["contribution"]], "x")
    maps = xr.Dataset({"contribution": halves.expand_dims("y")})
    summed = find_modes(
        maps, dictionary=DirectPursuit(modes=MODES), seed=2, stability_seeds=0, progress=False
    )
    np.testing.assert_allclose(summed["atom"], modes["atom"], atol=1e-4)


def test_one_of_several_targets_must_be_chosen(planted):
    node, _, _ = planted
    both = xr.concat([node, 2 * node], xr.IndexVariable("target", ["a", "b"]))
    with pytest.raises(InputError, match=r"2 targets; choose one with target=, of \['a', 'b'\]"):
        find_modes(both, progress=False)
    options = {"dictionary": DirectPursuit(modes=MODES), "stability_seeds": 0, "progress": False}
    one, two = (find_modes(both, target=name, **options) for name in "ab")
    assert two.attrs["scale"] == pytest.approx(2 * one.attrs["scale"])
    np.testing.assert_allclose(two["loading"], one["loading"], atol=1e-4)


def test_another_quantity_and_a_tree_node(planted):
    node, _, _ = planted
    tree = xr.DataTree.from_dict({"/conv1": node.assign(activation=3 * node["contribution"])})
    options = {"dictionary": DirectPursuit(modes=3), "stability_seeds": 0, "progress": False}
    found = find_modes(tree["conv1"], quantity="activation", **options)
    assert found.attrs["quantity"] == "activation"
    with pytest.raises(InputError, match=r"pass one layer, such as parts\['conv1'\]"):
        find_modes(tree, **options)
    with pytest.raises(InputError, match="no variable 'gradient' among"):
        find_modes(node, quantity="gradient", **options)


def test_samples_may_be_images(planted):
    node = planted[0].rename(time="image")
    found = find_modes(
        node, dictionary=DirectPursuit(modes=2), stability_seeds=0, gap=0, progress=False
    )
    assert found["loading"].dims == ("image", "mode")


def test_what_cannot_be_decomposed_is_refused(planted):
    node, _, _ = planted
    quiet = {"progress": False}
    with pytest.raises(InputError, match="do not vary"):
        find_modes(0 * node, **quiet)
    holes = node.copy(deep=True)
    holes["contribution"][5:8] = np.nan
    with pytest.raises(InputError, match="3 of 1200 rows are NaN or infinite, first row 5"):
        find_modes(holes, **quiet)
    with pytest.raises(InputError, match="at least 30 rows, got 25"):
        find_modes(node.isel(time=slice(25)), dictionary=DirectPursuit(modes=30), **quiet)
    with pytest.raises(InputError, match="expected contribution"):
        find_modes(node.isel(sign=0), **quiet)
    swapped = node.isel(sign=[1, 0])
    with pytest.raises(InputError, match="with signs"):
        find_modes(swapped, **quiet)


def test_drawings_show_the_numbers(modes):
    figure, axes = plt.subplots(3)
    raster = draw_modes_raster(modes, axes[0]).images[-1].get_array()
    assert raster.shape == (MODES, FRAMES)
    assert raster.max() == 1 and raster.min() == 0
    atoms = draw_atoms(modes, axes[1]).images[-1]
    np.testing.assert_allclose(atoms.get_array()[:, :CHANNELS], modes["atom"].sel(sign="negative"))
    low, high = atoms.get_clim()
    assert low == -high
    lines = draw_mode_loadings(modes, axes[2], mode=[1, 3]).lines
    np.testing.assert_array_equal(lines[1].get_ydata(), modes["loading"].sel(mode=3))
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["mode 1", "mode 3"]
    plt.close(figure)


def test_drawings_of_named_images_count_them(planted):
    _, axes = plt.subplots(1, 2)
    node = planted[0].rename(time="image").isel(image=slice(200))
    node = node.assign_coords(image=[f"photo {k}" for k in range(200)])
    found = find_modes(
        node, dictionary=PCA(3), stability_seeds=0, halves=False, gap=0, progress=False
    )
    draw_modes_raster(found, axes[0])
    assert axes[0].images[-1].get_extent() == [-0.5, 199.5, 2.5, -0.5]
    draw_mode_loadings(found, axes[1])
    assert axes[0].get_xlabel() == axes[1].get_xlabel() == "Image"
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), found["loading"].sel(mode=0))
    plt.close()
