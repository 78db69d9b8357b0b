"""Adapt a pretrained character transformer: adapters of low rank side by side at equal numbers of trainable parameters.

A small transformer learns the English of Python's own documentation (`pydoc_data.topics`). Then it is frozen, and
adapters of its linear layers learn Python code, modules of the standard library: both texts come with Python. The size
of each comparison is what LoRA trains at one of `--ranks`; every method gets the largest rank that trains at most 5 %
more. `--methods`, `--paths` and `--starts` choose among the adapters of this package, `--peers` among those of peft,
where that is installed.

Of several `--rates` and `--scales`, each method gets the pair with the lowest loss on held-out code with seed 0; what
is told is measured on other code, over `--seeds` further seeds. With `--output`, every run is a line of `runs.csv` in
that folder as soon as it ends, and a command that is repeated trains what is missing; the folder also gets `report.md`
and a figure. `--read` adds the runs of further folders.

Prints a line for each run, and the table of the report.
"""

from __future__ import annotations

import argparse
import bisect
import copy
import importlib.util
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data import topics
from typing import Any

import pandas as pd
import torch
from adapters.tables import UNSCALED, between, drawn, fresh, table
from torch import Tensor, nn
from torch.nn import functional as F

import sttp_riemann as sr
from sttp_riemann.lab.networks.char_transformer import CharTransformer
from sttp_riemann.lab.studies.report import markdown_table

CODE = ("argparse", "ast", "dataclasses", "datetime", "difflib", "inspect", "pathlib", "subprocess", "typing")
CHARACTERS = 128
PARTS = ("q", "k", "v", "out", "up", "down")


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


Pair = tuple[float, float]  # a rate, and a scale of the change
Make = Callable[[nn.Module, int, int, float], nn.Module]
"""From a pretrained model of one's own, a rank, a seed and a scale to the model with adapters."""


def ours(method: str, path: str, start: str, options: argparse.Namespace) -> Make:
    def make(model: nn.Module, rank: int, seed: int, scale: float) -> nn.Module:
        if start == "gradient":
            for batch in batches(code()[0], options, 4, seed):
                loss_of(model, batch).backward()
        return sr.adapt(model, rank, method, path, start=start, include="blocks", seed=seed, scale=scale)

    return make


def peer(name: str) -> Make:
    """A method of peft, by its own defaults; alpha is the rank times the scale, which is then its factor."""
    import peft

    def make(model: nn.Module, rank: int, seed: int, scale: float) -> nn.Module:
        torch.manual_seed(seed)
        low = {"r": rank, "lora_alpha": rank * scale}
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

    def size(rank: int) -> float:
        try:
            return trained_numbers(make(copy.deepcopy(model), rank, 0, 1.0))
        except ValueError:  # a block of OFT that does not divide the width
            return math.inf

    # SVDP has one number more than LoRA for each rank of each layer
    return bisect.bisect_right(range(1, most + 1), 1.05 * budget, key=size)


