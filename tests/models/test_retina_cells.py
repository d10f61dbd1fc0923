import numpy as np
import pytest

from retinacodec.models.retina_cells import (
    AMACRINES,
    BIPOLARS,
    GANGLIONS,
    BipolarType,
    gaussian,
    mosaic,
)

FINE = np.arange(0, 400, 0.25)


@pytest.mark.parametrize(
    ("name", "peak_ms"),
    [("ON transient", 61), ("ON sustained", 92), ("OFF transient", 54), ("OFF sustained", 87)],
)
def test_time_to_peak_of_the_literature_range(name, peak_ms):
    kind = next(kind for kind in BIPOLARS if kind.name == name)
    assert abs(FINE[kind.time_course(FINE).argmax()] - peak_ms) < 1.0


def test_transient_types_rebound_and_sustained_types_hardly_do():
    ratios = {k.name: k.time_course(FINE).min() / k.time_course(FINE).max() for k in BIPOLARS}
    assert all(-0.8 < ratios[f"{sign} transient"] < -0.3 for sign in ("ON", "OFF"))
    assert all(-0.12 < ratios[f"{sign} sustained"] < 0 for sign in ("ON", "OFF"))


def test_a_type_without_rebound_peaks_at_tau():
    kind = BipolarType("plain", "ON", 80.0, 150.0, 0.0)
    assert abs(FINE[kind.time_course(FINE).argmax()] - 80) < 0.3


def test_kernel_is_newest_first_signed_and_its_own_lobe_sums_to_one():
    for kind in BIPOLARS:
        kernel = kind.kernel(18, 60.0)
        sign = 1 if kind.pathway == "ON" else -1
        own = (sign * kernel).clip(min=0)
        assert own.sum() == pytest.approx(1.0)
        frame_ms = 1000 / 60
        at = (np.argmax(sign * kernel) + 0.5) * frame_ms
        assert abs(at - FINE[kind.time_course(FINE).argmax()]) <= frame_ms / 2 + 1


def test_the_same_kernel_at_another_frame_rate():
    slow, fast = BIPOLARS[1].kernel(18, 60.0), BIPOLARS[1].kernel(36, 120.0)
    np.testing.assert_allclose(fast.reshape(18, 2).sum(1), slow, atol=0.004)


def test_gaussian_has_the_stated_width_and_volume():
    weights = gaussian(120.0, 50.0)
    at = (np.arange(len(weights)) - len(weights) // 2) * 50.0
    assert weights.sum() == pytest.approx(1.0)
    spread = np.sqrt((weights * at**2).sum() - 50.0**2 / 12)
    assert spread == pytest.approx(120.0, rel=0.03)


def test_mosaic_is_hexagonal_around_the_centre():
    places = mosaic(7, 200.0)
    np.testing.assert_allclose(places[0], 0)
    np.testing.assert_allclose(np.hypot(*places[1:].T), 200.0)
    gaps = np.linalg.norm(places[:, None] - places, axis=-1)
    assert gaps[~np.eye(7, dtype=bool)].min() == pytest.approx(200.0)


def test_all_wiring_names_a_type():
    known = {kind.name for kind in (*BIPOLARS, *AMACRINES)}
    wired = {n for k in AMACRINES for n, _ in k.inputs}
    wired |= {n for k in GANGLIONS for n, _ in (*k.excitation, *k.inhibition)}
    assert wired == known
