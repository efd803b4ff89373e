"""Compute torch's fused attentions in two steps, which shows their weights.

Each passes its weights to ``keep``, and goes on with what that returns.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Keep = Callable[[Tensor], Tensor]

_MULTI_HEAD = functional.multi_head_attention_forward
_ARGUMENTS = inspect.signature(_MULTI_HEAD)


def attend(
    keep: Keep,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute softmax(q kᵀ / √d + mask) v, as ``scaled_dot_product_attention`` does."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (projection.repeat_interleave(groups, -3) for projection in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (query * scale) @ key.transpose(-2, -1)
    # Half precision would lose small weights, and their gradients.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    weights = keep(logits.softmax(-1))
    return functional.dropout(weights.to(value.dtype), dropout_p) @ value


def attend_multi_head(keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``multi_head_attention_forward``; compute its output again from its weights."""
    bound = _ARGUMENTS.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = bound.arguments
    value: Tensor = arguments["value"]  # (keys, B, C)
    if value.ndim != 3 or arguments["static_v"] is not None:
        return _MULTI_HEAD(*args, **kwargs)
    needs_weights, averaged = arguments["need_weights"], arguments["average_attn_weights"]
    arguments["need_weights"], arguments["average_attn_weights"] = True, False
    _, computed = _MULTI_HEAD(**arguments)  # (B, heads, queries, keys)
    assert computed is not None
    weights = keep(computed)
    separate = arguments["use_separate_proj_weight"]
    matrix = arguments["v_proj_weight"] if separate else arguments["in_proj_weight"].chunk(3)[2]
    bias = None if arguments["in_proj_bias"] is None else arguments["in_proj_bias"].chunk(3)[2]
    values = functional.linear(value, matrix, bias)
    if arguments["bias_v"] is not None:
        values = torch.cat([values, arguments["bias_v"].expand(1, *values.shape[1:])])
    if arguments["add_zero_attn"]:
        values = torch.cat([values, torch.zeros_like(values[:1])])
    values = values.reshape(*values.shape[:2], weights.shape[1], -1).permute(1, 2, 0, 3)
    mixed = (weights.to(values.dtype) @ values).permute(2, 0, 1, 3).flatten(2)
    output = functional.linear(mixed, arguments["out_proj_weight"], arguments["out_proj_bias"])
    if not needs_weights:
        return output, None
    return output, weights.mean(1) if averaged else weights
