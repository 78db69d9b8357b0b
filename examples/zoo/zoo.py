"""Every verb on models of torchvision, timm, transformers and diffusers: what is reached, and what works.

Weights are random. Each model is measured in a process of its own, which is ended after ``--seconds``. A line of
``results.jsonl`` in the folder given by ``--output`` holds what was found of it, so the same command goes on where it
was cut off; the table is ``report.md`` beside it. Packages that are not installed are left out, and told.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import of_diffusers
import of_timm
import of_torchvision
import of_transformers
import torch
from case import RANK
from measure import measure
from report import report
from row import Row
from torch import nn
from verbs import BOTH, VERBS

from sttp_riemann.model.reach import REASONS

HEAVY = {
    "torchvision": "torchvision.models",
    "timm": "timm.models",
    "transformers": "transformers.generation",
    "diffusers": "diffusers.models.modeling_utils",
}
"""What all processes have in common, so it is imported once for all of them."""
TOY = Row("torch", "toy", lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), lambda: (torch.eye(8),))
"""Measured first in this process, as torch imports much at the first call of an optimizer."""
ROWS = (*of_transformers.ROWS, *of_diffusers.ROWS, *of_torchvision.ROWS, *of_timm.ROWS)


def read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What was found so far, by package and model; the last line about a model counts."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return {(own["package"], own["model"]): own for own in found}


def isolated(row: Row, seconds: float, verbs: Sequence[str] = ()) -> dict[str, Any]:
    """Measure a model in a process of its own; a crash or a timeout is what is found then."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, row, verbs))
    process.start()
    there.close()
    try:
        if here.poll(seconds):
            return here.recv()
        text = f"took more than {seconds:g} seconds"
    except EOFError:
        text = "its process ended"
    finally:
        process.kill()
        process.join()
    return {"package": row.package, "model": row.name, "crash": text}


def _send(there: Any, row: Row, verbs: Sequence[str]) -> None:
    torch.set_num_threads(1)
    try:
        there.send(measure(row, verbs))
    except Exception as error:
        there.send({"package": row.package, "model": row.name, "crash": f"{type(error).__name__}: {error}"[:300]})


def main() -> None:
    """Measure what is not measured yet, and write the table."""
    parser = argparse.ArgumentParser(description="Every verb on models of torchvision, timm, transformers, diffusers.")
    parser.add_argument("--output", type=Path, required=True, help="folder for results.jsonl and report.md")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="names or patterns of models")
    parser.add_argument("--again", action="store_true", help="measure these models again")
    parser.add_argument("--verbs", nargs="+", default=[], choices=list(VERBS), metavar="VERB", help="only these")
    parser.add_argument("--seconds", type=float, default=600, help="longest time of a model")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "results.jsonl"
    found = read(path)
    warm = False
    for row in ROWS:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for pattern in given.only):
            continue
        if (row.package, row.name) in found and not given.again:
            continue
        if find_spec(row.package) is None:
            print(f"left out: {row.name}: {row.package} is not installed")
            continue
        importlib.import_module(HEAVY[row.package])
        warm = warm or bool(measure(TOY))
        own = found[row.package, row.name] = isolated(row, given.seconds, given.verbs)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(own) + "\n")
        print(told(own), flush=True)
    ordered = [found[row.package, row.name] for row in ROWS if (row.package, row.name) in found]
    path.write_text("".join(json.dumps(own) + "\n" for own in ordered), encoding="utf-8")
    (given.output / "report.md").write_text(page(found), encoding="utf-8")
    print(f"written to {path} and {given.output / 'report.md'}")


def page(found: Mapping[tuple[str, str], dict[str, Any]]) -> str:
    """The report on all rows, as Markdown."""
    texts = {name: str(verb.__doc__).rstrip(".") for name, verb in VERBS.items()}
    blank = {(row.package, row.name): {"package": row.package, "model": row.name} for row in ROWS}
    return report(list({**blank, **found}.values()), RANK, texts, BOTH, REASONS)


def told(own: dict[str, Any]) -> str:
    """One line about a model."""
    if "crash" in own:
        return f"{own['model']}: {own['crash']}"
    bad = {text for variant in own["variants"].values() for text in variant["failed"].items()}
    text = own["dense"] or ("; ".join(f"{verb}: {why}" for verb, why in sorted(bad)) or "all verbs")
    return f"{own['model']}: {own['seconds']} s; {text}"


if __name__ == "__main__":
    main()
