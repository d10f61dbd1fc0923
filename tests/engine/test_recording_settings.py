"""What a study file says about a recording becomes the arguments of the doors."""

import pytest
from pydantic import ValidationError

from retinacodec.errors import InputError
from retinacodec.nwb_generators import BinaryNoise, GaussianNoise
from retinacodec.recording_settings import RecordingSettings


def settings(**generator):
    return RecordingSettings(file="cells.nwb", generator=generator)


def test_a_generator_is_the_declaration_of_the_same_names():
    declared = settings(size=(16, 12), rng="ran1", hold=2).clock_options()["generator"]
    assert declared == BinaryNoise((16, 12), "ran1", hold=2)
    given = {"kind": "gaussian", "size": (4, 3), "rng": "PCG64", "sd": 0.2, "seed": 7}
    declared = settings(**given).clock_options()["generator"]
    assert declared == GaussianNoise((4, 3), "PCG64", sd=0.2, seed=7)
    assert RecordingSettings(file="cells.nwb").clock_options()["generator"] is None


def test_a_generator_that_means_nothing_is_refused():
    with pytest.raises(InputError, match="binary noise has no sd"):
        settings(size=(4, 3), rng="ran1", sd=0.3).clock_options()
    with pytest.raises(InputError, match="rng: expected one of ran1"):
        settings(size=(4, 3), rng="dice").clock_options()
    with pytest.raises(ValidationError):
        settings(size=(4, 3), rng="ran1", sed=5)
