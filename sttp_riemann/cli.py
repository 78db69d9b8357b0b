"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from sttp_riemann import recipes
from sttp_riemann.study.bench.settings import DEVICES, ROWS, Settings
from sttp_riemann.training.errors import RecipeError, ReportedError
from sttp_riemann.training.recipe import Recipe

INTERRUPTED = 130
CHECKPOINT_HELP = "the folder of a run, or a checkpoint"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, 1 for a fault while running, 2 for one in what was asked.
    """
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        COMMANDS[arguments.subcommand](arguments[arguments.subcommand])
    except ReportedError as error:
        print(f"sttp-riemann: {_one_line(str(error))}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("sttp-riemann: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return 0


def _compare(arguments: Namespace) -> None:
    from sttp_riemann.study.compare import compare
    from sttp_riemann.study.report import table_of

    recipe = _recipe(arguments)
    results, report = compare(recipe, _output(recipe))
    print(f"\n{table_of(recipe, results, report.parent)}\n\nreport: {report}")


def _train(arguments: Namespace) -> None:
    from sttp_riemann.study.compare import finish

    recipe = _recipe(arguments)
    folder = _output(recipe) / f"train-{recipe.label}-seed{recipe.seed}" if recipe.output is None else _output(recipe)
    result = finish(recipe, folder)
    figures = {k: v for k, v in result["final"].items() if v is not None and k != "step"}
    print(", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items()))
    print(f"run: {folder}")


def _recipes(arguments: Namespace) -> None:
    width = max(map(len, recipes.names()))
    for name in recipes.names():
        print(f"{name:{width}s} {recipes.read(name).get('summary', '')}")


def _bench(arguments: Namespace) -> None:
    from sttp_riemann.study.bench.run import bench

    given = dict(vars(arguments))
    output = Path(given.pop("output", "runs/benchmarks.md"))
    print(f"report: {bench(Settings(**given), output)}")


def _compress(arguments: Namespace) -> None:
    from sttp_riemann.compress import compress, load_trained

    given = dict(vars(arguments))
    weights = given.pop("weights", None)
    name = given.pop("model")
    trained = load_trained(name, None if weights is None else Path(weights), given.get("download", False))
    folder = Path(name.rpartition(":")[2]).name.removesuffix(".safetensors")
    output = Path(given.pop("output", f"runs/{folder}-compressed"))
    print(f"{compress(trained, output, given, given.pop('epochs', 0))}\n\nwritten to: {output}")


def _inspect(arguments: Namespace) -> None:
    from sttp_riemann.inspection import NOTE, inspect
    from sttp_riemann.training.saved import load_saved

    for name, model in load_saved(Path(arguments.checkpoint)).players.items():
        print(f"{name}\n{inspect(model)}\n")
    print(NOTE)


def _export(arguments: Namespace) -> None:
    from sttp_riemann.export import export
    from sttp_riemann.training.saved import load_saved

    export(load_saved(Path(arguments.checkpoint)), Path(arguments.to))
    print(f"written to: {arguments.to}")


COMMANDS = {
    "compare": _compare,
    "train": _train,
    "compress": _compress,
    "inspect": _inspect,
    "export": _export,
    "recipes": _recipes,
    "bench": _bench,
}
# Fields of a recipe that say what is trained from the start, or compared
NOT_OF_COMPRESS = (
    *("name", "summary", "task", "network", "network_options", "conditional", "image_size", "channels", "init"),
    *("methods", "paths", "spectra", "seeds", "paper", "steps", "evaluate_every", "gan_loss", "discriminator_steps"),
    *("metrics", "extractor", "extractor_weights", "metric_samples", "is_splits", "kid_subsets", "kid_subset_size"),
    *("operator_norms",),
    *(field.name for field in dataclasses.fields(Recipe) if field.name.startswith("generator")),
)


def _recipe(arguments: Namespace) -> Recipe:
    """Fields of the recipe named, overridden by what the command line gives."""
    given = {name: value for name, value in vars(arguments).items() if name != "recipe"}
    fields = recipes.read(getattr(arguments, "recipe", "digits"))
    if isinstance(fields.get("network_options"), dict) and "network_options" in given:
        given["network_options"] = {**fields["network_options"], **given["network_options"]}
    return Recipe.from_dict({**fields, **given})


def _output(recipe: Recipe) -> Path:
    return Path(recipe.output) if recipe.output is not None else Path("runs") / recipe.name


def _parse(argv: list[str]) -> Namespace:
    parser = ArgumentParser(
        prog="sttp-riemann",
        description="Spectral tensor train layers on both paths.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(required=True, metavar="COMMAND")
    compare = _recipe_parser(
        "Compare methods, frames and seeds; write results.csv, figures and a report.", ("method", "frames", "seed")
    )
    compare.add_argument("--recipe", type=str, default="digits", help="name of a shipped recipe, or a .yaml file")
    commands.add_subcommand("compare", compare, help="compare methods, frames and seeds, and write a report")
    train = _recipe_parser("Train one network as a recipe says.", ("methods", "paths", "seeds"))
    train.add_argument("recipe", type=str, help="name of a shipped recipe, or a .yaml file")
    commands.add_subcommand("train", train, help="train one network")
    commands.add_subcommand("compress", _compress_parser(), help="compress a trained network")
    read = ArgumentParser(description="Tell of every layer of a run's networks.", exit_on_error=False)
    read.add_argument("checkpoint", type=str, help=CHECKPOINT_HELP)
    commands.add_subcommand("inspect", read, help="tell of every layer of a run's networks")
    export = ArgumentParser(description="Write a classifier with ordinary dense layers.", exit_on_error=False)
    export.add_argument("checkpoint", type=str, help=CHECKPOINT_HELP)
    export.add_argument("--to", type=str, required=True, help="a .safetensors, .onnx or .pt2 file to write")
    commands.add_subcommand("export", export, help="write a dense network for other programs")
    commands.add_subcommand("recipes", ArgumentParser(exit_on_error=False), help="list the shipped recipes")
    commands.add_subcommand("bench", _bench_parser(), help="measure speed and memory against the peers")
    try:
        # Only what is given: a recipe stands between it and the defaults
        return parser.parse_args(argv, defaults=False)
    except argparse.ArgumentError as error:
        raise RecipeError(_readable(str(error))) from error


def _recipe_parser(description: str, unused: Sequence[str]) -> ArgumentParser:
    """Parser with an option for every field of a recipe but those that the command has no use for."""
    parser = ArgumentParser(description=description, exit_on_error=False)
    hints = get_type_hints(Recipe)
    for field in (f for f in dataclasses.fields(Recipe) if f.name not in unused):
        hint: Any = hints[field.name]
        many = get_origin(hint) is list
        extra: dict[str, Any] = {"nargs": "+"} if many else {}
        kind = get_args(hint)[0] if many else hint
        parser.add_argument(f"--{field.name}", type=kind, help=field.metadata["help"], **extra)
    return parser


def _compress_parser() -> ArgumentParser:
    parser = _recipe_parser(
        "Write a trained network with low-rank weights, as near to its own as ranks allow; fine-tune it if asked.",
        NOT_OF_COMPRESS,
    )
    parser.add_argument("model", type=str, help="torchvision:NAME, or the folder or a checkpoint of a dense run")
    parser.add_argument("--epochs", type=int, help="passes over the training images to fine-tune by; 0 by default")
    parser.add_argument("--weights", type=str, help="state_dict of a torchvision network, .safetensors or .pth")
    return parser


def _bench_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Measure frames, optimizer and training steps against the peers; write a table and figures.",
        exit_on_error=False,
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
    message = message.replace("train.recipe", "RECIPE").replace('"subcommand"', "the command")
    return f"{message.rstrip('.')}; see --help"


def _union(found: re.Match[str]) -> str:
    kinds = found[1].replace(", <class 'NoneType'>", "").replace("dict[str, typing.Any]", "<class 'dict'>")
    return f"Expected a {kinds.replace(', ', ' or ')}. Got value: {found[2]}"


def _one_line(message: str) -> str:
    return " ".join(message.split())
