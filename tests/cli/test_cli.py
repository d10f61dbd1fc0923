"""The command line: one-line errors, exit codes, and the same results as the functions."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import retinacodec as rc
from retinacodec.cli import main
from retinacodec.models import CircuitRetina, DeepRetina, save_model


def call(capsys, *words):
    """Run the command line here and return exit code, output and errors."""
    try:
        main([str(word) for word in words])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A small simulated recording in NWB."""
    path = tmp_path_factory.mktemp("data") / "small.nwb"
    movie = rc.stimuli.white_noise(seconds=20, size=(16, 16), seed=0)
    retina = CircuitRetina(size=(16, 16), cells=3)
    rc.write_nwb(path, movie, retina.simulate(movie, seed=0))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network that fits the recording."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = DeepRetina(3, size=(16, 16), history=12, channels=(3, 3), kernels=(5, 3)).eval()
    save_model(network, path)
    return path


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys, retinacodec.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'matplotlib', 'xarray', 'pynwb')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "none.toml"], 2, "no such study file"),
        (["demos"], 2, 'Did you mean "demo"'),
        (["demo", "--second", "3"], 2, "--second"),
        (["info", "none.nwb"], 1, "none.nwb"),
        (["import", "none.nwb", "--out", "x.nwb"], 1, "none.nwb"),
        (["demo", "--movie", "none.mp4", "--out", "nowhere"], 2, "none.mp4"),
        (["report", "nowhere"], 2, "not a run folder"),
        (["fit", "none.nwb", "--out", "m.safetensors"], 1, "none.nwb"),
    ],
)
def test_bad_calls_end_in_one_line_and_write_nothing(
    capsys, tmp_path, monkeypatch, words, code, message
):
    monkeypatch.chdir(tmp_path)
    found, _, err = call(capsys, *words)
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_text_file_named_nwb_is_refused(capsys, tmp_path):
    path = tmp_path / "text.nwb"
    path.write_text("hello")
    code, out, err = call(capsys, "info", path)
    assert code == 1
    assert "not an HDF5" in out + err


def test_config_prints_a_study_file_that_can_be_read(capsys, tmp_path):
    code, out, _ = call(capsys, "config")
    assert code == 0
    path = tmp_path / "study.toml"
    path.write_text(out)
    assert call(capsys, "config", path)[0] == 0


def test_dry_run_prints_and_writes_nothing(capsys, tmp_path, monkeypatch, recording):
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "study.toml"
    study.write_text(f'[recording]\nfile = "{recording}"\n')
    code, out, _ = call(capsys, "run", study, "--dry-run")
    assert code == 0
    assert "would write" in out
    assert list(tmp_path.iterdir()) == [study]


def test_info_describes_a_recording(capsys, recording):
    code, out, _ = call(capsys, "info", recording)
    assert code == 0
    assert "white_noise" in out
    assert "next: retinacodec" in out
    code, out, _ = call(capsys, "info", recording, "--json")
    assert json.loads(out)["problems"] == []


def test_stimulus_command_renders_what_the_function_renders(capsys, tmp_path):
    out = tmp_path / "noise.nc"
    words = ["stimulus", "white_noise", "--out", out, "--seconds", 1, "--size", 8, 8, "--seed", 5]
    assert call(capsys, *words)[0] == 0
    expected = rc.stimuli.white_noise(seconds=1.0, size=(8, 8), seed=5)
    np.testing.assert_array_equal(rc.open_result(out)["contrast"], expected["contrast"])
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "overwrite" in err


def test_contributions_and_modes_and_fields_from_files(capsys, tmp_path, recording, model):
    parts, modes, fields = (tmp_path / f"{name}.zarr" for name in ("parts", "modes", "fields"))
    code, _, err = call(capsys, "contributions", model, recording, "--out", parts, "--steps", 2)
    assert code == 0, err
    tree = rc.open_result(parts)
    assert tree.attrs["rule"] == "Secant(steps=2)"
    code, _, err = call(capsys, "modes", parts, "conv1", "--out", modes, "--count", 3)
    assert code == 0, err
    assert rc.open_result(modes).sizes["mode"] <= 3
    code, _, err = call(capsys, "modes", parts, "conv3", "--out", tmp_path / "x.zarr")
    assert code == 2
    assert "there are conv1, conv2" in err
    words = ["fields", model, recording, "--out", fields, "--modes", modes]
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "no cell fires above 1 Hz" in err
    code, _, err = call(capsys, *words, "--minimum-rate", 0.1, "--frames", 40)
    assert code == 0, err
    assert "spatial" in rc.open_result(fields)


