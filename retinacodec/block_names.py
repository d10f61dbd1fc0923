"""Where the blocks of an image classifier are, by the names and the nesting of its modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from torch import nn

from retinacodec.errors import InputError

__all__ = ["Kind", "block_taps"]

Kind = Literal["blocks", "mlp", "attention", "heads"]

_KINDS = ("blocks", "mlp", "attention", "heads")
_KNOWN = frozenset(
    """BasicBlock Bottleneck PreActBlock PreActBottleneck InvertedResidual DepthwiseSeparableConv
    EdgeResidual UniversalInvertedResidual MobileAttention MBConv FusedMBConv MBConvBlock CNBlock
    ConvNeXtBlock EncoderBlock Block ParallelScalingBlock SwinTransformerBlock ViTLayer DeiTLayer
    ConvNextLayer ResNetBasicLayer ResNetBottleNeckLayer""".split()
)
_LISTS = (nn.Sequential, nn.ModuleList)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PERCEPTRONS = ("mlp", "ffn", "feed_forward")
_ATTENTIONS = ("attn", "self_attention", "attention", "self_attn")
_PROJECTIONS = ("proj", "out_proj", "to_out")


def block_taps(model: nn.Module, kind: Kind = "blocks") -> tuple[str, ...]:
    """Return the names of a classifier's blocks, or of a part of each, in order of depth.

    Parameters
    ----------
    model : torch.nn.Module
        An image classifier: a residual network, MobileNet, EfficientNet, ConvNeXt, AlexNet, VGG
        or vision transformer as torchvision or timm name their modules, or any other.
    kind : {"blocks", "mlp", "attention", "heads"}, default "blocks"
        The outputs of the blocks; or in each block the hidden layer of its perceptron, the
        channels that its attention reads out before their projection, or these by head.

    Returns
    -------
    tuple of str
        Layers as `retinacodec.Circuit` takes them, such as ``"blocks.0.mlp.fc2:input"``.

    Raises
    ------
    InputError
        If there is nothing to tap, or the blocks have no such part.

    Notes
    -----
    Blocks are modules of a class that is known to be one. Where there are none: modules of one
    class that follow each other in lists. Where nothing is repeated either: the nonlinearity
    after each convolution in a sequence, else the convolution itself, whose contributions by
    the secant rule are the same; in a network without convolutions the same of its linear maps,
    but for the last.

    Examples
    --------
    >>> flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> block_taps(flat)
    ('1',)
    """
    if kind not in _KINDS:
        raise InputError(f"blocks: expected one of {', '.join(_KINDS)}, got {kind!r}")
    known = tuple(_known(model, ""))
    found = known or _repeated(model)
    if kind == "blocks":
        found = found or _nonlinearities(model)
        if not found:
            raise InputError("blocks: the model has no convolution or hidden layer; pass layers=")
        return found
    part = _perceptron if kind == "mlp" else _attention
    taps = [part(model.get_submodule(name), name, kind == "heads") for name in found]
    there = tuple(tap for tap in taps if tap)
    if not there:
        raise InputError(f"blocks: no {kind} in {type(model).__name__}; pass layers= by name")
    return there


def _known(module: nn.Module, path: str) -> Iterator[str]:
    """Yield the outermost modules of a known class."""
    for name, child in module.named_children():
        whole = f"{path}.{name}" if path else name
        if type(child).__name__ in _KNOWN and any(True for _ in child.children()):
            yield whole
        else:
            yield from _known(child, whole)


def _repeated(model: nn.Module) -> tuple[str, ...]:
    """Return modules with weights in lists, of classes that are there more than once."""
    found = list(_listed(model, "", False))
    often = Counter(kind for _, kind in found)
    return tuple(name for name, kind in found if often[kind] > 1)


def _listed(module: nn.Module, path: str, within: bool) -> Iterator[tuple[str, type[nn.Module]]]:
    for name, child in module.named_children():
        whole = f"{path}.{name}" if path else name
        has = any(isinstance(one, (*_CONVOLUTIONS, nn.Linear)) for one in child.modules())
        if not has or not any(True for _ in child.children()):
            continue
        inner = list(_listed(child, whole, isinstance(child, _LISTS)))
        bare = type(child) in _LISTS
        if within and not (bare and inner):
            yield whole, type(child)
        else:
            yield from inner


def _nonlinearities(model: nn.Module) -> tuple[str, ...]:
    """Return what follows each convolution, or each linear map but the last."""
    kinds = _CONVOLUTIONS if _has(model, _CONVOLUTIONS) else (nn.Linear,)
    found = [name for name, module in model.named_modules() if name and isinstance(module, kinds)]
    if kinds == (nn.Linear,):
        found = found[:-1]
    return tuple(dict.fromkeys(_after(model, name) for name in found))


def _has(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    return any(isinstance(one, kinds) for one in model.modules())


def _after(model: nn.Module, name: str) -> str:
    """Return the nonlinearity after a module of a sequence, else the module itself."""
    home, _, own = name.rpartition(".")
    parent = model.get_submodule(home) if home else model
    if not isinstance(parent, nn.Sequential):
        return name
    children = list(parent.named_children())
    place = [one for one, _ in children].index(own)
    for follower, child in children[place + 1 :]:
        if isinstance(child, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)):
            continue
        if type(child).__module__ == nn.ReLU.__module__:
            return f"{home}.{follower}" if home else follower
        break
    return name


def _perceptron(block: nn.Module, path: str, heads: bool) -> str | None:  # noqa: ARG001
    """Return the entry of the last linear map of a block's perceptron."""
    for name in _PERCEPTRONS:
        if isinstance(home := getattr(block, name, None), nn.Module):
            kinds = (nn.Linear, *_CONVOLUTIONS)
            maps = [one for one, module in home.named_modules() if isinstance(module, kinds)]
            if len(maps) > 1:
                return f"{path}.{name}.{maps[-1]}:input"
    return None


def _attention(block: nn.Module, path: str, heads: bool) -> str | None:
    """Return the entry of the projection after a block's attention."""
    for name in _ATTENTIONS:
        home = getattr(block, name, None)
        if isinstance(home, nn.MultiheadAttention):
            raise InputError(
                f"blocks: {path}.{name} computes heads and projection in one operation, which no "
                "tap reaches; take kind='blocks' or 'mlp'"
            )
        for last in _PROJECTIONS:
            if not isinstance(getattr(home, last, None), nn.Module):
                continue
            tap = f"{path}.{name}.{last}:input"
            if not heads:
                return tap
            count = getattr(home, "num_heads", getattr(home, "heads", None))
            if not isinstance(count, int):
                raise InputError(f"blocks: {path}.{name} does not say how many heads it has")
            return f"{tap}:{count}heads"
    return None
