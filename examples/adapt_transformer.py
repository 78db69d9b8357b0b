"""Adapt a pretrained character transformer: adapters of low rank side by side at equal numbers of trainable parameters.

A small transformer learns the English of Python's own documentation (`pydoc_data.topics`). Then it is frozen, and
adapters of its linear layers learn Python code, modules of the standard library: both texts come with Python. The size
of each comparison is what LoRA trains at one of `--ranks`; every method gets the largest rank that trains at most 5 %
more.
`--methods`, `--paths` and `--starts` choose among the adapters of this package, `--peers` among those of peft, where
that is installed. Of several `--rates`, each method gets the one with the lowest loss on held-out code; what is told is
measured on other code.

Prints a line for each run, and a table: mean loss (nats a character) and accuracy over seeds with 95 % intervals of
Student's t, trained numbers, time of a step, and bytes that gradients and the optimizer take. With `--output`, all runs
go into a CSV file.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data import topics
from typing import Any

import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

import sttp_riemann as sr

CODE = ("argparse", "ast", "dataclasses", "datetime", "difflib", "inspect", "pathlib", "subprocess", "typing")
CHARACTERS = 128
PARTS = ("q", "k", "v", "out", "up", "down")
HEADS = 4


class Block(nn.Module):
    """Attention and a layer of two products, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        heads = (part(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    """Logits of the next character at every place."""

    def __init__(self, width: int, depth: int, length: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(CHARACTERS, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CHARACTERS)

    def forward(self, text: Tensor) -> Tensor:
        places = torch.arange(text.shape[-1], device=text.device)
        return self.head(self.norm(self.blocks(self.characters(text) + self.places(places))))


def prose() -> Tensor:
    """English."""
    return _encoded("\n\n".join(topics.topics.values()))


def code() -> tuple[Tensor, Tensor, Tensor]:
    """Python to learn from, to choose rates on, and to measure on: whole modules each."""
    sources = [_encoded(Path(importlib.util.find_spec(name).origin).read_text("utf-8")) for name in CODE]
    return torch.cat(sources[:-2]), sources[-2], sources[-1]


def _encoded(text: str) -> Tensor:
    return torch.tensor(list(text.encode("ascii", "replace")))


def batches(text: Tensor, options: argparse.Namespace, steps: int, seed: int) -> Iterator[Tensor]:
    """Windows of the text, one character longer than the model sees."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(text) - options.length, (options.batch, 1), generator=generator)
        yield text[starts + torch.arange(options.length + 1)]


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def measured(model: nn.Module, text: Tensor, options: argparse.Namespace) -> tuple[float, float]:
    """Loss and accuracy on the same windows for every model."""
    losses, hits = [], []
    for batch in batches(text, options, options.evaluation, seed=10**6):
        logits, wanted = model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()
        losses.append(F.cross_entropy(logits, wanted))
        hits.append((logits.argmax(1) == wanted).float().mean())
    return float(torch.stack(losses).mean()), float(torch.stack(hits).mean())


def train(model: nn.Module, text: Tensor, options: argparse.Namespace, steps: int, rate: float, seed: int) -> Any:
    """The optimizer after these steps; the rate falls to zero."""
    # Of plain parameters it is torch's Adam, bit for bit
    optimizer = sr.RiemannianAdam((p for p in model.parameters() if p.requires_grad), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in batches(text, options, steps, seed):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        schedule.step()
    return optimizer


def trained_numbers(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


Make = Callable[[nn.Module, int, int], nn.Module]
"""From a pretrained model of one's own, a rank and a seed to the model with adapters."""


def ours(method: str, path: str, start: str, options: argparse.Namespace) -> Make:
    def make(model: nn.Module, rank: int, seed: int) -> nn.Module:
        if start == "gradient":
            for batch in batches(code()[0], options, 4, seed):
                loss_of(model, batch).backward()
        return sr.adapt(model, rank, method, path, start=start, include="blocks", seed=seed, scale=options.scale)

    return make


def peer(name: str) -> Make:
    """A method of peft, by its own defaults; alpha is the rank, so that its factor is 1."""
    import peft

    def make(model: nn.Module, rank: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        low = {"r": rank, "lora_alpha": rank}
        configs: dict[str, Callable[..., Any]] = {
            "lora": lambda **kw: peft.LoraConfig(**low, **kw),
            "dora": lambda **kw: peft.LoraConfig(**low, use_dora=True, **kw),
            "pissa": lambda **kw: peft.LoraConfig(**low, init_lora_weights="pissa", **kw),
            # Blocks have to divide the width
            "oft": lambda **kw: peft.OFTConfig(r=0, oft_block_size=2**rank, **kw),
            "hra": lambda **kw: peft.HRAConfig(r=2 * rank, **kw),
        }
        return peft.get_peft_model(model, configs[name](target_modules=rf"blocks\.\d+\.({'|'.join(PARTS)})"))

    return make


PEERS = ("lora", "dora", "pissa", "oft", "hra")


def largest_rank(make: Make, model: nn.Module, budget: int, most: int) -> int:
    """The largest rank that trains at most 5 % more numbers than the budget; 0 if there is none."""

    def fits(rank: int) -> bool:
        try:
            # SVDP has one number more than LoRA for each rank of each layer
            return trained_numbers(make(copy.deepcopy(model), rank, 0)) <= 1.05 * budget
        except ValueError:  # a block of OFT that does not divide the width
            return False

    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def run(make: Make, model: nn.Module, rank: int, rate: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Adapt once, and measure."""
    learned, chosen_on, measured_on = code()
    adapted = make(copy.deepcopy(model), rank, seed)
    begin = time.perf_counter()
    optimizer = train(adapted, learned, options, options.steps, rate, seed)
    seconds = (time.perf_counter() - begin) / options.steps
    state = [t for own in optimizer.state.values() for t in own.values() if isinstance(t, Tensor)]
    grads = [p.grad for p in adapted.parameters() if p.grad is not None]
    loss, accuracy = measured(adapted, measured_on, options)
    return {
        "rank": rank,
        "rate": rate,
        "seed": seed,
        "trained": trained_numbers(adapted),
        "held_out": measured(adapted, chosen_on, options)[0],
        "loss": loss,
        "accuracy": 100 * accuracy,
        "ms": 1000 * seconds,
        "bytes": sum(t.numel() * t.element_size() for t in (*state, *grads)),
    }


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """Each method at the rate of its lowest held-out loss, mean and interval over seeds."""
    rows = []
    for (size, name), own in runs.groupby(["size", "name"], sort=False):
        best = own[own.rate == own.groupby("rate").held_out.mean().idxmin()]
        count = len(best)
        width = stats.t.ppf(0.975, count - 1) / count**0.5 if count > 1 else float("nan")
        rows.append(
            {
                "size": size,
                "name": name,
                "rank": best["rank"].iloc[0],
                "trained": best.trained.iloc[0],
                "rate": best.rate.iloc[0],
                "loss": best.loss.mean(),
                "loss ±": width * best.loss.std(),
                "accuracy": best.accuracy.mean(),
                "accuracy ±": width * best.accuracy.std(),
                "ms": best.ms.median(),
                "bytes": best.bytes.iloc[0],
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Pretrain, adapt in every way, print."""
    options = _options()
    torch.manual_seed(0)
    model = Transformer(options.width, options.depth, options.length)
    train(model, prose(), options, options.pretrain_steps, 3e-3, 0)
    for what, text in (("English", prose()), ("code", code()[2])):
        loss, accuracy = measured(model, text, options)
        print(f"pretrained on English, {what}: loss {loss:.4f}, accuracy {100 * accuracy:.2f} %")
    ways = {
        f"{m} {p} {s}": ours(m, p, s, options) for m in options.methods for p in options.paths for s in options.starts
    }
    if importlib.util.find_spec("peft") is not None:
        ways |= {f"peft {name}": peer(name) for name in options.peers}
    linear = [m for m in model.blocks.modules() if isinstance(m, nn.Linear)]
    runs = []
    for size in options.ranks:
        budget = sum(size * (m.in_features + m.out_features) for m in linear)
        for name, make in ways.items():
            rank = largest_rank(make, model, budget, most=8 * options.width)
            if not rank:
                print(f"{name}: no rank trains about {budget:,} numbers")
                continue
            for rate in options.rates:
                for seed in range(options.seeds):
                    found = {"size": budget, "name": name, **run(make, model, rank, rate, seed, options)}
                    runs.append(found)
                    print(f"{name}, rank {rank}, rate {rate:g}, seed {seed}: loss {found['loss']:.4f}", flush=True)
    frame = pd.DataFrame(runs)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(options.output, index=False)
    print(table(frame).to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8], help="of LoRA; they set the sizes")
    parser.add_argument("--methods", nargs="+", default=["svdp", "sttp"], choices=["svdp", "sttp"])
    parser.add_argument("--paths", nargs="+", default=["riemannian"], choices=["riemannian", "householder"])
    parser.add_argument("--starts", nargs="+", default=["zero"], choices=["zero", "pissa", "gradient"])
    parser.add_argument("--peers", nargs="*", default=["lora"], choices=PEERS)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-2])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--evaluation", type=int, default=8, help="batches that a measure takes")
    parser.add_argument("--output", type=Path, help="CSV file of all runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
