"""Images from folders, tables and arrays; what a classifier says of them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from statsmodels.stats.proportion import proportion_confint
from torch import nn

from retinacodec.classification import classify, wilson
from retinacodec.classifiers import classifier
from retinacodec.errors import InputError
from retinacodec.image_files import image_folder, open_images
from retinacodec.preprocessing import Preprocess

PLAIN = Preprocess(None)


class Levels(nn.Module):
    """Says which of four grey levels an image has; class k is brightness k / 3."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 3)

    def forward(self, images):
        level = self.conv(images).mean((1, 2, 3))
        return self.scores(level[:, None])

    @staticmethod
    def scores(level):
        """The nearest level first; of two as near the darker."""
        levels = torch.arange(4)
        return -10 * (level - levels / 3) ** 2 - 0.01 * levels


def picture(level, size=(6, 6)):
    return np.full((*size, 3), round(85 * level), dtype=np.uint8)


@pytest.fixture
def circuit():
    return classifier(Levels(), ["conv"], preprocess=PLAIN, labels=["k", "d", "l", "w"])


@pytest.fixture
def folder(tmp_path):
    """Classes 1 to 10 by folder; the picture of a class k has level k % 4."""
    for number in range(1, 11):
        home = tmp_path / f"class{number}"
        home.mkdir()
        for copy in range(2):
            Image.fromarray(picture(number % 4)).save(home / f"{copy}.png")
    return tmp_path


def test_folders_are_classes_in_the_order_of_their_numbers(folder):
    source = open_images(folder)
    assert source.classes[:3] == ("class1", "class2", "class3") and source.classes[-1] == "class10"
    np.testing.assert_array_equal(source.labels, np.repeat(np.arange(10), 2))
    (only,) = source.take([7]).batches(PLAIN)
    np.testing.assert_allclose(only.images, (4 % 4) / 3, atol=1e-6)
    assert only.names[0].replace("\\", "/") == "class4/1.png"


def test_batches_hold_the_same_images_for_any_batch(folder):
    source = open_images(folder)
    whole = np.concatenate([part.images for part in source.batches(PLAIN, batch=20)])
    sizes = [len(part.images) for part in source.batches(PLAIN, batch=3)]
    assert sizes == [3] * 6 + [2]
    parts = np.concatenate([part.images for part in source.batches(PLAIN, batch=3)])
    np.testing.assert_array_equal(whole, parts)
    one, again, other = (source.subset(8, seed=seed) for seed in (0, 0, 1))
    assert list(one.names) == list(again.names) != list(other.names)
    with pytest.raises(InputError, match="1 to 20"):
        source.subset(21)


def test_accuracy_and_its_intervals(circuit, tmp_path):
    truth = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, -1])
    seen = np.array([0, 0, 1, 2, 2, 2, 3, 3, 0, 1])
    pixels = np.stack([picture(one) for one in seen])
    np.savez(tmp_path / "set.npz", images=pixels, labels=truth, classes=list("kdlw"))
    for batch in (1, 4, 32):
        found = classify(circuit, tmp_path / "set.npz", batch=batch, top=2, progress=False)
        np.testing.assert_array_equal(found["predicted"].sel(rank=1), seen)
        assert float(found["accuracy"]) == pytest.approx(7 / 9)
        low, high = proportion_confint(7, 9, method="wilson")
        assert float(found["accuracy_low"]) == pytest.approx(low)
        assert float(found["accuracy_high"]) == pytest.approx(high)
        # the second guess at an image of level 2 is 1, of level 0 it is not 3
        assert found["correct_top"].values[:8].all()
        assert not found["correct_top"].values[8]
    np.testing.assert_allclose(found["class_accuracy"], [1, 0.5, 1, 2 / 3])
    np.testing.assert_array_equal(found["images"], [2, 2, 2, 3])
    assert found["prediction"].sel(rank=1).values[3] == "l"
    logits = Levels.scores(torch.tensor(1 / 3))
    share = float(found["probability"].sel(image=2, rank=1))
    assert share == pytest.approx(float(logits.softmax(0).max()), abs=1e-4)


def test_a_class_without_images_has_no_accuracy(circuit):
    found = classify(circuit, np.stack([picture(0), picture(1)]), labels=[0, 1], progress=False)
    assert np.isnan(found["class_accuracy"].values[2:]).all()
    assert np.isnan(found["class_accuracy_low"].values[2:]).all()
    low, high = wilson(0, 0)
    assert np.isnan(low) and np.isnan(high)
    unknown = classify(circuit, picture(1)[None], progress=False)
    assert "accuracy" not in unknown and unknown["predicted"].values[0, 0] == 1


