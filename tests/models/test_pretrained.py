import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import retinacodec.models as rc_models
from retinacodec.circuit import Circuit, check_circuit, predict
from retinacodec.errors import InputError
from retinacodec.metrics import pearson
from retinacodec.models import CircuitRetina, DeepRetina, ToyCircuit, available, pretrained
from retinacodec.models.pretrained import load_model, save_model
from retinacodec.stimuli import natural_movie

SHIPPED = Path(rc_models.__file__).parent


def small(seed=0):
    return DeepRetina(
        2, size=(10, 10), history=4, channels=(3, 2), kernels=(3, 3), seed=seed
    ).eval()


@pytest.fixture
def saved(tmp_path):
    return save_model(small(5), tmp_path / "model", about={"score": 0.5})


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (small(3), (2, 4, 10, 10)),
        (ToyCircuit(1), (2, 3, 3, 3)),
        (CircuitRetina(cells=2, linear=True), (2, 24, 32, 32)),
    ],
)
def test_a_loaded_model_gives_the_same_numbers(model, shape, tmp_path):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for path in (save_model(model, tmp_path / "m.safetensors"), tmp_path / "m.json"):
        again = load_model(path)
        assert torch.equal(model(x), again(x))
        assert type(again) is type(model)
        assert not again.training


def test_what_is_known_about_a_model_travels_with_it(saved):
    assert load_model(saved).about == {"score": 0.5}


def test_nothing_is_overwritten_unasked(saved):
    before = saved.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        save_model(small(6), saved)
    assert saved.read_bytes() == before
    save_model(small(6), saved, overwrite=True)
    assert load_model(saved).config()["seed"] == 6


def rewrite(saved, change):
    """Change the tensors, keeping the record's hash true."""
    state = change(load_file(saved))
    save_file(state, saved)
    card = saved.with_suffix(".json")
    record = json.loads(card.read_text())
    record["sha256"] = hashlib.sha256(saved.read_bytes()).hexdigest()
    card.write_text(json.dumps(record))


def test_every_misfit_is_named_in_one_message(saved):
    def change(state):
        state["conv9.weight"] = state.pop("conv2.bias")
        state["conv1.bias"] = torch.zeros(7)
        state["conv1.weight"][0, 0, 0, 0] = float("nan")
        return state

    rewrite(saved, change)
    with pytest.raises(InputError) as error:
        load_model(saved)
    for part in ("'conv2.bias' is missing", "'conv9.weight' is not in", "(7,), expected (3,)",
                 "'conv1.weight' is NaN"):  # fmt: skip
        assert part in str(error.value)


def test_nan_weights_are_not_saved(tmp_path):
    model = small()
    with torch.no_grad():
        model.conv1.weight[0] = float("nan")
    with pytest.raises(InputError, match=r"'conv1.weight' is NaN"):
        save_model(model, tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []


def test_pickles_are_refused_and_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("boom").touch, ())

    for name in ("model.pt", "model.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(InputError, match="pickled weights can run code"):
            load_model(tmp_path / name)
    disguised = save_model(small(), tmp_path / "model")
    disguised.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_model(disguised)
    assert not (tmp_path / "boom").exists()


def test_a_cut_or_swapped_file_is_noticed(saved, tmp_path):
    whole = saved.read_bytes()
    saved.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_model(saved)
    other = save_model(small(9), tmp_path / "other")
    saved.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match="copy both again"):
        load_model(saved)
    saved.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "Popen"}, "'Popen' is not one of"),
        ({"config": {"cells": 2, "colour": 1}}, "builds no DeepRetina"),
        ({"format": 99}, "newer version"),
        ({"sha256": None}, "sha256: expected str"),
    ],
)
def test_a_bad_record_is_explained(saved, change, message):
    card = saved.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load_model(saved)


def test_a_missing_record_and_a_foreign_module_are_explained(tmp_path, saved):
    saved.with_suffix(".json").write_text("{")
    with pytest.raises(InputError, match="not a JSON record"):
        load_model(saved)
    with pytest.raises(InputError, match="no such file"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match="got Linear"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "linear")


def test_demo_predicts_a_movie_it_has_never_seen():
    model, retina = pretrained(), CircuitRetina()
    movie = natural_movie(seconds=20, size=(32, 32), seed=77)
    rate = predict(Circuit(model, layers=[]), movie).values
    true = retina.simulate(movie, seed=0).rate.values[23:]
    reached = pearson(rate, true)
    assert reached.mean() > 0.9
    assert reached.min() > 0.75
    assert abs(rate.mean() / true.mean() - 1) < 0.15
    assert model.cell_names == retina.cell_names
    assert model.about["scores"]["mean_cc_norm"] >= 0.9


def test_demo_is_small_and_can_be_dissected():
    files = [SHIPPED / f"demo.{suffix}" for suffix in ("safetensors", "json")]
    assert sum(file.stat().st_size for file in files) < 2e6
    model = pretrained("demo")
    check_circuit(Circuit(model, layers=model.layers), model.size)


def test_names_of_shipped_models():
    assert "demo" in available()
    with pytest.raises(InputError, match="did you mean 'demo'"):
        pretrained("dem")
