"""Study files: defaults, round trip, and one line for every mistake."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.settings import StudySettings, make_settings, read_settings, settings_toml


def test_unknown_setting_suggests_the_right_one():
    with pytest.raises(InputError, match=r"fit\.epoch: unknown setting; did you mean 'epochs'"):
        make_settings({"fit": {"epoch": 3}})


def test_all_mistakes_are_named_at_once():
    values = {"seed": True, "fit": {"lr": float("nan")}, "modes": {"modes": 0}, "oops": 1}
    with pytest.raises(InputError) as caught:
        make_settings(values)
    message = str(caught.value)
    for part in ("seed", "fit.lr", "modes.modes", "oops: unknown setting"):
        assert part in message
    assert "\n" not in message


def test_recording_and_movie_exclude_each_other():
    with pytest.raises(InputError, match="not both"):
        make_settings({"recording": {"file": "a.nwb"}, "movie": {"seconds": 3}})


def test_written_settings_are_read_back(tmp_path):
    values = {
        "name": 'a "quoted" name',
        "seed": 7,
        "recording": {"file": str(tmp_path / "a.nwb"), "crop": {"x": [1, 5], "y": [2, 8]}},
        "fit": {"lr": 1e-3},
    }
    settings = make_settings(values)
    path = tmp_path / "study.toml"
    path.write_text(settings_toml(settings))
    assert read_settings(path) == settings


def test_paths_are_relative_to_the_study_file(tmp_path):
    path = tmp_path / "deep" / "study.toml"
    path.parent.mkdir()
    path.write_text('[recording]\nfile = "../a.nwb"\n')
    assert read_settings(path).recording.file == tmp_path / "a.nwb"


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes('\ufeffname = "x"\r\nseed = 3\r\n'.encode())
    assert read_settings(path).seed == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [("name = ", "not a TOML file"), ("seed = 1\nseed = 2", "not a TOML file")],
)
def test_broken_toml_is_one_line(tmp_path, text, words):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_settings(path)


def test_missing_study_file_says_how_to_start(tmp_path):
    with pytest.raises(InputError, match="retinacodec config"):
        read_settings(tmp_path / "none.toml")


def test_defaults_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        StudySettings().seed = 3


def test_every_decomposition_that_can_be_named_can_be_made():
    from typing import get_args

    from retinacodec.choices import DECOMPOSITIONS, decomposition
    from retinacodec.names import MethodName

    assert set(get_args(MethodName)) == set(DECOMPOSITIONS)
    for name in DECOMPOSITIONS:
        own = name in ("paper-sae", "mended-sae")
        assert hasattr(decomposition(name, None if own else 3), "fit")
    with pytest.raises(InputError, match="ica needs a number of modes"):
        decomposition("ica", None)
    with pytest.raises(InputError, match="paper-sae has ten atoms"):
        decomposition("paper-sae", 4)


def test_named_decompositions_hold_out_images_at_random_and_times_with_the_gap():
    from retinacodec.choices import decomposition
    from retinacodec.row_splits import RandomRows, TimeBlocks

    assert decomposition("pursuit", None).split == TimeBlocks()
    assert decomposition("pursuit", None, gap=90).split == TimeBlocks(gap=90)
    assert decomposition("topk-sae", 4, gap=90).split == TimeBlocks(gap=90, every=10)
    assert decomposition("topk-sae", 4, images=True).split == RandomRows(every=10)
    assert decomposition("pursuit", None, images=True).split == RandomRows()
    assert not hasattr(decomposition("pca", 4, images=True), "split")


def test_a_recording_of_another_laboratory_is_described_in_full(tmp_path):
    (tmp_path / "study.toml").write_text(
        """
        [recording]
        file = "cells.nwb"
        spatial_order = "yx"
        contrast = { grey = 127.5, span = 127.5 }
        triggers = { name = "acquisition/photodiode", every = 3, threshold = 2.5 }
        allow_external = ["films", "../more"]
        sort_spikes = true
        """
    )
    wanted = read_settings(tmp_path / "study.toml").recording
    movie, responses = wanted.movie_options(), wanted.response_options()
    assert movie["spatial_order"] == "yx" and movie["contrast"].of(np.array(255.0)) == 1.0
    assert movie["triggers"] == responses["triggers"] and movie["triggers"].every == 3
    assert movie["allow_external"] == (tmp_path / "films", (tmp_path / "../more").resolve())
    assert responses["sort_spikes"] and "crop" not in responses
    again = make_settings(tomllib.loads(settings_toml(read_settings(tmp_path / "study.toml"))))
    assert again.recording == wanted
