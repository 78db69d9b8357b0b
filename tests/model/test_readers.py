"""Layers of which a model reads more than outputs stay one layer where the others become two."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.model.readers import read_layers


def wrapped(call: Any) -> Any:
    @functools.wraps(call)
    def outer(*args: Any) -> Any:
        return call(*args)

    return outer


class Reader(nn.Module):
    """Two layers; how the second is read, a subclass says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)
        nn.init.ones_(self.first.weight)

    def reset(self) -> None:
        self.first.weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).to(self.second.weight.dtype))


class Applies(Reader):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.first(x), self.second.weight, self.second.bias)


class Calls(Reader):
    def width(self) -> int:
        return self.second.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) / self.width()


class Inherits(Reader):
    @wrapped
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Nests(Reader):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(sum((y * self.second.in_features for y in self.first(x).split(4)), torch.zeros(())))


class Outer(nn.Module):
    """Reads a layer of a module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"a": nn.Sequential(nn.Linear(24, 24)), "b": nn.Sequential(nn.Linear(24, 24))})
        self.part = nn.Module()
        self.part.second, self.part.first = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.part.first(x) @ self.part.second.weight


@pytest.mark.parametrize("kind", [Reader, Applies, Calls, Inherits, Nests, Outer])
def test_a_layer_that_is_read_stays_one_and_the_others_become_two(kind: type[nn.Module]) -> None:
    model = sr.reparameterize(kind(), 3)
    x = torch.randn(24, 24)
    thin = sr.decompress(model, factored=True)
    torch.testing.assert_close(thin(x), model(x), rtol=1e-4, atol=1e-5)
    holder = thin.part if kind is Outer else thin
    assert (type(holder.first), type(holder.second)) == (nn.Sequential, nn.Linear)


def test_only_what_a_forward_reads_counts() -> None:
    class Asks(Reader):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)) if self.first.training else self.second.forward(x)

    assert not read_layers(Asks())
    torchs = nn.TransformerEncoderLayer(16, 2, 32)
    assert {id(torchs.linear1), id(torchs.linear2)} <= read_layers(torchs)


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "WhisperModel"])
def test_transformers_that_read_their_layers_are_factored(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    if name.startswith("T5"):
        sizes = {"vocab_size": 32, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0))
        inputs = {"input_ids": torch.arange(8)[None], "decoder_input_ids": torch.arange(4)[None]}
    else:
        stacks = {
            f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 64))
        }
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 8, "vocab_size": 32}
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        sizes = {"d_model": 32, "max_source_positions": 8, "max_target_positions": 8}
        model = transformers.WhisperModel(transformers.WhisperConfig(**stacks, **heads, **special, **sizes))
        inputs = {"input_features": torch.randn(1, 8, 16), "decoder_input_ids": torch.arange(4)[None]}
    model = sr.reparameterize(model.eval(), 4)
    thin = sr.decompress(model, factored=True)
    with torch.no_grad():
        torch.testing.assert_close(thin(**inputs)[0], model(**inputs)[0], rtol=1e-4, atol=1e-4)
    assert sum(isinstance(module, nn.Sequential) for module in thin.modules()) > 4
