"""The options of every command."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.bench.settings import DEVICES, ROWS
from sttp_riemann.lab.cli.help import HelpFormatter
from sttp_riemann.lab.training.checks import PATHS, check_path
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.typecheck import LARGEST_WHOLE, check_text, shown

# The rest of a long one repeats the value that was given
MOST_OF_A_MESSAGE = 4000
FIELDS = tuple(field.name for field in dataclasses.fields(Recipe))
MARGIN_HELP = "difference in the first measure that does not matter; 0.5 points of accuracy by default"
CHECKPOINT_HELP = "the folder of a run, or a checkpoint"
# Fields of a recipe that say what is trained from the start, or compared
NOT_OF_COMPRESS = (
    *("name", "summary", "task", "network", "network_options", "conditional", "image_size", "channels", "init"),
    *("methods", "paths", "spectra", "ranks", "seeds", "paper", "steps", "evaluate_every"),
    *("gan_loss", "discriminator_steps"),
    *("metrics", "extractor", "extractor_weights", "metric_samples", "is_splits", "kid_subsets", "kid_subset_size"),
    *("operator_norms",),
    *(field.name for field in dataclasses.fields(Recipe) if field.name.startswith("generator")),
)


def parse(argv: list[str]) -> Namespace:
    """Read the command line; what it does not give is left out, as a recipe stands between it and the defaults.

    Raises
    ------
    RecipeError
        A command, an option or a value is not known.
    """
    for text in argv:
        check_text("an argument", text)
        _check_anchors(text)
    try:
        found = build_parser().parse_args(argv, defaults=False)
    except argparse.ArgumentError as error:
        raise RecipeError(_readable(str(error)[:MOST_OF_A_MESSAGE])) from error
    except Exception as error:
        # What the parser of others makes of text that it has no answer to, such as brackets nested 1,500 deep
        raise RecipeError(f"the command line cannot be read: {shown(str(error))}; see --help") from error
    _check(found)
    return found


def _check_anchors(text: str) -> None:
    """Refuse a value that YAML would repeat: a few lines can make millions."""
    with suppress(yaml.YAMLError, RecursionError):
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise RecipeError(f"an argument must not refer to parts of itself: {shown(text)}")


def _check(found: Namespace) -> None:
    """Refuse what no option has a use for; fields of a recipe are checked with it, so that one rule holds for both."""
    for name, value in vars(found).items():
        of_recipe = name in FIELDS and name not in PATHS
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Namespace):
                _check(item)
            elif isinstance(item, str) and not of_recipe:
                check_path(f"--{name}", item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise RecipeError(f"--{name} must be a finite number, not {item}")
            elif isinstance(item, int) and not of_recipe and abs(item) > LARGEST_WHOLE:
                raise RecipeError(f"--{name} must be at most {LARGEST_WHOLE}, not {shown(item)}")


def build_parser() -> ArgumentParser:
    """Parser of all commands."""
    parser = ArgumentParser(
        prog="sttp-riemann",
        description="Spectral tensor train layers on both paths.",
        version=version("sttp-riemann"),
        exit_on_error=False,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    # Taken before anything else is read, in any place: see `sttp_riemann.lab.plugins`
    parser.add_argument(
        "--import",
        metavar="MODULE",
        type=str,
        help="import a module of your own first, which adds data sets, networks, frames, optimizers or penalties; may "
        "be given several times, to every command",
    )
    commands = parser.add_subcommands(required=True, metavar="COMMAND")
    compare = _recipe_parser(
        "Compare methods, frames and seeds; write results.csv, figures and a report.", ("method", "frames", "seed")
    )
    compare.add_argument("--recipe", type=str, default="digits", help="name of a shipped recipe, or a .yaml file")
    compare.add_argument("--workers", type=int, help="runs under way at a time, each in a process; 1 by default")
    compare.add_argument(
        "--sweep",
        type=str,
        action="append",
        nargs="+",
        metavar="FIELD=VALUES",
        help="values of further fields, such as init=orthogonal,identity; of lr=1e-3,3e-3 the best is chosen by the "
        "images that validation holds out",
    )
    compare.add_argument("--margin", type=float, help=MARGIN_HELP)
    commands.add_subcommand("compare", compare, help="compare methods, frames and seeds, and write a report")
    commands.add_subcommand("report", _report_parser(), help="write the report of runs that are there")
    commands.add_subcommand("ablate", _ablate_parser(), help="compare both paths over ranks and learning rates")
    train = _recipe_parser("Train one network as a recipe says.", ("methods", "paths", "ranks", "seeds"))
    train.add_argument("recipe", type=str, help="name of a shipped recipe, or a .yaml file")
    commands.add_subcommand("train", train, help="train one network")
    commands.add_subcommand("compress", _compress_parser(), help="compress a trained network")
    read = ArgumentParser(
        description="Tell of every layer of a run's networks.", exit_on_error=False, formatter_class=HelpFormatter
    )
    read.add_argument("checkpoint", type=str, help=CHECKPOINT_HELP)
    commands.add_subcommand("inspect", read, help="tell of every layer of a run's networks")
    export = ArgumentParser(
        description="Write a classifier with ordinary dense layers.", exit_on_error=False, formatter_class=HelpFormatter
    )
    export.add_argument("checkpoint", type=str, help=CHECKPOINT_HELP)
    export.add_argument("--to", type=str, required=True, help="a .safetensors, .onnx or .pt2 file to write")
    commands.add_subcommand("export", export, help="write a dense network for other programs")
    commands.add_subcommand(
        "recipes",
        ArgumentParser(description="List the shipped recipes.", exit_on_error=False, formatter_class=HelpFormatter),
        help="list the shipped recipes",
    )
    commands.add_subcommand("bench", _bench_parser(), help="measure speed and memory against the peers")
    return parser


def _recipe_parser(description: str, unused: Sequence[str]) -> ArgumentParser:
    """Parser with an option for every field of a recipe but those that the command has no use for."""
    parser = ArgumentParser(description=description, exit_on_error=False, formatter_class=HelpFormatter)
    hints = get_type_hints(Recipe)
    for field in (f for f in dataclasses.fields(Recipe) if f.name not in unused):
        hint: Any = hints[field.name]
        many = get_origin(hint) is list
        extra: dict[str, Any] = {"nargs": "+"} if many else {}
        kind = get_args(hint)[0] if many else hint
        # Told by --help alone: what the command line does not give is left to the recipe
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        parser.add_argument(f"--{field.name}", type=kind, default=default, help=field.metadata["help"], **extra)
    return parser


def _report_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Write results.csv, figures and a report of finished runs, whichever commands made them.",
        exit_on_error=False,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help="folders of runs, or folders that hold such")
    parser.add_argument("--output", type=str, help="folder to write to; runs/report by default")
    parser.add_argument("--margin", type=float, help=MARGIN_HELP)
    return parser


def _ablate_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Compare the Riemannian with the Householder path: accuracy over ranks and learning rates, "
        "conditioning, gradients, drift in float32.",
        exit_on_error=False,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--recipe", type=str, help="name of a shipped recipe, or a .yaml file; digits-ablation by default"
    )
    parser.add_argument("--ranks", type=int, nargs="+", help="ranks of all layers")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds; the recipe's by default")
    parser.add_argument("--steps", type=int, help="steps of a run; the recipe's by default")
    parser.add_argument("--validation", type=float, help="share of training images held out; the recipe's by default")
    parser.add_argument("--margin", type=float, help=MARGIN_HELP)
    parser.add_argument("--drift_steps", type=int, help="steps of the drift in float32")
    parser.add_argument("--workers", type=int, help="runs under way at a time, each in a process; 1 by default")
    parser.add_argument("--output", type=str, help="folder of the study; runs/NAME of the recipe by default")
    return parser


def _compress_parser() -> ArgumentParser:
    parser = _recipe_parser(
        "Write a trained network with low-rank weights, as near to its own as ranks allow; fine-tune it if asked.",
        NOT_OF_COMPRESS,
    )
    parser.add_argument("model", type=str, help="torchvision:NAME, or the folder or a checkpoint of a dense run")
    parser.add_argument("--epochs", type=int, help="passes over the training images to fine-tune by; 0 by default")
    parser.add_argument(
        "--calibrate",
        type=int,
        help="training images on which layers' inputs are measured, to keep outputs, not weights; 2048 with epochs",
    )
    parser.add_argument("--weights", type=str, help="state_dict of a torchvision network, .safetensors or .pth")
    return parser


def _bench_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Measure frames, optimizer and training steps against the peers; write a table and figures.",
        exit_on_error=False,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--device", choices=DEVICES, help="where to compute")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="what to measure; all by default")
    parser.add_argument("--repetitions", type=int, help="rounds in which the contestants take turns; 15 by default")
    parser.add_argument("--budget", type=float, help="seconds for one contestant in a row; 30 by default")
    parser.add_argument("--output", type=str, help="the report, a .md file; runs/benchmarks.md by default")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that everything runs")
    parser.add_argument("--compile", action="store_true", help="pass networks through torch.compile")
    return parser


def _readable(message: str) -> str:
    """Say what jsonargparse says in words of a reader who knows no Python types."""
    message = re.sub(r'Parser key "([^"]*)"(?: element \d+)?:\s*', r"--\1: ", message)
    message = re.sub(
        r"Does not validate against any.*?Subtypes: \[(.*)\]\s+Errors:.*Given value: (.*)", _union, message, flags=re.S
    )
    message = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", message)
    for kind, words in {"int": "whole number", "float": "number", "dict": "mapping", "bool": "true or false"}.items():
        message = message.replace(f"<class '{kind}'>", words)
    message = message.replace("Expected a ", "expected ").replace(". Got value: ", ", got ")
    message = (
        message.replace("train.recipe", "RECIPE").replace("report.runs", "RUN").replace('"subcommand"', "the command")
    )
    return f"{message.rstrip('.')}; see --help"


def _union(found: re.Match[str]) -> str:
    kinds = found[1].replace(", <class 'NoneType'>", "").replace("dict[str, typing.Any]", "<class 'dict'>")
    return f"Expected a {kinds.replace(', ', ' or ')}. Got value: {found[2]}"
