"""Probes: levels, places, velocities and switches are those that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from retinacodec.analyses import image_motion, stimulus_events
from retinacodec.errors import InputError
from retinacodec.stimuli import centre_surround

SIZE = (32, 32)


def test_levels_are_those_of_disc_and_surround():
    probe = centre_surround(
        centre=(0.1, -0.4),
        surround=(-0.2, 0.3),
        position_um=(100, -150),
        surround_um=400,
        size=SIZE,
    )
    y, x = np.meshgrid(probe["y"], probe["x"], indexing="ij")
    far = np.hypot(y - 100, x + 150)
    for frame, inner, outer in ((29, 0.1, -0.2), (30, -0.4, 0.3)):
        shown = probe["contrast"].values[frame]
        np.testing.assert_allclose(shown[far < 60], inner, atol=1e-6)
        np.testing.assert_allclose(shown[(far > 140) & (far < 360)], outer, atol=1e-6)
        np.testing.assert_allclose(shown[far > 440], 0, atol=1e-6)
        assert probe["centre_level"].values[frame] == inner
    assert shown.sum() == pytest.approx(
        (np.pi * 100**2 * -0.4 + np.pi * (400**2 - 100**2) * 0.3) / 50**2, rel=1e-3
    )


def test_textures_move_as_they_say():
    probe = centre_surround(
        centre_speed=900, background_speed=450, direction=90, texture=0.3, radius_um=400, size=SIZE
    )
    y, x = np.meshgrid(probe["y"], probe["x"], indexing="ij")
    far = np.hypot(y, x)
    for name, weight in (("centre", far < 250), ("background", far > 550)):
        seen = image_motion(probe, weight=weight)["velocity_y"].values
        np.testing.assert_allclose(seen[32:], probe[f"{name}_velocity_y"].values[32:], rtol=0.15)
        assert not seen[:30].any()


def test_a_switch_is_one():
    events = stimulus_events(centre_surround(texture=0.4, switch=True, size=SIZE))
    assert np.flatnonzero(events.sel(event="image switch")).tolist() == [30]


def test_what_cannot_be_used_is_named():
    with pytest.raises(InputError, match="onset"):
        centre_surround(onset=50)
    with pytest.raises(InputError, match="centre"):
        centre_surround(centre=(0, 2.0))
