"""Attention, written out in products and softmaxes; see `retinacodec.written_out`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from retinacodec.errors import InputError

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return each query's mean of the values, weighted by the softmax of its scores."""
    if dropout_p:
        raise InputError("secant: attention with dropout has no exact factor; use eval mode")
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (one.repeat_interleave(groups, dim=-3) for one in (key, value))
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    return _weights(query, key, attn_mask, scale) @ value


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Return the softmax (..., query, key) of the scores; a mask of bools says what to keep."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-1, -2)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return multi-head attention (token, batch, channel) and its weights, if needed."""
    unusual = (bias_k, bias_v, static_k, static_v)
    if query.ndim != 3 or add_zero_attn or any(one is not None for one in unusual):
        raise InputError(
            "secant: expected multi-head attention over batches (token, batch, channel) without "
            "added or fixed keys, got another kind; write it out in products and a softmax"
        )
    if training and dropout_p:
        raise InputError("secant: attention with dropout has no exact factor; use eval mode")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    inputs = _project((query, key, value), in_proj_weight, separate, in_proj_bias)
    heads = [one.unflatten(2, (num_heads, -1)).permute(1, 2, 0, 3) for one in inputs]
    mask = _mask(attn_mask, key_padding_mask, num_heads, query)
    weights = _weights(heads[0], heads[1], mask, None)
    joined = (weights @ heads[2]).permute(2, 0, 1, 3).flatten(2)
    out = F.linear(joined, out_proj_weight, out_proj_bias)
    if not need_weights:
        return out, None
    return out, weights.mean(dim=1) if average_attn_weights else weights


def _project(
    values: tuple[Tensor, ...], packed: Tensor | None, weights: tuple[Any, ...], bias: Tensor | None
) -> list[Tensor]:
    """Return the projections of query, key and value (token, batch, channel)."""
    parts = weights if packed is None else packed.chunk(3)
    shifts = (None,) * 3 if bias is None else bias.chunk(3)
    return [F.linear(*one) for one in zip(values, parts, shifts, strict=True)]


def _mask(mask: Tensor | None, padding: Tensor | None, heads: int, query: Tensor) -> Tensor | None:
    """Return both masks as one that is added to scores (batch, head, query, key)."""
    parts = []
    if mask is not None:
        parts.append(mask.unflatten(0, (-1, heads)) if mask.ndim == 3 else mask)
    if padding is not None:
        parts.append(padding[:, None, None, :])
    total = None
    for part in parts:
        added = part
        if part.dtype == torch.bool:
            added = torch.zeros(part.shape, dtype=query.dtype, device=query.device)
            added = added.masked_fill(part, float("-inf"))
        total = added if total is None else total + added
    return total
