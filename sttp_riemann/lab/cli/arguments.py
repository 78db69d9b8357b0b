"""The options of every command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Annotated, Any

from jsonargparse import ArgumentParser, Namespace

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.bench.settings import DEVICES, ROWS
from sttp_riemann.lab.training.fields import Count, Every, Field, FilePath, Range, Steps
from sttp_riemann.lab.training.plain import check_text, shown
from sttp_riemann.lab.training.recipe import FIELDS

# The rest of a long one repeats the value that was given
MOST_OF_A_MESSAGE = 4000
Positive = Annotated[float, Range(above=0, most=10**9)]


def _own(hint: Any, help: str, **more: Any) -> tuple[Field, dict[str, Any]]:
    """Describe an option that is no field of a recipe."""
    return Field((), hint, None, {"help": help}), more


RECIPE = "name of a shipped recipe, or a .yaml file"
CHECKPOINT = _own(FilePath, "the folder of a run, or a checkpoint")
WORKERS = _own(Count, "runs under way at a time, each in a process; 1 by default")
COMMANDS: dict[str, tuple[str, str, str | None, dict[str, Any]]] = {
    # In a line of the list of commands, and as a whole; fields of a recipe that it has no use for; its own options
    "compare": (
        "compare methods, frames and seeds, and write a report",
        "Compare methods, frames and seeds; write results.csv, figures and a report.",
        "run",
        {"--recipe": _own(FilePath, RECIPE, default="digits"), "--workers": WORKERS},
    ),
    "report": (
        "write the report of runs that are there",
        "Write results.csv, figures and a report of finished runs, whichever commands made them.",
        None,
        {
            "runs": _own(list[FilePath], "folders of runs, or folders that hold such", metavar="RUN"),
            "--output": _own(FilePath, "folder to write to; runs/report by default"),
        },
    ),
    "ablate": (
        "compare both paths over ranks and learning rates",
        "Compare the Riemannian with the Householder path: accuracy over ranks and learning rates, conditioning, "
        "gradients, drift in float32.",
        None,
        {
            "--recipe": _own(FilePath, f"{RECIPE}; digits-ablation by default"),
            "--ranks": _own(list[Steps], "ranks of all layers"),
            "--rates": _own(list[Positive], "learning rates"),
            "--seeds": _own(FIELDS["seeds"].hint, "seeds; the recipe's by default"),
            "--steps": _own(Steps, "steps of a run; the recipe's by default"),
            "--target": _own(Positive, "test accuracy in percent, the steps to which are told"),
            "--drift_steps": _own(Steps, "steps of the drift in float32"),
            "--workers": WORKERS,
            "--output": _own(FilePath, "the page, a .md file; runs/comparison.md by default"),
        },
    ),
    "train": (
        "train one network",
        "Train one network as a recipe says.",
        "study",
        {"recipe": _own(FilePath, RECIPE)},
    ),
    "compress": (
        "compress a trained network",
        "Write a trained network with low-rank weights, as near to its own as ranks allow; fine-tune it if asked.",
        "study gan start",
        {
            "model": _own(FilePath, "torchvision:NAME, or the folder or a checkpoint of a dense run"),
            "--epochs": _own(Every, "passes over the training images to fine-tune by; 0 by default"),
            "--calibrate": _own(
                Every,
                "training images on which layers' inputs are measured, to keep outputs, not weights; 2048 with epochs",
            ),
            "--weights": _own(FilePath, "state_dict of a torchvision network, .safetensors or .pth"),
        },
    ),
    "inspect": (
        "tell of every layer of a run's networks",
        "Tell of every layer of a run's networks.",
        None,
        {"checkpoint": CHECKPOINT},
    ),
    "export": (
        "write a dense network for other programs",
        "Write a classifier with ordinary dense layers.",
        None,
        {
            "checkpoint": CHECKPOINT,
            "--to": _own(FilePath, "a .safetensors, .onnx or .pt2 file to write", required=True),
        },
    ),
    "recipes": ("list the shipped recipes", "List the shipped recipes.", None, {}),
    "bench": (
        "measure speed and memory against the peers",
        "Measure frames, optimizer and training steps against the peers; write a table and figures.",
        None,
        {
            "--device": _own(str, "where to compute", choices=DEVICES),
            "--rows": _own(list[str], "what to measure; all by default", choices=ROWS),
            "--repetitions": _own(Count, "rounds in which the contestants take turns; 15 by default"),
            "--budget": _own(Positive, "seconds for one contestant in a row; 30 by default"),
            "--output": _own(FilePath, "the report, a .md file; runs/benchmarks.md by default"),
            "--quick": _own(bool, "tiny shapes, to see that everything runs", default=False),
            "--compile": _own(bool, "pass networks through torch.compile", default=False),
        },
    ),
}


def fields_for(command: str) -> dict[str, Field]:
    """Give the fields of a recipe that are options of a command.

    Parameters
    ----------
    command : str
        Its name.

    Returns
    -------
    dict[str, Field]
        By the options' names, without dashes.
    """
    unused = COMMANDS[command][2]
    return {} if unused is None else {n: f for n, f in FIELDS.items() if not f.scope & set(unused.split())}


def parse(argv: list[str]) -> Namespace:
    """Read the command line; what it does not give is left out, as a recipe stands between it and the defaults.

    Raises
    ------
    RecipeError
        A command, an option or a value is not known.
    """
    for text in argv:
        check_text("an argument", text)
    try:
        return build_parser().parse_args(argv, defaults=False)
    except argparse.ArgumentError as error:
        raise RecipeError(_readable(str(error)[:MOST_OF_A_MESSAGE], argv[:1])) from error
    except Exception as error:
        # What the parser of others makes of text that it has no answer to, such as brackets nested 1,500 deep
        raise RecipeError(f"the command line cannot be read: {shown(str(error))}; see --help") from error


def build_parser() -> ArgumentParser:
    """Parser of all commands."""
    parser = ArgumentParser(
        prog="sttp-riemann",
        description="Spectral tensor train layers on both paths.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(required=True, metavar="COMMAND")
    for command, (line, description, _, own) in COMMANDS.items():
        inner = ArgumentParser(description=description, exit_on_error=False)
        for name, (field, more) in own.items():
            field.add_to(inner, name, **more)
        groups: dict[str, Any] = {}
        for name, field in fields_for(command).items():
            section = field.path[0] if len(field.path) > 1 else "recipe"
            if section not in groups:
                groups[section] = inner.add_argument_group(section)
            field.add_to(groups[section], f"--{name}")
        commands.add_subcommand(command, inner, help=line)
    return parser


def _readable(message: str, command: Iterable[str]) -> str:
    """Say what jsonargparse says in words of a reader who knows no Python types."""
    found = re.search(r'Parser key "([^"]*)".*?(?:Got value|Given value): ([^\n]*)', message, flags=re.S)
    for name in command if found else ():
        own = {option.strip("-"): field for option, (field, _) in COMMANDS[name][3].items()}
        field = (fields_for(name) | own).get(found[1])  # type: ignore[index]
        if field is not None:
            return f"--{found[1]} must be {field.words}, not {shown(found[2])}; see --help"  # type: ignore[index]
    words = {"train.recipe": "RECIPE", "report.runs": "RUN", '"subcommand"': "the command", "Expected": "expected"}
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return f"{message.rstrip('.')}; see --help"
