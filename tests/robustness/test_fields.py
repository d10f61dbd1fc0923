"""Fields asked for with frames out of order, too long a history, or a movie that never changes."""

import numpy as np
import pytest

from retinacodec.analyses import subunits
from retinacodec.analyses.field_regression import TimeFolds
from retinacodec.errors import InputError
from retinacodec.schema import make_recording, make_stimulus


def _pair(frames=600):
    contrast = np.random.default_rng(0).normal(size=(frames, 4, 4))
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")
    counts = np.random.default_rng(1).poisson(1.0, (frames, 1)).astype(float)
    return movie, make_recording(counts, time=movie["time"], frame_rate=60, cells=["a"])


def test_subunits_say_in_words_what_they_cannot_use():
    movie, recording = _pair()
    options = {"cell": "a", "window": 3, "largest": 2, "nulls": 19, "progress": False}
    rates = (60 * recording["spike_count"]).rename("rate").to_dataset()
    with pytest.raises(InputError, match="spike_count"):
        subunits(movie, rates, history=4, **options)
    with pytest.raises(InputError, match="fewer folds="):
        subunits(movie, recording, history=200, **options)
    with pytest.raises(InputError, match="does not change"):
        subunits(movie.assign(contrast=0 * movie["contrast"]), recording, history=4, **options)


def test_folds_of_frames_out_of_order_are_refused():
    with pytest.raises(InputError, match="frames must rise"):
        TimeFolds.of(np.random.default_rng(0).permutation(np.arange(0, 2000, 5)), 8)