def test_a_table_names_files_and_classes(circuit, tmp_path):
    for level in range(4):
        Image.fromarray(picture(level)).save(tmp_path / f"p{level}.png")
    with (tmp_path / "labels.tsv").open("w", newline="") as lines:
        table = csv.writer(lines, delimiter="\t")
        table.writerow(["file", "class_index", "name"])
        table.writerows([[f"p{level}.png", level, "x"] for level in (3, 1)])
    by_table, by_folder = open_images(tmp_path / "labels.tsv"), open_images(tmp_path)
    assert list(by_table.labels) == list(by_folder.labels) == [3, 1]
    assert float(classify(circuit, by_table, progress=False)["accuracy"]) == 1
    (tmp_path / "named.csv").write_text("path,label\np0.png,dog\np1.png,cat\np2.png,\n")
    named = open_images(tmp_path / "named.csv")
    assert named.classes == ("cat", "dog") and list(named.labels) == [1, 0, -1]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="header with one of path"):
        open_images(tmp_path / "bad.csv")


def test_bad_images_are_named_and_refused_or_left_out(folder, circuit, caplog):
    (folder / "class2" / "1.png").write_text("no picture")
    with pytest.raises(InputError, match=r"class2/1\.png"):
        classify(circuit, folder, labels=np.zeros(20, int), progress=False)
    labels = np.repeat(np.arange(1, 11) % 4, 2)
    found = classify(circuit, folder, labels=labels, on_error="skip", progress=False)
    assert found.sizes["image"] == 19 and found.attrs["left_out"] == 1
    assert float(found["accuracy"]) == 1 and "1.png" in caplog.text
    with pytest.raises(InputError, match="'raise' or 'skip'"):
        classify(circuit, folder, on_error="ignore", progress=False)


def test_what_cannot_be_used_is_refused(circuit, tmp_path):
    bare = classifier(Levels(), ["conv"])
    with pytest.raises(InputError, match="preprocess="):
        classify(bare, picture(1)[None], progress=False)
    ready = np.full((1, 3, 4, 4), 1 / 3, dtype=np.float32)
    assert classify(bare, ready, progress=False)["predicted"].values[0, 0] == 1
    ready[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        classify(bare, ready, progress=False)
    with pytest.raises(InputError, match="class 7 of 4"):
        classify(circuit, picture(1)[None], labels=[7], progress=False)
    with pytest.raises(InputError, match="expected 1 whole numbers"):
        classify(circuit, picture(1)[None], labels=[0, 1], progress=False)
    with pytest.raises(InputError, match="no image in"):
        open_images(tmp_path)
    with pytest.raises(InputError, match="expected a folder"):
        open_images(tmp_path / "movie.mp4")
    with pytest.raises(InputError, match="8-bit pixels"):
        open_images(np.zeros((2, 4, 4)))
    for size, name in (((4, 4), "a.png"), ((5, 4), "b.png")):
        Image.fromarray(picture(1, size)).save(tmp_path / name)
    with pytest.raises(InputError, match=r"b\.png.*beside"):
        classify(circuit, tmp_path, progress=False)
    with torch.no_grad():
        circuit.model.conv.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="check the weights"):
        classify(circuit, picture(1)[None], progress=False)


@pytest.fixture
def three(tmp_path):
    """Three pictures in a folder, and what writes their table."""
    for name in "abc":
        Image.fromarray(np.zeros((3, 5, 3), np.uint8)).save(tmp_path / f"{name}.png")

    def write(*labels):
        rows = [f"{name}.png\t{label}" for name, label in zip("abc", labels, strict=True)]
        text = "\ufeff" + "\r\n".join(["path\tlabel", *rows]) + "\r\n"
        (tmp_path / "labels.tsv").write_bytes(text.encode())
        return open_images(tmp_path)

    return write


@pytest.mark.parametrize("unknown", ["", "-1"])
def test_numbers_of_classes_stay_where_one_is_not_known(three, unknown):
    source = three("3", "12", unknown)
    assert source.labels.tolist() == [3, 12, -1]
    assert source.classes == ()


@pytest.mark.parametrize("odd", ["1.0", "cat", "-2", "9" * 30])
def test_classes_are_numbers_or_names_and_not_both(three, odd):
    with pytest.raises(InputError, match="whole numbers from 0"):
        three("3", "12", odd)


def test_hidden_files_and_folders_are_no_classes(tmp_path):
    for room in (".cache", "cat", "dog"):
        (tmp_path / room).mkdir()
        Image.fromarray(np.zeros((3, 5, 3), np.uint8)).save(tmp_path / room / "x.png")
        (tmp_path / room / "._x.png").write_bytes(b"left by a copy")
    source = open_images(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="no folder"):
        image_folder(tmp_path / "gone")
