"""Attention within a band of the past and the near future, over whole clips and over streams, which give the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass
class BandMemory:
    """What one layer keeps of a stream.

    Attributes:
        waiting: Tokens (1, n, d) that wait for their look-ahead.
        queries: Their queries (1, H, n, head_dim).
        keys: Keys (1, H, k, head_dim) of the last tokens, those that wait among them.
        values: Values (1, H, k, head_dim) of the same.
        middle: Last tokens (1, past, d) before the convolution, of layers that have one.
        done: Number of tokens that have left the layer.
        seen: Number of tokens that have entered it.
    """

    waiting: Tensor | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    middle: Tensor | None = None
    done: int = 0
    seen: int = 0


def attend_band(q: Tensor, k: Tensor, v: Tensor, look_back: int, look_ahead: int) -> Tensor:
    """Attention of whole clips.

    Args:
        q: Queries (B, H, T, head_dim).
        k: Keys of the same shape.
        v: Values of the same shape.
        look_back: Tokens of the past that each token sees.
        look_ahead: Tokens of the future that each token sees.
    """
    tokens = torch.arange(q.shape[2], device=q.device)
    return functional.scaled_dot_product_attention(q, k, v, _band(tokens, tokens, look_back, look_ahead))


def attend_stream(
    memory: BandMemory,
    x: Tensor,
    qkv: tuple[Tensor, Tensor, Tensor] | None,
    look_back: int,
    look_ahead: int,
    ends: bool,
) -> tuple[Tensor, Tensor] | None:
    """Attention of the tokens of a stream that need not wait any longer.

    Args:
        memory: Of the layer; changed.
        x: Further tokens (1, n, d).
        qkv: Their queries, keys and values, each (1, H, n, head_dim); None where there are none.
        look_back: Tokens of the past that each token sees.
        look_ahead: Tokens of the future that each token sees.
        ends: Whether nothing follows, so that no token waits.

    Returns:
        The next tokens (1, m, d) and what attention gives for them, (1, H, m, head_dim); None where all wait.
    """
    if qkv is not None:
        q, k, v = qkv
        memory.waiting = x if memory.waiting is None else torch.cat([memory.waiting, x], 1)
        memory.queries = q if memory.queries is None else torch.cat([memory.queries, q], 2)
        memory.keys = k if memory.keys is None else torch.cat([memory.keys, k], 2)
        memory.values = v if memory.values is None else torch.cat([memory.values, v], 2)
        memory.seen += x.shape[1]
    count = max(0, memory.seen - (0 if ends else look_ahead) - memory.done)
    if not count or memory.waiting is None:
        return None
    assert memory.queries is not None and memory.keys is not None and memory.values is not None
    queries = torch.arange(memory.done, memory.done + count, device=x.device)
    keys = torch.arange(memory.seen - memory.keys.shape[2], memory.seen, device=x.device)
    seen = _band(queries, keys, look_back, look_ahead)
    out = functional.scaled_dot_product_attention(memory.queries[:, :, :count], memory.keys, memory.values, seen)
    tokens = memory.waiting[:, :count]
    memory.waiting, memory.queries = memory.waiting[:, count:], memory.queries[:, :, count:]
    memory.done += count
    needed = look_back + memory.seen - memory.done
    memory.keys, memory.values = memory.keys[:, :, -needed:], memory.values[:, :, -needed:]
    return tokens, out


def _band(queries: Tensor, keys: Tensor, look_back: int, look_ahead: int) -> Tensor:
    """Which keys (K,) each query (Q,) sees, by their token numbers, (Q, K)."""
    distance = keys[None] - queries[:, None]
    return (distance >= -look_back) & (distance <= look_ahead)
