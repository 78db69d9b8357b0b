"""Train a network whose ranks change on the way to a budget, from several first ranks.

Every run starts at one rank in all layers. At intervals ranks shrink to the budget by the spectra, and then grow by
half in the directions in which the gradient is largest; in the last third of the run they stay. Ranks far below the
budget grow to it after the first step already, by directions as long as those that are there. Beside it, with
``--fixed``, a network of the same size whose ranks are given by the budget from the start.

Prints a line a run: its first rank and seed, the share of the dense network's numbers at the end (Z), degrees of
freedom, ranks of all layers, and test accuracy; then a table of means over the seeds, with 95 % intervals, and paired
differences from the last line of it, tested with Holm's correction. With ``--output``, every run is a line of a file in
that folder as soon as it ends, a command that is repeated trains what is missing, and the folder gets a page with the
tables of all files in it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sttp_riemann as sr
from sttp_riemann.lab.data import ImageData, load_dataset
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.studies.report import markdown_table
from sttp_riemann.lab.studies.statistics import difference, interval, judge, pair
from sttp_riemann.model.measures import layer_ranks

NETWORKS = {"digits": ("digits_resnet", {}), "fashion_mnist": ("cifar_resnet", {"depth": 8, "width": 16})}
SIZES = {"digits": None, "fashion_mnist": 14}
SETTINGS = ("data", "method", "frames", "steps", "changes", "budget", "lr", "spectra", "step")
"""Options that runs of one table share."""
ABOUT = """Every run starts at one rank in all layers. At intervals ranks shrink to the budget by the spectra, and then
grow by half in the directions in which the gradient is largest; in the last third of the run they stay. Ranks far below
the budget grow to it after the first step. Intervals are those of the mean, 95 %; p is of paired seeds, by an exact
sign-flip test up to 12 of them, with Holm's correction over the rows of a table. `examples/changing_ranks.py` writes
this page."""


def parsed() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=NETWORKS, default="digits")
    parser.add_argument("--first", type=int, nargs="+", default=[4, 16, 64], help="first ranks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", type=float, default=0.2, help="share of the dense network's numbers")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--changes", type=int, default=8, help="times that ranks change")
    parser.add_argument("--frames", choices=("riemannian", "householder"), default="riemannian")
    parser.add_argument("--method", choices=("sttp", "svdp"), default="sttp")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--spectra", type=float, default=10.0, help="learning rate of singular values, in lr")
    parser.add_argument("--step", type=float, default=1.0, help="size of the values that the first growth adds")
    parser.add_argument("--fixed", action="store_true", help="ranks of the budget from the start, too")
    parser.add_argument("--output", type=Path, help="folder of runs and tables")
    return parser.parse_args()


def train(options: argparse.Namespace, data: ImageData, first: int | None, seed: int) -> nn.Module:
    """One run, from a first rank or at fixed ranks."""
    torch.manual_seed(seed)
    name, settings = NETWORKS[options.data]
    model = build_model(name, num_classes=data.num_classes, in_channels=data.channels, **settings)
    size = {"budget": options.budget} if first is None else {"rank": first}
    sr.reparameterize(model, method=options.method, frames=options.frames, seed=seed, **size)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter_name, parameter in model.named_parameters():
        groups[parameter_name.endswith("spectrum")].append(parameter)
    # A new singular value begins at 0, and Adam moves it by about the learning rate
    spectra = {"params": groups[True], "lr": options.spectra * options.lr}
    optimizer = sr.RiemannianAdam([{"params": groups[False]}, spectra], lr=options.lr)
    if first is not None:
        until = 2 * options.steps // 3
        every = max(1, until // options.changes)
        sr.register_rank_change(model, optimizer, options.budget, until, every, step=options.step)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, options.steps)
    for _ in range(options.steps):
        images, labels = data.batch(torch.randint(len(data.train_labels), (64,)))
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageData) -> float:
    """Test accuracy in percent."""
    hits = 0
    with sr.cached(model):
        for part in torch.arange(len(data.test_labels)).split(500):
            images, labels = data.batch(part, train=False)
            hits += int((model(images).argmax(1) == labels).sum())
    return 100 * hits / len(data.test_labels)


def run(options: argparse.Namespace, data: ImageData, first: int | None, seed: int) -> dict[str, object]:
    """Train and measure."""
    model = train(options, data, first, seed)
    size = sr.compression(model)
    return {
        **{name: getattr(options, name) for name in SETTINGS},
        "first": "fixed" if first is None else str(first),
        "seed": seed,
        "z": size.ratio,
        "dof": size.dof,
        "ranks": " ".join(map(str, layer_ranks(model).values())),
        "accuracy": accuracy(model, data),
    }


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals of each first rank, and the difference from the last one."""
    found = {str(first): own.set_index("seed") for first, own in runs.groupby("first", sort=False)}
    scores = {name: own.accuracy.to_dict() for name, own in found.items()}
    *others, last = found
    gaps = judge([difference(pair(scores[name], scores[last])) for name in others])
    rows = []
    for name, own in found.items():
        low, high = interval([*own.accuracy])
        row = {
            "first rank": name,
            "seeds": f"{len(own)}",
            "Z (%)": f"{own.z.mean():.2f}",
            "dof": f"{own.dof.mean():,.0f}",
        }
        bounds = "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
        row |= {"accuracy (%)": f"{own.accuracy.mean():.2f}", "95 % interval": bounds}
        gap = dict(zip(others, gaps, strict=True)).get(name)
        told = "" if gap is None else f"{gap.mean:+.2f} ({gap.low:+.2f} to {gap.high:+.2f}), p {gap.p:.2g}"
        rows.append(row | {f"less {last}": told})
    return pd.DataFrame(rows)


