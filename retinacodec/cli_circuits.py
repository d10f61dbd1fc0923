"""Commands that compute with a fitted model: contributions and modes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from retinacodec.cli_words import Device, Overwrite, Seed, app, read_movie, write_result
from retinacodec.errors import InputError
from retinacodec.names import MethodName, QuantityName, RuleName, TargetName

__all__ = ["contributions", "modes"]


@app.command
def contributions(
    model: Annotated[Path, Parameter(help="A fitted model (.safetensors).")],
    movie: Annotated[Path, Parameter(help="A stimulus (.nwb, .nc, .zarr).")],
    *,
    out: Annotated[Path, Parameter(help="The result (.zarr or .nc).")],
    layers: Annotated[tuple[str, ...], Parameter(help="Layers of the model.")] = ("conv1", "conv2"),
    target: TargetName = "surprisal",
    rule: RuleName = "secant",
    steps: Annotated[int, Parameter(help="Steps of the path, or noisy copies.")] = 10,
    maps: Annotated[bool, Parameter(help="Keep every position; written while computed.")] = False,
    budget_gb: Annotated[float, Parameter(help="Working memory, GB.")] = 2.0,
    dry_run: Annotated[bool, Parameter(help="Say what it would take, and stop.")] = False,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Compute what every interneuron contributed at every moment."""
    from retinacodec import choices, models
    from retinacodec.circuit import Circuit
    from retinacodec.contribute import contributions as compute
    from retinacodec.contribute import plan_contributions

    circuit = Circuit(models.load_model(model), layers)
    asked = (circuit, read_movie(movie), choices.TARGETS[target]())
    options: dict[str, Any] = {"rule": choices.RULES[rule](steps), "maps": maps}
    options |= {"budget_gb": budget_gb, "device": device}
    streams = out if out.suffix == ".zarr" else None
    if dry_run:
        print(plan_contributions(*asked, out=streams, **options))
        return
    if streams is not None:
        compute(*asked, out=streams, overwrite=overwrite, **options).close()
        print(out)
        return
    write_result(compute(*asked, **options), out, overwrite)


@app.command
def modes(
    parts: Annotated[Path, Parameter(help="Contributions (.zarr or .nc).")],
    layer: Annotated[str, Parameter(help="Which layer.")],
    *,
    out: Annotated[Path, Parameter(help="The result (.zarr or .nc).")],
    count: Annotated[int | None, Parameter(help="Modes; the pursuit chooses if left out.")] = None,
    method: Annotated[MethodName, Parameter(help="How modes are found.")] = "pursuit",
    quantity: Annotated[QuantityName, Parameter(help="What is decomposed.")] = "contribution",
    target: Annotated[str | None, Parameter(help="Which target, where there are several.")] = None,
    stream: Annotated[bool, Parameter(help="Read block by block; pursuit.", negative="")] = False,
    resume: Annotated[
        bool, Parameter(help="Go on with an unfinished --stream.", negative="")
    ] = False,
    budget_gb: Annotated[float, Parameter(help="Memory at work of --stream, GB.")] = 2.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Decompose the contributions of a layer into modes, and say how far to trust them."""
    from retinacodec import choices
    from retinacodec.analyses import find_modes
    from retinacodec.store import open_result

    if stream:
        _stream(
            parts,
            layer,
            out,
            count,
            quantity,
            target,
            method=method,
            budget_gb=budget_gb,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
        )
        return
    if resume:
        raise InputError("resume: only a run with --stream can be gone on with")
    tree = open_result(parts)
    if layer not in tree.children:
        raise InputError(f"layer: no {layer!r} in {parts}; there are {', '.join(tree.children)}")
    asked: dict[str, Any] = {"quantity": quantity, "target": target, "seed": seed}
    images = "image" in tree[layer].dims
    dictionary = choices.decomposition(method, count, images=images)
    found = find_modes(tree[layer], dictionary=dictionary, **asked)
    write_result(found, out, overwrite)
    print(found.attrs["report"])


def _stream(
    parts: Path,
    layer: str,
    out: Path,
    count: int | None,
    quantity: str,
    target: str | None,
    *,
    method: str,
    **options: Any,
) -> None:
    """Decompose a stored layer block by block."""
    from retinacodec.dictionaries import DirectPursuit
    from retinacodec.row_files import open_rows
    from retinacodec.streamed_pursuit import stream_modes

    if method != "pursuit":
        raise InputError(f"method: --stream takes pursuit, got {method}")
    source = open_rows(parts, layer=layer, quantity=quantity, target=target)
    stream_modes(source, DirectPursuit(modes=count), out=out, **options).close()
    print(out)
