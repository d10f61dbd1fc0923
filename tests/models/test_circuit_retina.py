import numpy as np
import pytest
import torch

from retinacodec.circuit import Circuit, check_circuit
from retinacodec.errors import InputError
from retinacodec.models.circuit_retina import CircuitRetina
from retinacodec.schema import check_recording, make_stimulus


def movie(contrast, name="test"):
    return make_stimulus(contrast, frame_rate=60, pixel_um=50, name=name)


def noise(frames=60, seed=0, size=32):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 0.5, (frames, size // 4, size // 4))
    return movie(coarse.repeat(4, 1).repeat(4, 2))


def spot(contrast, radius_um, frames=60, start=30, centre=(0.0, 0.0)):
    at = (np.arange(32) - 15.5) * 50
    inside = np.hypot(at[:, None] - centre[0], at - centre[1]) <= radius_um
    out = np.zeros((frames, 32, 32))
    out[start:] = contrast * inside
    return movie(out)


def jitter(together, centre, seed=0, frames=300, radius=4):
    """Square gratings: an object patch and its background, moving together or apart."""
    rng = np.random.default_rng(seed)
    paths = np.cumsum(rng.normal(size=(2, frames)) * 0.5, axis=1)
    at = np.arange(32)
    ground, thing = np.sign(np.sin(2 * np.pi * (at - paths[..., None]) / 6 + 1e-3))
    inside = np.hypot(*np.meshgrid(at - centre[0], at - centre[1], indexing="ij")) <= radius
    shown = ground if together else thing
    return movie(0.5 * np.where(inside, shown[:, None], ground[:, None]))


@pytest.fixture(scope="module")
def retina():
    return CircuitRetina()


@torch.no_grad()
def drive(retina, stimulus):
    x = Circuit(retina, ()).windows(torch.from_numpy(stimulus.contrast.values)).contiguous()
    return retina.ganglion(retina.received(x))


def cell(retina, name):
    return next(i for i, full in enumerate(retina.cell_names) if full.startswith(f"{name} "))


def test_it_passes_the_contract_of_a_circuit(retina):
    check_circuit(Circuit(retina, retina.layers), retina.size)


def test_a_flash_draws_the_time_course_in_the_bipolar_potential(retina):
    contrast = np.zeros((50, 32, 32))
    contrast[25] = 1.0
    traces = retina.interneuron_traces(movie(contrast), every=32)
    at = 25 - 23 + np.arange(18)
    for i, kind in enumerate(retina.bipolars):
        expected = kind.kernel(retina.history - retina.lags + 1, 60.0)[:18] * (1 - kind.surround)
        np.testing.assert_allclose(traces.potential.values[at, i, 0, 0], expected, atol=2e-3)


def test_a_spot_that_fills_the_centre_beats_full_field_by_the_surround(retina):
    small, full = (
        retina.interneuron_traces(spot(0.5, r, centre=(25.0, 25.0)), every=32).potential
        for r in (110.0, 3000.0)
    )
    disc = (1 - np.exp(-0.5 * (110 / s) ** 2) for s in (40.0, 140.0))
    expected = (1 - 0.8) / (next(disc) - 0.8 * next(disc))
    for name in ("ON sustained", "ON transient"):
        ratio = full.sel(type=name).max() / small.sel(type=name).max()
        assert float(ratio) == pytest.approx(expected, rel=0.1)


def test_bipolar_rows_of_a_later_window_are_the_rows_of_an_earlier_one(retina):
    x = Circuit(retina, ()).windows(torch.from_numpy(noise(40).contrast.values)).contiguous()
    release = retina.bipolar(x).unflatten(1, (retina.lags, len(retina.bipolars)))
    for lag in range(retina.lags):
        later, now = release[lag:, lag], release[: len(release) - lag, 0]
        torch.testing.assert_close(later, now, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "sign"), [("ON", 1), ("OFF transient", -1), ("OFF sustained", -1)]
)
def test_cells_fire_at_their_own_step_and_are_silent_at_the_other(retina, name, sign):
    which = cell(retina, name)
    centre = retina.positions_um[which]
    peaks = [
        float(retina.simulate(spot(c * sign, 150.0, centre=centre), seed=0).rate[30:, which].max())
        for c in (0.6, -0.6)
    ]
    assert peaks[0] > 80
    assert peaks[1] < 12


