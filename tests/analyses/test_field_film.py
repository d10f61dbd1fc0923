"""The film of a field: what it shows against the fields themselves, and the file it writes."""

import av
import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import draw_field_scene, field_film, field_scene
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.gradients import latent_fields
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus


@pytest.fixture(scope="module")
def movie():
    pixels = np.random.default_rng(0).normal(size=(80, 14, 13)).astype(np.float32)
    pixels[50:60] *= 6
    return make_stimulus(pixels, frame_rate=20, pixel_um=50, name="noise")


@pytest.fixture(scope="module")
def circuit():
    options = {"size": (14, 13), "history": 6, "channels": (4, 3), "kernels": (5, 3)}
    return Circuit(DeepRetina(3, seed=1, **options).eval(), [])


def _modes(movie, circuit, count=14):
    values = np.random.default_rng(1).exponential(size=(75, count)) + np.arange(count) / 2
    return xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), np.ones((count, 2, 4))),
            "loading": (("time", "mode"), values, {"units": "1"}),
        },
        coords={"time": movie["time"][circuit.first_frame :], "sign": ["negative", "positive"]},
        attrs={"kind": "modes", "scale": 1.0},
    )


def test_a_scene_holds_the_fields_of_its_frames(movie, circuit):
    scene = field_scene(circuit, movie, cell=1, start=1.0, seconds=0.5, window=6)
    frames = np.arange(20, 30)
    fields = latent_fields(circuit, movie, cells=[1], frames=frames, progress=False)
    forms = fields.separable().isel(cell=0)
    np.testing.assert_allclose(scene.table["spatial"], forms["spatial"])
    np.testing.assert_allclose(scene.table["rate"], fields.rate[:, 0])
    np.testing.assert_array_equal(scene.table["stimulus"], movie["contrast"][frames])
    assert scene.table["spatial"][0][scene.box].shape == (6, 6)
    energy = (forms["spatial"] ** 2).mean("time").values
    row, column = np.unravel_index(energy.argmax(), energy.shape)
    rows, columns = (range(14)[scene.box[0]], range(13)[scene.box[1]])
    assert row in rows and column in columns


def test_the_stretch_is_where_the_rate_changes(movie, circuit):
    scene = field_scene(circuit, movie, cell=0, seconds=0.5)
    rate = predict(circuit, movie)[:, 0]
    changes = np.abs(np.diff(rate, prepend=rate[:1]))
    best = max(range(66), key=lambda first: changes[first : first + 10].sum())
    np.testing.assert_allclose(scene.table["time"], rate["time"][best : best + 10])


def test_of_many_modes_the_strongest_are_shown(movie, circuit):
    modes = _modes(movie, circuit)
    scene = field_scene(circuit, movie, seconds=0.5, modes=modes)
    assert scene.table["loading"]["mode"].values.tolist() == list(range(2, 14))
    np.testing.assert_allclose(scene.table["loading"].max("time"), 1)


def test_a_film_has_a_picture_for_every_frame(movie, circuit, tmp_path):
    scene = field_scene(circuit, movie, seconds=0.4, modes=_modes(movie, circuit))
    path = field_film(scene, tmp_path / "film.mp4", slower=2, progress=False)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [one.to_ndarray(format="gray") for one in container.decode(stream)]
        assert float(stream.average_rate) == 10
    assert len(pictures) == 8 and pictures[0].std() > 10
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 1
    figure = draw_field_scene(scene, 3)
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel() == "rate (Hz)"]


def test_refusals_are_in_words(movie, circuit, tmp_path):
    with pytest.raises(InputError, match="no cell 'x'; there are 0, 1, 2"):
        field_scene(circuit, movie, cell="x")
    with pytest.raises(InputError, match="the movie has 75"):
        field_scene(circuit, movie, seconds=10)
    with pytest.raises(InputError, match="do not lie between"):
        field_scene(circuit, movie, start=3.9, seconds=1)
    scene = field_scene(circuit, movie, seconds=0.4)
    with pytest.raises(InputError, match="slower"):
        field_film(scene, tmp_path / "film.mp4", slower=0)
    with pytest.raises(InputError, match="expected 0 to 7"):
        draw_field_scene(scene, 8)