def test_fields_of_every_frame_are_planned_streamed_and_opened(capsys, tmp_path, recording, model):
    out = tmp_path / "fields.zarr"
    words = ["fields", model, recording, "--out", out, "--stream"]
    code, said, err = call(capsys, *words, "--dry-run")
    assert code == 0, err
    assert "kept as slopes" in said and not out.exists()
    assert call(capsys, *words)[0] == 0
    stored = rc.open_fields(out)
    assert stored.rate.sizes["time"] > 100
    assert stored.select(time=[5]).latents().project().dims == ("time", "cell", "lag", "y", "x")
    for more, wrong in ((["--modes", out], "leave --modes out"), ([], "overwrite")):
        code, _, err = call(capsys, *words, *more)
        assert code == 2 and wrong in err
    code, _, err = call(capsys, "fields", model, recording, "--out", out, "--resume")
    assert code == 2 and "only with --stream" in err


def test_averages_of_a_recording_with_table_and_figure(capsys, tmp_path, recording):
    out, picture = tmp_path / "sta.zarr", tmp_path / "sta.png"
    words = ["sta", recording, "--out", out, "--history", 12, "--figure", picture]
    code, said, err = call(capsys, *words)
    assert code == 0, err
    assert said.startswith("| cell | spikes | peak z | p |")
    assert picture.stat().st_size > 10_000
    found = rc.open_result(out)
    assert {"sta", "p_value", "size", "significant"} <= set(found.data_vars)
    movie, cells = rc.read_stimulus(recording), rc.read_nwb(recording)
    same = rc.analyses.spike_triggered_average(movie, cells, history=12)
    np.testing.assert_allclose(found["sta"], same["sta"])
    code, _, err = call(capsys, *words)
    assert code == 2 and "overwrite" in err
    code, _, err = call(capsys, *words[:-1], tmp_path / "sta.gif", "--overwrite")
    assert code == 2 and "expected a name ending in .png" in err


def test_a_film_of_a_field(capsys, tmp_path, recording, model):
    out = tmp_path / "film.mp4"
    words = ["film", model, recording, "--out", out, "--seconds", 0.2]
    code, said, err = call(capsys, *words, "--cell", 1)
    assert code == 0, err
    assert str(out) in said and out.stat().st_size > 1000
    code, _, err = call(capsys, *words, "--overwrite", "--cell", "nobody")
    assert code == 2 and "no cell 'nobody'" in err


def test_modes_by_another_method_and_block_by_block(capsys, tmp_path, recording, model):
    parts, out = tmp_path / "parts.zarr", tmp_path / "modes.zarr"
    assert call(capsys, "contributions", model, recording, "--out", parts, "--steps", 2)[0] == 0
    words = ["modes", parts, "conv1", "--out", out]
    code, said, err = call(capsys, *words, "--count", 2, "--method", "nmf")
    assert code == 0, err
    assert "modes: 2 in use" in said and "stability:" in said
    assert rc.open_result(out).attrs["method"].startswith("NMF(modes=2")
    code, _, err = call(capsys, *words, "--method", "nmf", "--overwrite")
    assert code == 2 and "nmf needs a number of modes" in err
    code, _, err = call(capsys, *words, "--count", 2, "--stream", "--overwrite")
    assert code == 0, err
    assert rc.open_result(out).sizes["mode"] == 2
    for more, wrong in ((["--resume"], "--stream"), (["--stream", "--method", "pca"], "pursuit")):
        code, _, err = call(capsys, *words, *more)
        assert code == 2 and wrong in err


def test_contributions_say_beforehand_what_they_take_and_write_maps(
    capsys, tmp_path, recording, model
):
    out = tmp_path / "maps.zarr"
    words = ["contributions", model, recording, "--out", out, "--steps", 2, "--maps"]
    code, said, err = call(capsys, *words, "--dry-run", "--target", "each_cell")
    assert code == 0, err
    assert "movie path" in said
    assert "GB of result" in said
    assert not out.exists()
    code, _, err = call(capsys, *words, "--rule", "midpoint", "--layers", "conv1:input")
    assert code == 0, err
    tree = rc.open_result(out)
    assert tree["conv1_input"]["contribution"].dims == ("time", "sign", "channel", "y", "x")
    assert tree.attrs["rule"] == "IntegratedGradients(steps=2, quadrature='midpoint')"
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "--overwrite" in err or "overwrite" in err
    code, _, err = call(capsys, *words, "--rule", "nothing")
    assert code == 2


def test_cite_and_doctor(capsys):
    assert "melander2026" in call(capsys, "cite")[1]
    assert "torch" in json.loads(call(capsys, "doctor")[1])["packages"]
