"""A whole study on a small recording: every step, resumed, refused, and left as found."""

from __future__ import annotations

import json

import numpy as np
import pytest

import retinacodec as rc
from retinacodec.settings import make_settings
from retinacodec.study import demo_settings, open_study, run_folder, run_study


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings of a study small enough for a test."""
    path = tmp_path_factory.mktemp("data") / "small.nwb"
    movie = rc.stimuli.white_noise(seconds=60, size=(18, 18), seed=0)
    retina = rc.models.CircuitRetina(size=(18, 18), cells=4)
    rc.write_nwb(path, movie, retina.simulate(movie, seed=0))
    return make_settings(
        {
            "name": "small",
            "recording": {"file": str(path)},
            "split": {"blocks": 20},
            "model": {"channels": [4, 4], "kernels": [7, 5], "history": 18},
            "fit": {"epochs": 2},
            "baseline": {"epochs": 2},
            "contributions": {"frames": 900, "steps": 3},
            "modes": {"modes": 3},
            "fields": {"frames": 60, "null_shifts": 20},
        }
    )


@pytest.fixture(scope="module")
def study(settings, tmp_path_factory):
    """The study, run once."""
    return run_study(settings, tmp_path_factory.mktemp("run") / "small")


def test_every_result_figure_and_page_is_there(study):
    found = {path.name for path in study.folder.iterdir()}
    assert {
        "config.toml",
        "provenance.json",
        "log.txt",
        "results",
        "figures",
        "report.html",
    } <= found
    figures = {path.name for path in (study.folder / "figures").iterdir()}
    names = (
        "retina",
        "alignment",
        "comparison",
        "traces",
        "sta",
        "agreement",
        "training",
        "completeness",
    )
    for name in (*names, "alignment", "similarity", "dynamics", "sources"):
        assert {f"{name}.pdf", f"{name}.png"} <= figures
        assert [item for item in figures if item.startswith(f"{name}_") and item.endswith(".csv")]
    page = (study.folder / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<img" in page


def test_the_report_says_how_the_recording_was_read_and_that_cells_follow_it(study):
    check = study.result("alignment")
    count = int(check["responds"].sum())  # an ON-OFF cell has no average stimulus
    assert count >= 2 and not check["foresees"].values.any()
    page = (study.folder / "report.html").read_text()
    assert f"{count} of 4 cells follow the movie" in page and "as this package wrote it" in page
    facts = study.read_json("results/recording.json")
    assert facts["file"] == "small.nwb" and "4 (" in facts["contents"]["cells"]


def test_secant_is_complete_and_cuts_agree(study):
    found = study.result("completeness").sel(rule="secant, 10 steps")
    assert float(found["unexplained"].median("frame").max()) < 1e-4
    assert float(found["disagreement"].max()) < 1e-4


def test_provenance_holds_seed_versions_and_times(study):
    record = json.loads((study.folder / "provenance.json").read_text())
    assert record["seed"] == 0
    assert "torch" in record["packages"]
    assert set(study.seconds()) >= {"fit", "contributions", "modes", "fields"}


def test_resumed_study_runs_only_what_is_missing(study, settings):
    before = (study.folder / "done" / "fit").stat().st_mtime_ns
    rates = study.result("rates")["CNN"].values.copy()
    (study.folder / "done" / "report").unlink()
    (study.folder / "report.html").unlink()
    again = run_study(settings, study.folder, resume=True)
    assert (again.folder / "report.html").exists()
    assert (again.folder / "done" / "fit").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.result("rates")["CNN"].values, rates)


def test_folder_of_another_run_is_refused(study, settings):
    with pytest.raises(rc.InputError, match="a run is there already"):
        run_study(settings, study.folder)
    other = settings.model_copy(update={"seed": 9})
    with pytest.raises(rc.InputError, match="other settings"):
        run_study(other, study.folder, resume=True)


def test_figure_and_report_are_drawn_again_from_the_folder(study):
    again = open_study(study.folder)
    png = study.folder / "figures" / "training.png"
    before = png.read_bytes()
    png.unlink()
    assert again.draw("training").png.read_bytes() == before
    assert again.write_report().exists()
    with pytest.raises(rc.InputError, match="there are retina, alignment"):
        again.draw("nothing")


def test_unusable_input_leaves_the_folder_as_it_was(study, settings, tmp_path):
    bad = settings.model_copy(
        update={"model": settings.model.model_copy(update={"kernels": (19, 9)})}
    )
    with pytest.raises(rc.InputError):
        run_study(bad, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    report = (study.folder / "report.html").read_bytes()
    with pytest.raises(rc.InputError):
        run_study(bad, study.folder, overwrite=True)
    assert (study.folder / "report.html").read_bytes() == report
    assert not [path for path in study.folder.parent.iterdir() if path.name.startswith(".")]


def test_folder_that_is_no_run_is_never_touched(settings, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(rc.InputError, match="not a run"):
        run_study(settings, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_run_folder_has_the_name_of_the_study(settings):
    assert run_folder(settings).name.endswith("_small")


@pytest.mark.slow
def test_demo_runs_on_what_the_package_ships(tmp_path):
    settings = demo_settings(seconds=10)
    fields = settings.fields.model_copy(update={"frames": 60, "null_shifts": 20})
    demo = run_study(settings.model_copy(update={"fields": fields}), tmp_path / "demo")
    assert float(demo.result("comparison")["mean_cc_norm"].sel(model="CNN")) > 0.8
    assert (demo.folder / "report.html").exists()