def run(make: Make, model: nn.Module, rank: int, pair: Pair, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Adapt once, and measure."""
    rate, scale = pair
    learned, chosen_on, measured_on = code()
    adapted = make(copy.deepcopy(model), rank, seed, scale)
    begin = time.perf_counter()
    optimizer = train(adapted, learned, options, options.steps, rate, seed)
    seconds = (time.perf_counter() - begin) / options.steps
    state = [t for own in optimizer.state.values() for t in own.values() if isinstance(t, Tensor)]
    grads = [p.grad for p in adapted.parameters() if p.grad is not None]
    loss, accuracy = measured(adapted, measured_on, options)
    return {
        "rank": rank,
        "rate": rate,
        "scale": scale,
        "seed": seed,
        "trained": trained_numbers(adapted),
        "held_out": measured(adapted, chosen_on, options)[0],
        "loss": loss,
        "accuracy": 100 * accuracy,
        "ms": 1000 * seconds,
        "bytes": sum(t.numel() * t.element_size() for t in (*state, *grads)),
    }


def times(runs: pd.DataFrame, ways: dict[str, Make], model: nn.Module, options: argparse.Namespace) -> pd.DataFrame:
    """Milliseconds of a step: medians over rounds in which the methods of a size take turns."""
    found = []
    for size, own in runs.groupby("size", sort=False):
        adapted = {n: ways[n](copy.deepcopy(model), int(r), 1, 1.0) for n, r in zip(own.name, own["rank"], strict=True)}
        taken: dict[str, list[float]] = {name: [] for name in adapted}
        for turn in range(options.rounds + 1):
            for name, each in adapted.items():
                begin = time.perf_counter()
                train(each, code()[0], options, 5, 1e-3, turn)
                taken[name].append((time.perf_counter() - begin) * 1000 / 5)
        # The first round warms up
        found += [{"size": size, "name": name, "ms": statistics.median(own[1:])} for name, own in taken.items()]
    return pd.DataFrame(found)


SETTINGS = ("width", "depth", "length", "batch", "pretrain_steps", "steps", "evaluation")


def write(runs: pd.DataFrame, heads: list[str], options: argparse.Namespace) -> None:
    """Report and figure."""
    shared = ", ".join(f"{name.replace('_', ' ')} {getattr(options, name)}" for name in SETTINGS)
    text = [
        "# Adapters of a character transformer",
        *heads,
        markdown_table(table(runs)),
        *between(runs),
        "![loss of every seed](loss.png)",
        f"`python examples/adapt_transformer.py` writes this page ({shared}). ± is half the 95 % interval of the mean. "
        "p is of paired seeds, by an exact sign-flip test up to 12 of them, with Holm's correction over all rows. "
        "Rates and scales are chosen with seed 0 on code that is not measured on. Times of steps are those of the "
        "runs, unless the folder has `times.csv`, in which all methods took turns.",
    ]
    (options.output / "report.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    drawn(runs).savefig(options.output / "loss.png", dpi=110)


def read(options: argparse.Namespace) -> pd.DataFrame:
    """Runs of earlier commands."""
    folders = [*options.read, *([options.output] if options.output else [])]
    files = [file for folder in folders if (file := folder / "runs.csv").is_file()]
    runs = pd.concat([pd.read_csv(file) for file in files]) if files else pd.DataFrame()
    for name in SETTINGS if len(runs) else ():
        if (runs[name] != getattr(options, name)).any():
            raise SystemExit(f"runs that are there have another {name}: give --{name.replace('_', '-')} as they had it")
    return runs


def main() -> None:
    """Pretrain, adapt in every way, print."""
    options = _options()
    there = read(options)
    torch.manual_seed(0)
    model = CharTransformer(CHARACTERS, options.length, options.width, options.depth)
    train(model, prose(), options, options.pretrain_steps, 3e-3, 0)
    texts = {what: measured(model, text, options) for what, text in (("English", prose()), ("code", code()[2]))}
    heads = [f"Pretrained on English, {w}: loss {a:.4f}, accuracy {100 * b:.2f} %" for w, (a, b) in texts.items()]
    print(*heads, sep="\n")
    ways = {
        f"{m} {p} {s}": ours(m, p, s, options) for m in options.methods for p in options.paths for s in options.starts
    }
    if importlib.util.find_spec("peft") is not None:
        ways |= {f"peft {name}": peer(name) for name in options.peers}
    linear = [m for m in model.blocks.modules() if isinstance(m, nn.Linear)]
    settings = {name: getattr(options, name) for name in SETTINGS}
    runs = there.to_dict("records")
    done = {(r["size"], r["name"], r["rate"], r["scale"], r["seed"]): r for r in runs}
    for size in options.ranks:
        budget = sum(size * (m.in_features + m.out_features) for m in linear)
        for name, make in ways.items():
            rank = largest_rank(make, model, budget, most=options.width)
            if not rank:
                print(f"{name}: no rank trains about {budget:,} numbers")
                continue

            def at(pair: Pair, seed: int, budget=budget, name=name, make=make, rank=rank) -> dict[str, Any]:
                found = done.get((budget, name, *pair, seed))
                if found is None:
                    found = {"size": budget, "name": name, **run(make, model, rank, pair, seed, options), **settings}
                    runs.append(found)
                    if options.output is not None:
                        options.output.mkdir(parents=True, exist_ok=True)
                        file = options.output / "runs.csv"
                        pd.DataFrame([found]).to_csv(file, mode="a", index=False, header=not file.exists())
                what = f"{name}, rank {rank}, rate {pair[0]:g}, scale {pair[1]:g}"
                print(f"{what}, seed {seed}: loss {found['loss']:.4f}", flush=True)
                return found

            pairs = [*itertools.product(options.rates, [1.0] if name in UNSCALED else options.scales)]
            best = min(pairs, key=lambda pair: at(pair, 0)["held_out"]) if len(pairs) > 1 else pairs[0]
            for seed in range(1, options.seeds + 1):
                at(best, seed)
    told = fresh(pd.DataFrame(runs))
    if not len(told):
        return
    timed = options.output and options.output / "times.csv"
    if options.rounds and timed is not None:
        times(told, ways, model, options).to_csv(timed, index=False)
    if timed is not None and timed.is_file():
        told = told.drop(columns="ms").merge(pd.read_csv(timed), on=["size", "name"], how="left")
    print(table(told).to_string(index=False))
    if options.output is not None:
        write(told, heads, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8], help="of LoRA; they set the sizes")
    parser.add_argument("--methods", nargs="*", default=["svdp", "sttp"], choices=["svdp", "sttp"])
    parser.add_argument("--paths", nargs="+", default=["riemannian"], choices=["riemannian", "householder"])
    parser.add_argument("--starts", nargs="+", default=["zero"], choices=["zero", "pissa", "gradient"])
    parser.add_argument("--peers", nargs="*", default=["lora"], choices=PEERS)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-2])
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="factors of a change of low rank")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, besides the one that chooses")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--evaluation", type=int, default=8, help="batches that a measure takes")
    parser.add_argument("--rounds", type=int, default=0, help="with --output: time steps of all methods in turn")
    parser.add_argument("--output", type=Path, help="folder of runs, report and figure")
    parser.add_argument("--read", type=Path, nargs="*", default=[], help="folders of further runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