def test_on_off_cell_fires_at_both_steps_through_the_right_pathway(retina):
    which = cell(retina, "ON-OFF")
    for contrast, pathway in ((0.6, 0), (-0.6, 1)):
        stimulus = spot(contrast, 120.0, centre=retina.positions_um[which])
        truth = retina.pathway_contributions(stimulus).isel(cell=which)
        assert float(truth.rate.max()) > 50
        peak = int(truth.rate.argmax())
        assert bool(truth.event[peak])
        assert int(truth.dominant[peak]) == pathway
        assert bool(truth.active[peak, pathway])
        assert not bool(truth.active[peak, 1 - pathway])


def test_object_motion_cell_needs_amacrine_cells():
    ratios = []
    for pathways in (("ON", "OFF", "amacrine"), ("ON", "OFF")):
        retina = CircuitRetina(pathways=pathways)
        which = cell(retina, "object motion")
        centre = 15.5 + retina.positions_um[which] / 50
        same, apart = (
            float(retina.simulate(jitter(t, centre), seed=0).rate[23:, which].mean())
            for t in (True, False)
        )
        ratios.append(same / apart)
    assert ratios[0] < 0.4
    assert ratios[1] > 0.85


def test_firing_on_a_natural_movie_is_sparse_transient_and_of_both_signs(retina):
    from retinacodec.stimuli import natural_movie

    truth = retina.pathway_contributions(natural_movie(seconds=40, size=(32, 32), seed=1))
    rate = truth.rate.values
    assert np.all((rate.mean(0) > 2) & (rate.mean(0) < 20))
    assert np.all(rate.max(0) > 50)
    assert np.all((rate > 0.25 * rate.max(0)).mean(0) < 0.15)
    both = [cell(retina, name) for name in ("ON-OFF", "object motion")]
    events = truth.dominant.values[:, both]
    assert all((events == pathway).sum() >= 8 for pathway in (0, 1))
    shut = truth.pathway_contribution.sel(pathway="amacrine").values
    assert np.all(shut.min(0) < -0.02)


def test_linear_retina_obeys_superposition_and_the_rectified_one_does_not():
    a, b = noise(30, 1), noise(30, 2)
    both = movie(a.contrast.values + b.contrast.values)
    errors = []
    for linear in (True, False):
        retina = CircuitRetina(linear=linear)
        parts, whole = drive(retina, a) + drive(retina, b), drive(retina, both)
        base = drive(retina, movie(np.zeros((30, 32, 32))))
        errors.append(float((whole + base - parts).norm() / (whole - base).norm()))
    assert errors[0] < 1e-5
    assert errors[1] > 0.1


def test_linear_retina_has_one_receptive_field():
    retina = CircuitRetina(linear=True).double()
    fields = []
    for seed in (0, 1):
        x = torch.from_numpy(noise(24, seed).contrast.values)[None].double().requires_grad_()
        fields.append(torch.autograd.grad(retina.ganglion(retina.received(x))[0, 2], x)[0])
    torch.testing.assert_close(*fields, atol=1e-12, rtol=1e-9)


def test_single_pathway_leaves_nothing_else(retina):
    alone = CircuitRetina(pathways=("OFF",))
    truth = alone.pathway_contributions(noise()).pathway_contribution
    assert np.all(truth.sel(pathway=["ON", "amacrine"]).values == 0)
    whole = retina.pathway_contributions(noise()).pathway_contribution
    np.testing.assert_allclose(truth.sel(pathway="OFF"), whole.sel(pathway="OFF"), atol=1e-6)


def test_contributions_sum_to_the_drive(retina):
    truth = retina.pathway_contributions(noise())
    gained = truth.drive - truth.baseline
    np.testing.assert_allclose(truth.contribution.sum("type"), gained, atol=2e-6)
    np.testing.assert_allclose(truth.pathway_contribution.sum("pathway"), gained, atol=2e-6)
    assert float(np.abs(gained).max()) > 0.05


