"""The command for image classifiers: how often they are right, their blocks, their modes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from retinacodec.cli_words import Device, Overwrite, Seed, app
from retinacodec.errors import Problems

__all__ = ["classify"]


@app.command
def classify(
    model: Annotated[str, Parameter(help="module:function, file.py:function or TorchScript .pt.")],
    images: Annotated[Path, Parameter(help="A folder, a table (.tsv, .csv) or an .npz.")],
    *,
    weights: Annotated[Path | None, Parameter(help="Weights (.pth, .safetensors, .npz).")] = None,
    preprocess: Annotated[
        Literal["imagenet", "tf", "lite", "cifar"], Parameter(help="How pixels are normalised.")
    ] = "imagenet",
    size: Annotated[int | None, Parameter(help="Side that the network reads, pixels.")] = None,
    labels: Annotated[Path | None, Parameter(help="Names of the classes, one a line.")] = None,
    out: Annotated[Path | None, Parameter(help="Folder of predictions and figures.")] = None,
    first: Annotated[int | None, Parameter(help="Only this many images, at random.")] = None,
    depth: Annotated[int, Parameter(help="Images for the depth curves; 0 for none.")] = 0,
    gallery: Annotated[int, Parameter(help="Images to find modes in; 0 for none.")] = 0,
    layer: Annotated[str | None, Parameter(help="Layer of the modes; the middle block.")] = None,
    modes: Annotated[int, Parameter(help="Modes to look for.")] = 5,
    layers: Annotated[tuple[str, ...], Parameter(help="Blocks; found if left out.")] = (),
    skip: Annotated[bool, Parameter(help="Leave out images that are broken.", negative="")] = False,
    batch: Annotated[int, Parameter(help="Images at a time.")] = 32,
    seed: Seed = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Say what a classifier sees in images, how often it is right, and what its blocks do."""
    from retinacodec.classification import classify as compute
    from retinacodec.classifiers import classifier
    from retinacodec.image_files import open_images
    from retinacodec.named_networks import load_network
    from retinacodec.preprocessing import PREPROCESSES
    from retinacodec.weight_files import load_weights

    _check(depth, gallery, modes, layer, out)
    files = _files(out, depth, gallery, overwrite)
    made = load_network(model)
    if weights is not None:
        load_weights(made, weights)
    way = PREPROCESSES[preprocess]
    way = way if size is None else replace(way, size=size)
    # what has no blocks can still say what it sees
    asked: Any = layers or (None if depth or (gallery and layer is None) else ())
    circuit = classifier(made, asked, preprocess=way, labels=labels)
    if layer is not None:
        replace(circuit, layers=(layer,))  # a name that is not there is refused before the work
    source = open_images(images)
    chosen = source if first is None else source.subset(first, seed=seed)
    on_error: Any = "skip" if skip else "raise"
    found = compute(circuit, chosen, batch=batch, on_error=on_error, device=device)
    _say(found)
    name = Path(model.rpartition(":")[0] or model).name
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _write_table(found, files["predictions"], overwrite)
    if depth:
        some = chosen.subset(min(depth, len(chosen)), seed=seed)
        _depth(circuit, some, name, files, on_error, seed, device, overwrite)
    if gallery:
        from retinacodec.analyses import class_gallery

        some = chosen.subset(min(gallery, len(chosen)), seed=seed)
        options: dict[str, Any] = {"layer": layer, "modes": modes, "seed": seed, "device": device}
        described = class_gallery(circuit, some, on_error=on_error, **options)
        print(_page(described, found, name, weights, files, overwrite))


def _check(depth: int, gallery: int, modes: int, layer: str | None, out: Path | None) -> None:
    """Raise where figures have no folder, modes too few images, or a layer is named for nothing."""
    problems = Problems()
    for name, count in (("depth", depth), ("gallery", gallery)):
        problems.require(count >= 0, f"{name}: expected a number of images, got {count}")
        problems.require(not count or out is not None, f"{name}: give --out, the folder of it")
    few = f"gallery: expected at least {2 * modes} images for {modes} modes, got {gallery}"
    problems.require(not gallery or gallery >= 2 * modes, few)
    problems.require(layer is None or gallery > 0, "layer: is of the modes; give --gallery too")
    problems.raise_as("classify")


