from __future__ import annotations

import numpy as np
import pytest

from retinacodec.stimuli import Jitter, Still, Straight


def test_jitter_takes_steps_of_its_length():
    free = Jitter(7.0).path(5000, 60, 3)
    step = np.diff(free, axis=0)
    assert np.hypot(*step.T) == pytest.approx(7.0)
    assert abs(step.mean()) < 4 * 7 / np.sqrt(2 * 5000)
    line = np.diff(Jitter(5.0, every=3, direction=90).path(3001, 60, 3)[:, 1])
    assert set(np.round(line, 9)) == {-5.0, 0.0, 5.0}
    assert np.flatnonzero(line)[:3].tolist() == [0, 3, 6]


def test_straight_motion_waits_for_its_onset():
    path = Straight(300, 120, onset_s=0.25).path(61, 60, 0)
    assert np.all(path[:16] == 0)
    gone = 300 * 0.75
    assert path[60] == pytest.approx((-gone / 2, gone * np.sqrt(0.75)))


@pytest.mark.parametrize("motion", [Still(), Straight(), Jitter(), Jitter(every=3)], ids=repr)
def test_motions_start_at_the_origin_and_their_first_frames_do_not_depend_on_the_rest(motion):
    short, long = motion.path(50, 60, 4), motion.path(400, 60, 4)
    assert np.array_equal(short, long[:50])
    assert np.all(long[0] == 0)