def test_one_chord_of_the_engine_is_the_closed_form_times_the_slope_of_the_rate():
    from retinacodec.contribute import contributions
    from retinacodec.rules import Secant
    from retinacodec.targets import EachCell

    retina, stimulus = CircuitRetina(cells=3), noise(40)
    circuit = Circuit(retina, retina.layers)
    parts = contributions(circuit, stimulus, EachCell(), rule=Secant(1), progress=False)
    truth = retina.pathway_contributions(stimulus)
    resting = retina.rate(torch.from_numpy(truth.baseline.values)).numpy()
    slope = (truth.rate - resting) / (truth.drive - truth.baseline)
    net = parts["interneurons"]["contribution"].sum("sign").values
    np.testing.assert_allclose(net, (truth.contribution * slope).values, atol=2e-3)
    for layer in retina.layers:
        assert float(np.abs(parts[layer]["residual"]).max()) < 1e-3
    assert float(np.abs(truth.rate - resting).max()) > 50


def test_amacrine_contributions_are_never_positive_above_grey_release(retina):
    truth = retina.pathway_contributions(noise()).contribution
    narrow = truth.sel(type=["amacrine OFF", "amacrine wide"])
    assert float(narrow.max()) <= 1e-7
    assert float(narrow.min()) < -0.01


def test_spikes_are_poisson_with_the_true_rate(retina):
    recording = retina.simulate(noise(120), repeats=400, seed=3)
    check_recording(recording)
    counts = recording.repeats.values[:, 23:]
    expected = recording.rate.values[23:] / 60
    busy = expected > 0.2
    assert busy.sum() > 50
    z = (counts.mean(0) - expected)[busy] / np.sqrt(expected[busy] / 400)
    assert abs(z.mean()) < 0.3
    assert z.std() == pytest.approx(1.0, abs=0.15)
    assert np.mean(counts.var(0)[busy] / expected[busy]) == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(recording.spike_count[23:], counts.mean(0), rtol=1e-6)


def test_same_seed_same_spikes_and_unseen_frames_are_missing(retina):
    first, again, other = (retina.simulate(noise(), seed=s) for s in (1, 1, 2))
    assert first.identical(again)
    assert not np.array_equal(first.spike_count[23:], other.spike_count[23:])
    assert np.isnan(first.spike_count[:23]).all()
    assert not np.isnan(first.spike_count[23:]).any()


def test_receptive_field_has_the_sign_and_place_of_its_cell(retina):
    which = cell(retina, "OFF sustained")
    field = torch.zeros(1, 24, 32, 32)
    at = np.round(15.5 + retina.positions_um[which] / 50).astype(int)
    field[..., at[0] - 2 : at[0] + 3, at[1] - 2 : at[1] + 3] = -0.5
    field.requires_grad_()
    gradient = torch.autograd.grad(retina(field)[0, which], field)[0][0]
    peak = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
    assert gradient[peak] < 0
    assert np.abs(np.array(peak[1:]) - at).max() <= 1
    assert (23 - peak[0] + 0.5) * 1000 / 60 == pytest.approx(87, abs=9)


def test_config_rebuilds_the_same_retina():
    made = CircuitRetina(cells=3, pathways=("ON", "amacrine"), linear=True, spacing_um=150.0)
    again = CircuitRetina.from_config(made.config())
    x = torch.randn(2, 24, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made(x), again(x))
    assert again.config() == made.config()


def test_every_wrong_argument_is_named_at_once():
    with pytest.raises(InputError, match=r"cells: .*history: .*pathways: ") as error:
        CircuitRetina(cells=0, history=5, pathways=("ON", "horizontal"))
    assert "horizontal" in str(error.value)


def test_a_movie_of_another_rate_or_size_is_refused(retina):
    wrong = make_stimulus(np.zeros((40, 32, 32)), frame_rate=30, pixel_um=20, name="wrong")
    with pytest.raises(InputError, match=r"frame_rate: .*pixel_um: "):
        retina.simulate(wrong, seed=0)
    with pytest.raises(InputError, match="32"):
        retina.simulate(movie(np.zeros((40, 30, 32))), seed=0)