def _files(out: Path | None, depth: int, gallery: int, overwrite: bool) -> dict[str, Path]:
    """Return the files to be, none of which may be there already."""
    from retinacodec.atomic import check_free

    if out is None:
        return {}
    files = {"predictions": out / "predictions.csv"}
    if depth:
        files |= {"depth": out / "depth.png", "numbers": out / "depth.csv"}
    if gallery:
        from retinacodec.cli_gallery import GALLERY_FILES

        files |= {name: out / name for name in GALLERY_FILES}
    for path in files.values() if out.exists() else ():
        check_free(path, overwrite)
    return files


def _say(found: Any) -> None:
    """Print how often the first and any of the kept classes were right."""
    print(f"{found.sizes['image']} images, {found.attrs['left_out']} left out")
    if "accuracy" not in found:
        print("their true classes are not known")
        return
    for end, rank in (("", 1), ("_top", found.attrs["top"])):
        share, low, high = (float(found[f"accuracy{end}{one}"]) for one in ("", "_low", "_high"))
        print(f"top-{rank}: {share:.1%} ({low:.1%} to {high:.1%}, 95 %)")


def _write_table(found: Any, path: Path, overwrite: bool) -> None:
    """Write a row an image: its file, its class, and the classes that the network sees."""
    import csv

    from retinacodec.atomic import replacing

    ranks = found["rank"].values.tolist()
    names = found["class"].values if "class" in found.coords else None
    head = ["image", *(["label", "correct"] if names is not None else [])]
    head += [f"{word}_{rank}" for rank in ranks for word in ("class", "index", "probability")]
    with (
        replacing(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as lines,
    ):
        table = csv.writer(lines)
        table.writerow(head)
        for number, name in enumerate(found["name"].values):
            row: list[Any] = [name]
            if names is not None:
                label = int(found["label"].values[number])
                row += [names[label] if label >= 0 else "", bool(found["correct"].values[number])]
            for place in range(len(ranks)):
                row += [
                    found["prediction"].values[number, place],
                    int(found["predicted"].values[number, place]),
                    f"{found['probability'].values[number, place]:.6g}",
                ]
            table.writerow(row)
    print(path)


def _depth(
    circuit: Any,
    source: Any,
    title: str,
    files: dict[str, Path],
    on_error: Any,
    seed: int,
    device: str,
    overwrite: bool,
) -> None:
    """Draw and write the depth curves of some images."""
    import numpy as np

    from retinacodec import analyses
    from retinacodec.atomic import replacing
    from retinacodec.class_targets import TopK

    parts = list(source.batches(circuit.preprocess, on_error=on_error))
    images = np.concatenate([part.images for part in parts])
    known = np.concatenate([part.labels for part in parts])
    labels = known if (known >= 0).all() else None
    curves = analyses.depth_curves(
        circuit, images, TopK(1), labels=labels, seed=seed, device=device
    )
    made = analyses.depth_overview({title: curves})
    with replacing(files["depth"], overwrite=overwrite) as temporary:
        made.savefig(temporary, dpi=300, format="png")
    table = curves[[one for one in curves if curves[one].dims == ("quantity", "layer")]]
    with replacing(files["numbers"], overwrite=overwrite) as temporary:
        table.to_dataframe().to_csv(temporary)
    print(files["depth"])
    print(files["numbers"])


def _page(
    gallery: Any,
    seen: Any,
    name: str,
    weights: Path | None,
    files: dict[str, Path],
    overwrite: bool,
) -> Path:
    """Write the page of the modes; it names the weights by what is in them."""
    from retinacodec.provenance import file_sha256

    inputs = {} if weights is None else {weights.name: file_sha256(weights)}
    record = {"inputs": inputs} if inputs else {}
    folder, depth = files["gallery.html"].parent, files.get("depth")
    from retinacodec.cli_gallery import write_gallery

    return write_gallery(
        folder, seen, gallery, title=name, depth=depth, record=record, overwrite=overwrite
    )
