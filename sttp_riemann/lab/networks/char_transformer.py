"""A causal transformer that tells the next character of a text at every place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from typing_extensions import override


class Block(nn.Module):
    """Causal attention and a layer of two products, each after a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        q, k, v = (part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        found: Tensor = x + self.down(gelu(self.up(self.between(x))))
        return found


class CharTransformer(nn.Module):
    """Embeddings of characters and places, blocks of attention, a norm, scores of the next character.

    Parameters
    ----------
    num_classes : int
        Number of characters.
    in_channels : int
        Length of the longest text.
    width : int
        Length of an embedding, a multiple of `heads`.
    depth : int
        Number of blocks.
    heads : int
        Of attention.

    Notes
    -----
    Blocks as in GPT-2 (Radford et al. 2019), without dropout; the projections of queries, keys and values are layers of
    their own.
    """

    def __init__(
        self, num_classes: int = 128, in_channels: int = 64, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of heads {heads}: change one of them")
        self.characters, self.places = nn.Embedding(num_classes, width), nn.Embedding(in_channels, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    @override
    def forward(self, text: Tensor) -> Tensor:
        """Scores (N, L, num_classes) of the character after each of those of texts, int64 (N, L)."""
        places = torch.arange(text.shape[1], device=text.device)
        scores: Tensor = self.head(self.norm(self.blocks(self.characters(text) + self.places(places))))
        return scores
