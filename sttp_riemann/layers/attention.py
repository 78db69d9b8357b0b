"""torch's attention, which keeps the projections of queries, keys and values in one parameter."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.layers.split import Pieces, Split

PROJECTIONS = {"q_proj_weight": ("q_proj",), "k_proj_weight": ("k_proj",), "v_proj_weight": ("v_proj",)}


class SplitAttention(Split, nn.MultiheadAttention):  # type: ignore[override, misc]
    """MultiheadAttention with a layer each for the projections of queries, keys and values.

    torch's fast path in evaluation, which works on one parameter of all three, is not taken.
    """

    ordinary = nn.MultiheadAttention

    @classmethod
    @override
    def pieces_of(cls, module: Any) -> Pieces:
        if not module._qkv_same_embed_dim:
            return dict(PROJECTIONS)
        return {"in_proj_weight": tuple(name for (name,) in PROJECTIONS.values())}

    @classmethod
    @override
    def adopt(cls, module: Any, parts: dict[str, nn.Module]) -> None:
        super().adopt(module, parts)
        if module._qkv_same_embed_dim:
            # From here on torch reads the three apart
            module.pieces = {**module.pieces, **PROJECTIONS}
        module._qkv_same_embed_dim = False

    @override
    def release(self) -> None:
        if "in_proj_weight" in self.pieces:
            self.pieces = {"in_proj_weight": self.pieces["in_proj_weight"]}
            self._qkv_same_embed_dim = True
        super().release()

    @property
    def in_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        """Of all three, (3 * embed_dim, embed_dim); None where their widths differ."""
        return self.joined("in_proj_weight") if "in_proj_weight" in self.pieces else None

    @property
    def q_proj_weight(self) -> Tensor:  # type: ignore[override]
        """Of the queries."""
        return self.joined("q_proj_weight")

    @property
    def k_proj_weight(self) -> Tensor:  # type: ignore[override]
        """Of the keys."""
        return self.joined("k_proj_weight")

    @property
    def v_proj_weight(self) -> Tensor:  # type: ignore[override]
        """Of the values."""
        return self.joined("v_proj_weight")
