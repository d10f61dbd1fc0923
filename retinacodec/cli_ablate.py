"""The command ablate: silence the channels of modes, in a retina or in a classifier."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

from cyclopts import Parameter

from retinacodec.cli_words import Overwrite, Seed, app, read_movie
from retinacodec.errors import InputError

__all__ = ["ablate"]


@app.command
def ablate(
    model: Annotated[str, Parameter(help="A fitted retina (.safetensors), or module:function.")],
    samples: Annotated[Path, Parameter(help="A movie; or images and labels (.npz).")],
    modes: Annotated[Path, Parameter(help="Modes of the layer, found on these samples.")],
    layer: Annotated[str, Parameter(help="The layer.")],
    *,
    out: Annotated[Path, Parameter(help="Folder of the tables and the figure.")],
    share: Annotated[float, Parameter(help="Share of the channels, of a retina.")] = 0.25,
    trials: Annotated[int, Parameter(help="Draws of two classes, of a classifier.")] = 20,
    images_each: Annotated[int, Parameter(help="Images of a class in a trial.")] = 10,
    rank: Annotated[int, Parameter(help="Which mode of a class: 0 the best, 1 the next.")] = 0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Silence the channels of modes: rates of a retina, or accuracy of a classifier.

    A classifier is named as module:function; the function takes nothing and returns a Circuit
    of images, and its code is run. Its images are an .npz file with 'images' and 'labels'; they
    serve twice, to choose the mode of each class and to test it.
    """
    from retinacodec.atomic import check_free
    from retinacodec.store import open_result

    names = ("effects.csv",) if model.endswith(".safetensors") else ("curves.csv", "areas.csv")
    paths = {name: out / name for name in (*names, "ablation.png")}
    if out.is_dir():
        for path in paths.values():
            check_free(path, overwrite)
    else:
        check_free(out, overwrite)
    found = open_result(modes)
    if model.endswith(".safetensors"):
        tables, drawing = _retina(Path(model), samples, found, layer, share, seed)
    else:
        options = {"trials": trials, "images_each": images_each, "seed": seed}
        tables, drawing = _classifier(model, samples, found, layer, rank, options)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in zip(names, tables, strict=True):
        table.to_csv(paths[name])
        print(paths[name])
    drawing.savefig(paths["ablation.png"], dpi=200)
    print(paths["ablation.png"])


def _retina(
    model: Path, movie: Path, modes: Any, layer: str, share: float, seed: int
) -> tuple[list[Any], Any]:
    """Return the table of rate changes, and a picture of them."""
    from retinacodec.analyses import mode_output_effects
    from retinacodec.circuit import Circuit
    from retinacodec.house_style import figure, style
    from retinacodec.models import load_model
    from retinacodec.plotting import colour_bar, heat, symmetric_limit

    circuit = Circuit(load_model(model), [layer])
    found = mode_output_effects(circuit, read_movie(movie), layer, modes, share=share, seed=seed)
    chance = found["contrast_random"].mean("draw").rename("contrast_random")
    table = found.drop_vars("contrast_random").assign(contrast_random=chance)
    with style():
        drawing = figure(width_mm=85, height_mm=60)
        axis = drawing.subplots()
        limit = symmetric_limit(found["contrast"].fillna(0))
        heat(axis, found["contrast"].values, limits=(-limit, limit), cmap="vik",
             rows=[str(mode) for mode in found["mode"].values])  # fmt: skip
        colour_bar(axis, "Rate change, mode on less off (Hz)")
        axis.set(xlabel="Cell", ylabel=f"Mode of {layer} silenced")
    return [table.to_dataframe()], drawing


def _classifier(
    reference: str, path: Path, modes: Any, layer: str, rank: int, options: dict[str, Any]
) -> tuple[list[Any], Any]:
    """Return the tables of curves and of areas, and a picture of the curves."""
    from retinacodec.analyses import (
        ablation_curves,
        ablation_summary,
        draw_ablation,
        mode_rankings,
    )
    from retinacodec.house_style import figure, style

    circuit = circuit_from(reference)
    images, labels = _images(path)
    rankings = {"modes": {layer: mode_rankings(modes, labels, rank=rank)}}
    found = ablation_summary(ablation_curves(circuit, images, labels, rankings, **options))
    kept = [name for name in found if str(name).startswith(("ratio", "accuracy"))]
    curves = found[[name for name in kept if "percent" in found[name].dims]].to_dataframe()
    areas = found[["relative_auc", "relative_auc_low", "relative_auc_high"]].to_dataframe()
    print(areas.round(3).to_string())
    with style():
        drawing = figure(width_mm=130, height_mm=55)
        for axis, direction in zip(drawing.subplots(1, 2), ("ablate", "preserve"), strict=True):
            draw_ablation(found, axis, direction=direction)
        drawing.axes[1].legend(loc="lower right")
    return [curves, areas], drawing


def circuit_from(reference: str) -> Any:
    """Return the circuit that a function named as ``module:function`` makes.

    Parameters
    ----------
    reference : str
        Such as ``"mynets:resnet"``; modules are also looked for in the folder of the call.

    Raises
    ------
    InputError
        If there is no such function, or it returns no circuit of images.
    """
    from retinacodec.circuit import Circuit

    module, _, name = reference.partition(":")
    if not module or not name:
        raise InputError(f"model: expected .safetensors or module:function, got {reference!r}")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(module), name)()
    except Exception as error:  # the code is the user's
        said = (str(error).splitlines() or [""])[0][:150]
        raise InputError(
            f"model: {reference!r} cannot be had ({type(error).__name__}: {said})"
        ) from error
    finally:
        sys.path.remove(here)
    if not isinstance(made, Circuit) or made.sample != "image":
        raise InputError(
            f"model: {reference} must return a Circuit with sample='image', got "
            f"{type(made).__name__}"
        )
    return made


def _images(path: Path) -> tuple[Any, Any]:
    """Return images and labels of an .npz file."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["images"], stored["labels"]
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        BadZipFile,
    ) as error:
        raise InputError(
            f"images: expected an .npz file with 'images' and 'labels', got {path.name}: {error}"
        ) from error
