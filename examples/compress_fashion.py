"""Compress trained networks to a tenth of their numbers on both paths, and train them for two more epochs.

For every seed a dense network is trained by the recipe ``fashion`` (Fashion-MNIST at 14 x 14 pixels; see
docs/guide/training.md for the data), and compressed in copies of it. All of it goes into a folder: the same command
resumes there, and further seeds are added to those that are done.

Prints a row a network: size of the file beside the dense one's, test accuracy before, after compression and after
fine-tuning, and the lost points; and for each path their mean with its 95 % interval, and whether it is within a point.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from sttp_riemann import lab
from sttp_riemann.lab.compression import FIGURES
from sttp_riemann.lab.studies.statistics import difference
from sttp_riemann.lab.training.loop import RESULT

NETWORK = {"depth": 8, "width": 32}
ROWS = "compression.csv"
KEY = ["method", "frames", "lr", "seed"]


def parsed() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/compress-fashion"))
    parser.add_argument("--recipe", default="fashion")
    parser.add_argument("--steps", type=int, default=1688, help="steps of a dense network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--budget", type=float, default=0.1, help="share of the dense network's numbers")
    parser.add_argument("--methods", nargs="+", choices=("sttp", "svdp"), default=["sttp"])
    parser.add_argument(
        "--frames", nargs="+", choices=("riemannian", "householder"), default=["riemannian", "householder"]
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-3], help="rates of fine-tuning")
    return parser.parse_args()


def dense(options: argparse.Namespace, seed: int) -> Path:
    """The folder of a trained dense network."""
    folder = options.output / f"dense-{seed}"
    if not (folder / RESULT).exists():
        fields = {"network_options": NETWORK, "steps": options.steps, "evaluate_every": options.steps, "seed": seed}
        lab.train(options.recipe, method="dense", output=str(folder), **fields)
    return folder


def compressed(options: argparse.Namespace, method: str, frames: str, lr: float, seed: int) -> dict[str, object]:
    """A row: what the compression of one network costs."""
    folder = options.output / f"{method}-{frames}-{options.budget}-{lr}-{seed}"
    if not (folder / FIGURES).exists():
        fields = {"budget": options.budget, "method": method, "frames": frames, "lr": lr, "seed": seed}
        lab.compress(str(dense(options, seed)), output=folder, epochs=options.epochs, **fields)
    found = json.loads((folder / FIGURES).read_text())
    accuracies = {name: 100 * value for name, value in found["accuracies"].items()}
    return {
        **dict(zip(KEY, (method, frames, lr, seed), strict=True)),
        "Z": found["ratio"],
        "file": 100 * found["bytes"] / found["dense_bytes"],
        **accuracies,
        "validation": 100 * found["history"][-1].get("validation_accuracy", float("nan")),
        "lost": accuracies["dense"] - accuracies["fine_tuned"],
    }


def main() -> None:
    """Do what the command line asks for."""
    options = parsed()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = [
        compressed(options, method, frames, lr, seed)
        for seed in options.seeds
        for method in options.methods
        for frames in options.frames
        for lr in options.lr
    ]
    table, path = pd.DataFrame(rows), options.output / ROWS
    if path.exists():
        table = pd.concat([pd.read_csv(path), table]).drop_duplicates(KEY, keep="last").sort_values(KEY)
    table.to_csv(path, index=False, float_format="%.6g")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for (method, frames, lr), group in table.groupby(KEY[:3]):
        print(f"{method.upper()} {frames}, rate {lr:g}, {len(group)} seeds: ", end="")
        print(f"file at most {group.file.max():.2f} % of the dense network's; ", end="")
        if len(group) > 1:
            cost = difference(list(group.lost), margin=1.0)
            within = "within" if cost.equivalent else "not shown to be within"
            print(f"{cost.mean:.2f} points lost ({cost.low:.2f} to {cost.high:.2f}), {within} one point; ", end="")
        print(f"validation accuracy {group.validation.mean():.2f} %")


if __name__ == "__main__":
    main()
