"""Hierarchies of classes: both kinds of file, merged nodes, several parents, masks of images."""

from __future__ import annotations

import numpy as np
import pytest

import retinacodec as rc
from retinacodec.class_hierarchy import (
    ClassHierarchy,
    image_masks,
    read_hierarchy,
    superclass_masks,
)
from retinacodec.errors import InputError

CLASSES = ["poodle", "pug", "tabby", "trout"]
PAIRS = """# child and parent
poodle\tdog
pug\tdog
dog\tcanine
canine\tmammal
tabby\tcat
cat\tmammal
dog\tpet
tabby\tpet
mammal\tanimal
trout\tfish
fish\tanimal
"""
PATHS = """animal/mammal/canine/dog/poodle
animal/mammal/canine/dog/pug
pet/dog
tabby\tanimal/mammal/cat
tabby\tpet
trout\tanimal/fish
"""


@pytest.mark.parametrize("text", [PAIRS, PATHS], ids=["pairs", "paths"])
def test_masks_are_the_leaves_under_every_node(tmp_path, text):
    path = tmp_path / "tree.tsv"
    path.write_text(text)
    masks = superclass_masks(read_hierarchy(path), CLASSES)
    named = {str(one["superclass"].values): one.values.tolist() for one in masks}
    assert list(named)[:4] == CLASSES
    np.testing.assert_array_equal(masks.values[:4], np.eye(4, dtype=bool))
    assert {name: named[name] for name in list(named)[4:]} == {
        "animal": [True] * 4,
        "mammal": [True, True, True, False],
        "dog": [True, True, False, False],
    }
    merged = dict(zip(masks["superclass"].values, masks["merged"].values, strict=True))
    # pet has the same classes as mammal, and lies less deep; canine is dog; cat is tabby
    assert merged["mammal"] == "pet" and merged["dog"] == "canine"
    assert merged["tabby"] == "cat" and merged["trout"] == "fish" and merged["animal"] == ""
    assert masks["size"].values.tolist() == [1, 1, 1, 1, 4, 3, 2]


def test_modes_correlate_with_superclasses():
    tree = ClassHierarchy({"poodle": ["dog"], "pug": ["dog"]})
    labels = np.repeat(np.arange(4), 25)
    members = image_masks(superclass_masks(tree, CLASSES), labels)
    assert members.dims == ("image", "class") and members["class"].values[-1] == "dog"
    loading = np.stack([labels <= 1, labels == 3], axis=1).astype(float)
    loading += 0.1 * np.random.default_rng(0).normal(size=loading.shape)
    import xarray as xr

    modes = xr.DataArray(loading, dims=("image", "mode"))
    table = rc.analyses.mode_class_correlation(modes, members, permuted=50)
    assert table["top_class"].values.tolist() == ["dog", "trout"]
    wanted = np.corrcoef(loading[:, 0], labels <= 1)[0, 1]
    found = float(table["correlation"].sel({"class": "dog"})[0])
    assert found == pytest.approx(wanted, abs=1e-9)


def test_bad_hierarchies_are_named(tmp_path):
    path = tmp_path / "tree.tsv"
    path.write_text("a\tb\tc\nalone\n")
    with pytest.raises(InputError, match=r"line 1.*line 2"):
        read_hierarchy(path)
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="nothing in it"):
        read_hierarchy(path)
    with pytest.raises(InputError, match="above itself"):
        ClassHierarchy({"a": ["b"], "b": ["a"]})
    tree = ClassHierarchy({"a": ["b"]})
    with pytest.raises(InputError, match="none of the classes"):
        superclass_masks(tree, ["x", "y"])
    with pytest.raises(InputError, match="twice"):
        superclass_masks(tree, ["a", "a"])
    with pytest.raises(InputError, match="0 to 0"):
        image_masks(superclass_masks(tree, ["a"]), [1])