def read(file: Path) -> pd.DataFrame:
    """Runs of earlier commands."""
    return pd.read_csv(file, dtype={"first": str})


def there(options: argparse.Namespace, file: Path | None) -> list[dict[str, object]]:
    """Runs that a file has already; they must have been made with the same options."""
    if file is None or not file.is_file():
        return []
    runs = read(file)
    for name in SETTINGS:
        if (runs[name] != getattr(options, name)).any():
            raise SystemExit(f"the runs in {file.name} have another {name}: give --{name} as they had it")
    return runs.to_dict("records")


def write(folder: Path) -> None:
    """A page with the tables of all files in a folder."""
    page = ["# Ranks that change in training, from several first ranks", ABOUT]
    for file in sorted(folder.glob("*.csv")):
        runs = read(file)
        shared = ", ".join(f"{name} {runs[name].iloc[0]}" for name in SETTINGS)
        name, settings = NETWORKS[runs.data.iloc[0]]
        size = SIZES[runs.data.iloc[0]]
        network = " ".join([name, *(f"{key} {value}" for key, value in settings.items())])
        images = "" if size is None else f", images of {size} x {size}"
        page += [f"## {file.stem}", markdown_table(table(runs)), f"Network {network}{images}; {shared}."]
    (folder / "report.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


def main() -> None:
    """Run all first ranks and seeds."""
    options = parsed()
    data = load_dataset(options.data, image_size=SIZES[options.data])
    file = options.output and options.output / f"{options.data}-{options.method}-{options.frames}.csv"
    runs = there(options, file)
    done = {(row["first"], row["seed"]): row for row in runs}
    for seed in options.seeds:
        for first in [*options.first, *([None] if options.fixed else [])]:
            row = done.get(("fixed" if first is None else str(first), seed))
            if row is None:
                row = run(options, data, first, seed)
                runs.append(row)
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    pd.DataFrame([row]).to_csv(file, mode="a", index=False, header=not file.exists())
            size = f"Z {row['z']:.2f} %, dof {row['dof']:,}, ranks {row['ranks']}"
            print(f"first rank {row['first']}, seed {seed}: {size}, accuracy {row['accuracy']:.2f}", flush=True)
    print(markdown_table(table(pd.DataFrame(runs))))
    if file is not None:
        write(options.output)


if __name__ == "__main__":
    main()
