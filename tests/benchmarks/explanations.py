"""Formulas over concepts: the speed of the search, and channels of a real network on a street.

The street is a clip whose pixels are labelled with eleven classes, beside six concepts of place
and brightness. Its frames resemble their neighbours, so that a contiguous block is held out and
chance comes from shifts in time under which the whole search is repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from meter import main, measure, report
from real_networks import data_dir, efficientnet_lite0, skip

import retinacodec as rc
from retinacodec import analyses
from retinacodec.bitsets import pack
from retinacodec.formula_search import search_formulas
from retinacodec.overlaps import IOU

_CLASSES = "sky building pole road pavement tree sign fence car pedestrian bicyclist".split()
_LAYER = "_blocks.10"


def _plain(mask: Any, concepts: Any, length: int = 3, beam: int = 5) -> float:
    """Return the score of the same search on booleans, without memory of equal formulas."""
    size, kept = mask.sum(), [(0.0, None)]
    for step in range(length):
        made = list(kept) if step else []
        for _, formula in kept:
            for concept in concepts:
                ways = [concept]
                if formula is not None:
                    ways = [formula & concept, formula | concept, formula & ~concept]
                for way in ways:
                    made.append((float(IOU((way & mask).sum(), way.sum(), size)), way))
            made = sorted(made, key=lambda one: -one[0])
            found: list[Any] = []
            for one in made:
                if not any(one[0] == other[0] and (one[1] == other[1]).all() for other in found):
                    found.append(one)
                if len(found) == beam:
                    break
            made = found
        kept = made
    return kept[0][0]


def explain_search(quick: bool) -> None:
    """A thousand masks, 500 concepts, 100 000 positions, formulas of three; quick: a tenth."""
    masks, concepts, positions = (100, 100, 20_000) if quick else (1000, 500, 100_000)
    rng = np.random.default_rng(0)
    table = rng.random((concepts, positions)) < rng.uniform(0.005, 0.2, (concepts, 1))
    chosen = rng.integers(0, concepts, (masks, 3))
    wanted = np.empty((masks, positions), bool)
    for row, (a, b, c) in enumerate(chosen):
        noise = rng.random(positions)
        wanted[row] = (((table[a] | table[b]) & ~table[c]) & (noise < 0.7)) | (noise > 0.99)
    search_formulas(pack(wanted[:2, :100]), pack(table[:3, :100]))
    ours = measure(lambda: search_formulas(pack(wanted), pack(table)), repeats=3)
    plain = measure(lambda: _plain(wanted[0], table), repeats=1)
    report(
        "explain_search",
        ours,
        n={"masks": masks, "concepts": concepts, "positions": positions, "length": 3, "beam": 5},
        peer="the same search on numpy booleans (from one mask)",
        peer_cpu_s=plain.cpu_s * masks,
        limit_cpu_s=60.0,
        error=abs(float(ours.result.score[0, -1]) - plain.result),
        score=[float(one) for one in ours.result.score.mean(axis=0)],
    )


def street(stride: int, share: float) -> tuple[Any, Any, Any] | str:
    """Return masks of channels, concepts and pictures of the clip, or why they are not there."""
    network = efficientnet_lite0(1)
    folder = data_dir() / "concepts_camvid"
    if isinstance(network, str) or not folder.is_dir():
        return network if isinstance(network, str) else "no concepts_camvid in the data folder"
    from PIL import Image

    names = sorted(path.name for path in (folder / "annot").iterdir())
    labels = np.stack([np.asarray(Image.open(folder / "annot" / name)) for name in names])
    pictures = [Image.open(folder / "images" / name).convert("RGB") for name in names]
    small = [np.asarray(one.resize((224, 224), Image.Resampling.BICUBIC)) for one in pictures]
    images = ((np.stack(small).astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    circuit = rc.Circuit(network.model, [_LAYER], sample="image", output="class")
    values = _activation(circuit, np.ascontiguousarray(images))
    concepts = analyses.pixel_concepts(labels, dict(enumerate(_CLASSES)), stride=stride)
    masks = analyses.channel_masks(values, like=concepts, share=share)
    grey = np.stack([np.asarray(one.convert("L")) for one in pictures])
    shown = np.stack([np.asarray(one.resize((240, 180))) for one in pictures]) / 255
    return masks, xr.concat([concepts, _places(concepts, grey)], "concept"), shown


def _places(concepts: xr.DataArray, grey: Any) -> xr.DataArray:
    """Return where in the image, and how bright, the positions of the concepts are."""
    height, width = concepts.attrs["pixels"]
    image, y, x = (concepts[name].values for name in ("image", "y", "x"))
    light = grey[image, y, x]
    dark, bright = np.quantile(light, [0.25, 0.75])
    found = {
        "top": y < height / 3,
        "bottom": y >= 2 * height / 3,
        "left": x < width / 3,
        "right": x >= 2 * width / 3,
        "dark": light <= dark,
        "bright": light >= bright,
    }
    coords = {name: concepts[name] for name in ("image", "y", "x")}
    return xr.DataArray(
        np.stack(list(found.values())), coords | {"concept": list(found)}, ("concept", "position")
    )


def _activation(circuit: rc.Circuit, images: Any) -> xr.DataArray:
    from retinacodec.layer_values import layer_values
    from retinacodec.samples import rows_for

    found = layer_values(circuit, _LAYER, rows_for(circuit, images), batch=16)
    return xr.DataArray(found.numpy(), dims=("image", "channel", "y", "x"))


def _explain_street(quick: bool, length: int, shifts: int, share: float = 0.05) -> Any:
    loaded = street(12 if quick else 6, share)
    if isinstance(loaded, str):
        return loaded
    masks, concepts, shown = loaded
    found = analyses.explain(
        masks,
        concepts,
        length=length,
        held_out=rc.TimeBlocks(gap=4, blocks=5),
        null=analyses.ShiftedMasks(shifts, least=10, search=True),
        progress=False,
    )
    return found, masks, shown


def camvid(quick: bool) -> None:
    """Channels of the eleventh block of EfficientNet-Lite0, formulas of up to five concepts."""
    length, shifts = (3, 10) if quick else (5, 100)
    ours = measure(lambda: _explain_street(quick, length, shifts), repeats=1)
    if isinstance(ours.result, str):
        skip("camvid", ours.result)
        return
    found = ours.result[0]
    shown = [one for one in (1, 3, 5) if one <= length]
    mean = found.sel(length=shown).mean("mask")
    held = found.sel(part="held out")

    def by_length(name: str, part: str) -> list[float]:
        return [round(float(one), 4) for one in mean[name].sel(part=part)]

    report(
        "camvid",
        ours,
        n={"channels": found.sizes["mask"], "images": found.attrs["images"], "lengths": shown,
           "positions": found.attrs["positions"], "shifts": shifts},
        fitted=by_length("score", "fitted"),
        held_out=by_length("score", "held out"),
        chance=by_length("null_mean", "held out"),
        longer_is_better=float((held["score"][:, -1] > held["score"][:, 0]).mean()),
        found_at_5_percent={
            part: int(found["discovered"].sel(part=part)[:, -1].sum())
            for part in ("fitted", "held out")
        },
        p_median=float(held["p"][:, -1].median()),
    )  # fmt: skip


def _draw_street(quick: bool, path: Path) -> None:
    loaded = _explain_street(quick, 5, 10 if quick else 100)
    if isinstance(loaded, str):
        skip("camvid", loaded)
        return
    found, masks, shown = loaded
    analyses.explanations_figure(found, lengths=[1, 3, 5]).savefig(path, dpi=200)
    gallery = path.with_name(f"{path.stem}_images{path.suffix}")
    analyses.explanation_gallery(found, masks, shown).savefig(gallery, dpi=200)


if __name__ == "__main__":
    main({"explain_search": explain_search, "camvid": camvid}, {"camvid": _draw_street})
