"""The options of every command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.bench.settings import DEVICES, ROWS
from sttp_riemann.lab.cli.help import HelpFormatter
from sttp_riemann.lab.studies.measures import SIZES
from sttp_riemann.lab.training.fields import (
    Count,
    Every,
    Field,
    FilePath,
    Fraction,
    Inside,
    Positive,
    Seed,
    Steps,
    restricted,
    words,
)
from sttp_riemann.lab.training.plain import check_text, shown
from sttp_riemann.lab.training.recipe import FIELDS

# The rest of a long message repeats the given value
MOST_OF_A_MESSAGE = 4000
FLAG = {"action": "store_true"}
RECIPE = (FilePath, "name of a shipped recipe, or a .yaml file")
CHECKPOINT = (FilePath, "the folder of a run, or a checkpoint")
READING = {
    "--margin": (
        Positive,
        "difference in the first measure that does not matter; 0.5 points of accuracy or 0.005 of R^2 by default",
    ),
    "--choose": (list[str], "fields whose best value is chosen by held-out examples, as lr always is"),
    "--target": (Inside, "accuracy, or R^2, that steps are counted to; 0.95 by default"),
}
SWEEP = (
    list[str],
    "values of further fields, such as init=orthogonal,noisy_identity; of lr=1e-3,3e-3 the best is chosen by the "
    "examples that validation holds out",
    {"action": "append", "metavar": "FIELD=VALUES"},
)
WORKERS = (Count, "number of runs at a time, each in its own process; 1 by default")
CALIBRATE = "training examples for measuring layers' inputs, to preserve outputs instead of weights; 2048 with epochs"
IMPORT = (
    "first import your module that adds data sets, networks, frames, optimizers or penalties; may be given "
    "several times, to every command"
)
COMMANDS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    # What it does; the scopes of recipe fields that it does not use; type and help of its own options
    "compare": (
        "Compare methods, frames and seeds; write results.csv, figures and a report.",
        "run",
        {
            "--recipe": RECIPE,
            "--workers": WORKERS,
            "--sweep": SWEEP,
            **READING,
        },
    ),
    "report": (
        "Write results.csv, figures and a report of finished runs, whichever commands made them.",
        None,
        {
            "runs": (list[FilePath], "folders of runs, or folders that contain them"),
            "--output": (FilePath, "folder to write to; runs/report by default"),
            **READING,
            "--size": (
                Literal[tuple(SIZES)],  # type: ignore[valid-type]
                "what ranks are drawn over and compared at; ratio, which is Z, by default",
            ),
        },
    ),
    "ablate": (
        "Compare the Riemannian with the Householder path: accuracy or R^2 over ranks and learning rates, "
        "conditioning, gradients, drift in float32.",
        None,
        {
            "--recipe": RECIPE,
            "--ranks": (list[Steps], "ranks of all layers"),
            "--rates": (list[Positive], "learning rates"),
            "--sweep": SWEEP,
            "--seeds": (list[Seed], "seeds; the recipe's by default"),
            "--steps": (Steps, "steps of a run; the recipe's by default"),
            "--validation": (Fraction, "share of training examples held out; the recipe's by default"),
            **READING,
            "--drift_steps": (Steps, "steps of the drift in float32"),
            "--workers": WORKERS,
            "--output": (FilePath, "folder of the study; runs/NAME of the recipe by default"),
        },
    ),
    "train": ("Train one network as a recipe says.", "study", {"recipe": RECIPE}),
    "compress": (
        "Compress a trained network to low-rank weights, as close as the ranks allow; fine-tune it if asked.",
        "study gan start",
        {
            "model": (FilePath, "torchvision:NAME, the folder or a checkpoint of a dense run, or weights of --network"),
            "--network": (str, "the network that MODEL holds the weights of, such as mynet:MyNet"),
            "--network_options": (dict[str, Any], "its options, as --network_options.width 32"),
            "--epochs": (Every, "epochs of fine-tuning; 0 by default"),
            "--calibrate": (Every, CALIBRATE),
            "--weights": (FilePath, "state_dict of a torchvision network, .safetensors or .pth"),
        },
    ),
    "inspect": ("Inspect every layer of a run's networks.", None, {"checkpoint": CHECKPOINT}),
    "export": (
        "Write a trained network with ordinary dense layers, for other programs.",
        None,
        {
            "checkpoint": CHECKPOINT,
            "--to": (FilePath, "a .safetensors, .onnx or .pt2 file to write", {"required": True}),
        },
    ),
    "recipes": ("List the shipped recipes.", None, {}),
    "bench": (
        "Measure frames, optimizer and training steps against the peers; write results.csv, figures and a report.",
        None,
        {
            "--device": (Literal[DEVICES], "where to compute"),  # type: ignore[valid-type]
            "--rows": (list[Literal[ROWS]], "what to measure; all by default"),  # type: ignore[valid-type]
            "--repetitions": (Count, "rounds in which the contestants take turns; 15 by default"),
            "--budget": (Positive, "seconds for one contestant in a row; 30 by default"),
            "--output": (FilePath, "folder to write to; runs/bench by default"),
            "--quick": (None, "tiny shapes, to check that everything runs", FLAG),
            "--compile": (None, "pass networks through torch.compile", FLAG),
        },
    ),
}


def fields_for(command: str) -> dict[str, Field]:
    """Recipe fields that are options of a command.

    Parameters
    ----------
    command : str
        Its name.

    Returns
    -------
    dict[str, Field]
        By the options' names, without dashes.
    """
    unused = COMMANDS[command][1]
    return {} if unused is None else {n: f for n, f in FIELDS.items() if not f.scope & set(unused.split())}


def parse(argv: list[str]) -> tuple[str, dict[str, Any]]:
    """Parse the command line.

    Parameters
    ----------
    argv : list of str
        Arguments.

    Returns
    -------
    command : str
        Key of `COMMANDS`.
    given : dict[str, Any]
        Options; those not given are left out, as the recipe comes before the defaults.

    Raises
    ------
    RecipeError
        A command, an option or a value is not known.
    """
    for text in argv:
        check_text("an argument", text)
    try:
        arguments = build_parser().parse_args(argv, defaults=False)
    except argparse.ArgumentError as error:
        raise RecipeError(_readable(str(error)[:MOST_OF_A_MESSAGE], argv[:1])) from error
    except Exception as error:
        # What the parser raises on text that it cannot handle, such as brackets nested 1,500 deep
        raise RecipeError(f"the command line cannot be read: {shown(str(error))}; see --help") from error
    return arguments.subcommand, _plain(arguments[arguments.subcommand].as_dict())


@cache
def build_parser() -> ArgumentParser:
    """Parser for all commands."""
    about: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "formatter_class": HelpFormatter}
    what = "Spectral tensor train layers on both paths."
    parser = ArgumentParser(prog="sttp-riemann", description=what, version=version("sttp-riemann"), **about)
    # Processed before anything else, in any position: see `sttp_riemann.lab.plugins`
    parser.add_argument("--import", metavar="MODULE", type=str, help=IMPORT)
    commands = parser.add_subcommands(required=True, metavar="COMMAND")
    for command, (description, _, own) in COMMANDS.items():
        inner = ArgumentParser(description=description, **about)
        for name, (hint, help, *more) in own.items():
            _add(inner, name, hint, help, *more)
        groups: dict[str, Any] = {}
        for name, field in fields_for(command).items():
            if field.path[0] not in groups:
                groups[field.path[0]] = inner.add_argument_group(field.path[0]) if len(field.path) > 1 else inner
            # For --help only: options not given are left to the recipe
            told = {"default": field.default}
            _add(groups[field.path[0]], f"--{name}", field.hint, field.metadata["help"], told)
        commands.add_subcommand(command, inner, help=description)
    return parser


def _add(parser: Any, name: str, hint: Any, help: str, more: Mapping[str, Any] = MappingProxyType({})) -> None:
    count = {"nargs": "+"} if get_origin(hint) is list else {}
    kind = {} if hint is None else {"type": restricted(get_args(hint)[0] if count else hint)}
    parser.add_argument(name, help=help, **kind, **count, **more)


def _plain(value: Any) -> Any:
    """Turn the parser's own kinds of numbers and texts into Python's, which YAML can write."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    base = next((base for base in (bool, int, float, str) if isinstance(value, base)), None)
    return value if base is None else base(value)


def _readable(message: str, command: Iterable[str]) -> str:
    """Rephrase jsonargparse's message for readers who do not know Python types."""
    found = re.search(r'Parser key "([^"]*)".*?(?:Got value|Given value): ([^\n]*)', message, flags=re.S)
    for name in command if found else ():
        hints = {option: field.hint for option, field in fields_for(name).items()}
        hints |= {option.strip("-"): hint for option, (hint, *_) in COMMANDS[name][2].items()}
        if found and found[1] in hints:
            return f"--{found[1]} must be {words(hints[found[1]])}, not {shown(found[2])}; see --help"
    texts = {"train.recipe": "RECIPE", "report.runs": "RUN", '"subcommand"': "the command", "Expected": "expected"}
    for theirs, ours in texts.items():
        message = message.replace(theirs, ours)
    return f"{message.rstrip('.')}; see --help"
