"""The table of fields and its figures: simulated cells whose fields are known, and real cells."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses.field_gallery import draw_field, draw_kernel, field_gallery
from retinacodec.analyses.fields_table import fields_table, fields_table_markdown, sta_errors
from retinacodec.analyses.kernels_figure import kernel_gallery
from retinacodec.analyses.receptive_fields import spike_triggered_average
from retinacodec.errors import InputError
from retinacodec.schema import make_recording, make_stimulus

LAGS = 20
TRUTH = [(300.0, 340.0, 80.0, 1.0), (420.0, 260.0, 60.0, -1.0)]


def _course():
    t = np.arange(LAGS - 1, -1, -1) / 60

    def gamma(tau):
        return (t / tau) ** 5 * np.exp(5 * (1 - t / tau))

    return gamma(0.06) - 0.6 * gamma(0.12)


def _averages(frames=40_000, side=15):
    """An ON and an OFF cell with Gaussian fields, and one that fires at random."""
    rng = np.random.default_rng(0)
    contrast = np.sign(rng.normal(size=(frames, side, side)))
    place = 50.0 * np.arange(side)
    y, x = np.meshgrid(place, place, indexing="ij")
    counts = []
    for cy, cx, sigma, sign in TRUTH:
        field = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
        seen = np.tensordot(contrast, field / np.linalg.norm(field), ((1, 2), (0, 1)))
        course = _course()[::-1] / np.linalg.norm(_course())
        drive = sign * np.convolve(seen, course)[:frames]
        counts.append(rng.poisson(0.3 * np.exp(drive - 0.5)))
    counts = np.stack([*counts, rng.poisson(0.3, frames)], axis=1).astype(float)
    movie = make_stimulus(
        contrast, frame_rate=60, pixel_um=50, name="noise", origin_um=(350.0, 350.0)
    )
    recording = make_recording(
        counts, time=movie["time"], frame_rate=60, cells=["on", "off", "none"]
    )
    found = spike_triggered_average(movie, recording, history=LAGS)
    return found.assign_coords(y=place, x=place)


@pytest.fixture(scope="module")
def averages():
    return _averages()


@pytest.fixture(scope="module")
def table(averages):
    return fields_table(averages, draws=100)


def test_known_fields_come_back_within_their_errors(table):
    assert table["type"].values.tolist() == ["ON", "OFF", ""]
    for k, (cy, cx, sigma, sign) in enumerate(TRUTH):
        row = table.isel(cell=k)
        for name, value in (("centre_y", cy), ("centre_x", cx), ("size", 2 * sigma)):
            assert abs(float(row[name]) - value) < 3 * float(row[f"{name}_error"]), name
            assert float(row[f"{name}_error"]) < 0.1 * sigma
        assert row["polarity"] == sign
        cross = (np.log(2) - np.log(0.6) / 5) / (1 / 0.06 - 1 / 0.12)
        assert float(row["zero_crossing"]) == pytest.approx(1000 * cross, abs=5)
        assert row["zero_crossing_low"] - 3 < 1000 * cross < row["zero_crossing_high"] + 3
    none = table.isel(cell=2)
    assert np.isnan(none["size"]) and none["space_reason"].item() == "no significant peak"
    assert float(none["noise_share"]) > 0.9 and float(table["noise_share"][0]) < 0.3


def test_errors_of_the_average_are_those_of_its_silent_pixels(averages):
    corner = averages["sta"].isel(y=slice(12, None), x=slice(0, 3)).std(("lag", "y", "x"))
    np.testing.assert_allclose(sta_errors(averages), corner, rtol=0.15)


def test_given_p_values_decide_and_markdown_says_so(averages, table):
    table = fields_table(averages, p_values=[0.2, 0.0001, 0.9], draws=10)
    assert table["type"].values.tolist() == ["", "OFF", ""]
    lines = fields_table_markdown(table).splitlines()
    assert len(lines) == 5 and lines[0].startswith("| cell | spikes | peak z | p |")
    assert "| OFF |" in lines[3] and "< 0.001" in lines[3] and "±" in lines[3]
    assert lines[4].count("–") >= 5
    with pytest.raises(InputError, match="3 cells"):
        fields_table(averages, p_values=[0.1])
    with pytest.raises(InputError, match="spike_triggered_average"):
        fields_table(averages[["sta"]])
    with pytest.raises(InputError, match="fields_table"):
        fields_table_markdown(averages)


def test_gallery_shows_maps_ellipses_and_time_courses(averages, table):
    drawing = field_gallery(averages, table)
    shown = [ax for ax in drawing.axes if ax.get_visible()]
    assert len(shown) == 6
    ellipse = shown[0].lines[-1].get_xydata() if shown[0].lines else None
    place = np.asarray([line.get_xydata().mean(axis=0) for line in shown[0].lines[-1:]])[0]
    assert ellipse.shape == (100, 2)
    assert place == pytest.approx([float(table["centre_x"][0]), float(table["centre_y"][0])], abs=3)
    assert "on\nON ***" in shown[0].get_title() and "no fit" in shown[4].get_xlabel()
    curve = shown[3].lines[-1].get_ydata()
    assert curve.min() == pytest.approx(-float(table["temporal"][1].max()))


def test_a_models_fields_stand_beside_the_measured_ones(averages, table):
    agreement = xr.Dataset(
        {name: ("cell", values) for name, values in _INTERVAL.items()},
    )
    drawing = field_gallery(averages, table, model=averages["sta"], agreement=agreement)
    titles = [ax.get_title() for ax in drawing.axes]
    assert sum("r = 0.82\n[0.75, 0.88]" in title for title in titles) == 3
    below = [ax.get_xlabel() for ax in drawing.axes]
    assert sum("corrected 0.90\n[0.80, 1.00]" in words for words in below) == 2
    assert sum("not reliable" in words for words in below) == 1
    off = drawing.axes[5].lines
    dashed = [line for line in off if line.get_label() == "model"]
    assert len(dashed) == 1 and dashed[0].get_ydata().min() < -0.3
    with pytest.raises(InputError, match="expected fields of sizes"):
        field_gallery(averages, table, model=averages["sta"].isel(x=slice(4)))
    with pytest.raises(InputError, match="other cells"):
        field_gallery(averages.isel(cell=[0]), table)


_INTERVAL = {
    "correlation": [0.82, 0.82, 0.82],
    "correlation_low": [0.75, 0.75, 0.75],
    "correlation_high": [0.88, 0.88, 0.88],
    "corrected": [0.9, 0.9, np.nan],
    "corrected_low": [0.8, 0.8, np.nan],
    "corrected_high": [1.0, 1.0, np.nan],
}


def test_a_full_field_recording_has_its_own_figure(averages):
    flicker = averages.isel(y=[6], x=[7]).copy()
    table = fields_table(flicker, draws=10)
    assert np.isnan(table["size"]).all() and (table["separability"] == 1).all()
    drawing = field_gallery(flicker, table)
    assert "cells with p" in "".join(ax.get_title() for ax in drawing.axes)
    picture = np.asarray(drawing.axes[0].images[0].get_array())
    assert picture.shape == (3, LAGS)


def test_models_of_a_full_field_recording_are_held_against_it(averages):
    table = fields_table(averages.isel(y=[6], x=[7]), draws=10)
    scores = {"correlation": [[0.5, 0.6, 0.7], [0.8, 0.9, 0.7]], "reliability": [[0.9] * 3] * 2}
    agreement = xr.Dataset(
        {name: (("model", "cell"), values) for name, values in scores.items()},
        coords={"model": ["LN", "CNN"], "cell": table["cell"]},
    )
    axes = kernel_gallery(table, agreement=agreement).axes
    words = [text.get_text() for ax in axes if ax.get_legend() for text in ax.get_legend().texts]
    assert "LN: median 0.60" in words and "CNN: median 0.80" in words
    points = next(ax for ax in axes if "reliability" in ax.get_xlabel()).lines[1:]
    np.testing.assert_allclose([line.get_ydata() for line in points], scores["correlation"])
    with pytest.raises(InputError, match="other cells"):
        kernel_gallery(table, agreement=agreement.isel(cell=[0]))


def test_a_cell_without_spikes_is_drawn_and_flagged(averages):
    silent = averages.isel(cell=[0]).copy(deep=True)
    for name in ("sta", "z"):
        silent[name][:] = np.nan
    silent["spikes"][:], silent["effective_spikes"][:] = 0, np.nan
    table = fields_table(silent, draws=10)
    assert np.isnan(table["size"]).all() and table["type"].item() == ""
    drawing = field_gallery(silent, table)
    assert "no peak" in drawing.axes[0].get_xlabel()
    assert draw_kernel(table, drawing.axes[1]) is drawing.axes[1]
    assert draw_field(silent, table, drawing.axes[0]) is drawing.axes[0]


def test_the_script_of_the_gallery_runs(tmp_path):
    script = Path(__file__).resolve().parents[2] / "docs" / "gallery" / "receptive_fields.py"
    words = [sys.executable, script, "--seconds", "40", "--history", "20", "--out", tmp_path]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "of 6 cells have a field" in found.stdout
    assert (tmp_path / "fields.png").stat().st_size > 10_000
    assert (tmp_path / "fields.md").read_text(encoding="utf-8").count("\n") == 8


def test_the_mean_of_the_movie_has_no_part_in_the_table():
    """Light that is never negative gives the table of the same light about its mean."""
    rng = np.random.default_rng(3)
    flicker = rng.normal(0, 0.3, 6000).astype(np.float32)
    drive = -np.convolve(flicker, _course()[::-1] / np.linalg.norm(_course()))[:6000]
    counts = rng.poisson(np.exp(2 * drive))[:, None].astype(float)
    tables = []
    for mean in (0.0, 0.9):
        movie = make_stimulus((mean + flicker)[:, None, None], frame_rate=60, name="", pixel_um=1)
        recording = make_recording(counts, time=movie["time"], frame_rate=60, cells=["off"])
        tables.append(fields_table(spike_triggered_average(movie, recording, history=LAGS)))
    assert tables[1]["type"].values.tolist() == ["OFF"]
    for name in ("z", "temporal_error", "time_to_peak", "zero_crossing", "biphasic_index"):
        np.testing.assert_allclose(tables[1][name], tables[0][name], rtol=2e-3)
    np.testing.assert_allclose(tables[1]["temporal"], tables[0]["temporal"], atol=1e-3)


@pytest.mark.realdata
def test_mouse_cells_have_their_known_places_and_sizes(data_dir):
    """Six ganglion cells under checkers: places as the peaks have them, sizes of mouse centres."""
    h5py = pytest.importorskip("h5py")
    from retinacodec.recordings import bin_spikes

    folder = Path(data_dir) / "rgc_mouse_ret1"
    with h5py.File(folder / "20080606_R2.nwb") as file:
        flips = file["stimulus/presentation/rec_stim_2/timestamps"][:]
        trains = [file[f"processing/Cells/UnitTimes/cell_{k}/times"][:] for k in range(1, 7)]
    stored = np.load(folder / "checkers_64x48_crop_x20-44_y12-36.npz")
    bits = np.unpackbits(stored["packed"], axis=1)[:, :576].reshape(stored["shape"])
    rate = 1 / np.median(np.diff(flips))
    movie = make_stimulus(
        2.0 * bits.transpose(0, 2, 1) - 1, frame_rate=rate, pixel_um=50, name="", time=flips
    )
    names = [f"cell_{k}" for k in range(1, 7)]
    counts = bin_spikes(trains, flips)
    recording = make_recording(counts, time=flips, frame_rate=rate, cells=names)
    averages = spike_triggered_average(movie, recording, history=30)
    table = fields_table(averages, draws=20)
    assert table["type"].values.tolist() == ["ON", "ON", "OFF", "OFF", "OFF", "ON"]
    peaks = averages["z"].stack(at=("lag", "y", "x"))
    peaks = peaks["at"].values[np.abs(peaks.values).argmax(axis=1)]
    for k, (_, y, x) in enumerate(peaks):
        assert abs(float(table["centre_y"][k]) - y) < 50
        assert abs(float(table["centre_x"][k]) - x) < 75
    assert ((table["size"] > 70) & (table["size"] < 150)).all()
    assert (table["size_error"] < 10).all() and (table["r2"] > 0.6).all()
    assert ((table["time_to_peak"] > 100) & (table["time_to_peak"] < 200)).all()
    assert ((table["biphasic_index"] > 0.35) & (table["biphasic_index"] < 0.8)).all()
