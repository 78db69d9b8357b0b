"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from sttp_riemann import interruption
from sttp_riemann.errors import RecipeError, ReportedError
from sttp_riemann.files import child
from sttp_riemann.lab import plugins, recipes
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.cli.arguments import parse
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints, run_folders
from sttp_riemann.lab.units import told_all

# What a shell says of a program whose reader has gone
UNREAD = 141
LONGEST_LINE = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, 1 for a fault while running, 2 for one in what was asked, 130 where it was interrupted, 141
        where nobody reads what it prints.
    """
    interruption.raise_from_now_on()
    try:
        arguments = parse(plugins.take_from(sys.argv[1:] if argv is None else argv))
        COMMANDS[arguments.subcommand](arguments[arguments.subcommand])
        sys.stdout.flush()
    except ReportedError as error:
        return _tell(str(error), error.status)
    except KeyboardInterrupt:
        return _tell("stopped; the same command goes on from the last checkpoint", interruption.INTERRUPTED)
    except BrokenPipeError:
        # Python flushes once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        return _tell("there is not enough memory: lower batch_size, image_size or the network's width", 1)
    return 0


def _tell(message: str, status: int) -> int:
    """Print a fault as one line that fits on a screen, and give its status back."""
    line = "".join(c if c.isprintable() else "?" for c in f"sttp-riemann: {' '.join(message.split())}")
    if len(line) > LONGEST_LINE:
        # What to do about it is often at the end
        line = f"{line[:200]} ... {line[-(LONGEST_LINE - 205) :]}"
    print(line, file=sys.stderr)
    return status


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _compare(arguments: Namespace) -> None:
    from sttp_riemann.lab.studies.compare import compare
    from sttp_riemann.lab.studies.report import table_of

    given = dict(vars(arguments))
    workers = given.pop("workers", 1)
    recipe = _recipe(given)
    if "rank" in given and recipe.rank_unused:
        raise RecipeError("--rank has no effect where the recipe's ranks say every rank: give --ranks.METHOD instead")
    results, report = compare(recipe, _output(recipe), workers)
    print(f"\n{table_of(recipe, results)}\n\nreport: {report}")


def _report(arguments: Namespace) -> None:
    from sttp_riemann.lab.studies.collect import collect
    from sttp_riemann.lab.studies.report import table_of, write_report

    output = Path(getattr(arguments, "output", "runs/report"))
    found = collect([Path(run) for run in arguments.runs], output.name)
    report = write_report(found.recipe, found.results, output, found.remarks)
    print(f"{table_of(found.recipe, found.results)}\n\nreport: {report}")
    if found.skipped:
        print(f"sttp-riemann: left out: {'; '.join(found.skipped)}", file=sys.stderr)


def _ablate(arguments: Namespace) -> None:
    from sttp_riemann.lab.studies.ablation.run import ablate
    from sttp_riemann.lab.studies.ablation.settings import Settings

    given = {name: value for name, value in vars(arguments).items() if name != "recipe"}
    workers, output = given.pop("workers", 1), Path(given.pop("output", "runs/comparison.md"))
    changes: dict[str, Any] = {name: given.pop(name) for name in ("steps", "seeds") if name in given}
    recipe = _recipe({"recipe": getattr(arguments, "recipe", "digits-ablation"), **changes})
    page = ablate(Settings(recipe, **given), child(Path("runs"), output.stem), output, workers, sys.argv[1:])
    print(f"report: {page}")


def _train(arguments: Namespace) -> None:
    from sttp_riemann.lab.studies.compare import finish

    recipe = _recipe(vars(arguments))
    folder = _output(recipe) / f"train-{recipe.label}-seed{recipe.seed}" if recipe.output is None else _output(recipe)
    result = finish(recipe, folder)
    print(told_all({name: value for name, value in result["final"].items() if name != "step"}))
    if skipped := result.get("skipped_steps"):
        print(f"left out: {skipped} of {recipe.steps} steps, as a loss or gradient was not finite")
    print(f"run: {folder}")


def _recipes(arguments: Namespace) -> None:
    width = max(map(len, recipes.names()))
    for name in recipes.names():
        print(f"{name:{width}s} {recipes.read(name).get('summary', '')}")


def _bench(arguments: Namespace) -> None:
    from sttp_riemann.lab.bench.run import bench

    given = dict(vars(arguments))
    output = Path(given.pop("output", "runs/benchmarks.md"))
    print(f"report: {bench(Settings(**given), output)}")


def _compress(arguments: Namespace) -> None:
    from sttp_riemann.lab.compress import TORCHVISION, compress, load_trained

    given = dict(vars(arguments))
    weights = given.pop("weights", None)
    name = given.pop("model")
    if weights is None and not name.startswith(TORCHVISION):
        _checkpoint(name)
    if "teacher" in given:
        _checkpoint(given["teacher"])
    trained = load_trained(name, None if weights is None else Path(weights), given.get("download", False))
    folder = Path(name.rpartition(":")[2]).name.removesuffix(".safetensors")
    output = Path(given.pop("output", f"runs/{folder}-compressed"))
    epochs, calibrate = given.pop("epochs", 0), given.pop("calibrate", None)
    print(f"{compress(trained, output, given, epochs, calibrate)}\n\nwritten to: {output}")


def _inspect(arguments: Namespace) -> None:
    from sttp_riemann.lab.inspection import NOTE, inspect, survey
    from sttp_riemann.lab.training.saved import load_saved

    given = Path(arguments.checkpoint)
    runs = run_folders(given) if given.is_dir() and not checkpoints(given) else []
    if runs:
        networks = {
            f"{run.relative_to(given)} {name}": inspect(model)
            for run in runs
            for name, model in load_saved(run).players.items()
        }
        print(survey(networks))
        return
    for name, model in load_saved(_checkpoint(arguments.checkpoint)).players.items():
        print(f"{name}\n{inspect(model)}\n")
    print(NOTE)


def _export(arguments: Namespace) -> None:
    from sttp_riemann.lab.export import export
    from sttp_riemann.lab.training.saved import load_saved

    export(load_saved(_checkpoint(arguments.checkpoint)), Path(arguments.to))
    print(f"written to: {arguments.to}")


COMMANDS = {
    "compare": _compare,
    "report": _report,
    "ablate": _ablate,
    "train": _train,
    "compress": _compress,
    "inspect": _inspect,
    "export": _export,
    "recipes": _recipes,
    "bench": _bench,
}


def _recipe(given: Mapping[str, Any]) -> Recipe:
    """Fields of the recipe named, overridden by what the command line gives."""
    fields = recipes.read(given.get("recipe", "digits"))
    changes = {name: value for name, value in given.items() if name != "recipe"}
    for name in ("network_options", "ranks"):
        if isinstance(fields.get(name), dict) and name in changes:
            changes[name] = {**fields[name], **changes[name]}
    recipe = Recipe.from_dict({**fields, **changes})
    if recipe.teacher is not None:
        _checkpoint(recipe.teacher)
    if recipe.extractor_weights is not None and not Path(recipe.extractor_weights).is_file():
        raise RecipeError(f"there is no file {recipe.extractor_weights}: mend extractor_weights")
    return recipe


def _checkpoint(name: str) -> Path:
    """Path of a checkpoint, or of a run's folder that has one."""
    path = Path(name)
    if not path.exists():
        raise RecipeError(f"there is no checkpoint {name}")
    if path.is_dir() and not checkpoints(path):
        others = ", ".join(sorted(p.name for p in path.glob("*.safetensors")))
        raise RecipeError(f"{name} has no checkpoint of a run: name a file{f', such as {others}' if others else ''}")
    if path.is_file() and path.suffix != ".safetensors":
        raise RecipeError(
            f"{name} is no checkpoint of this program, which are .safetensors files; compress takes the weights of a "
            f"torchvision network as torchvision:NAME --weights {name}"
        )
    return path


def _output(recipe: Recipe) -> Path:
    return Path(recipe.output) if recipe.output is not None else child(Path("runs"), recipe.name)
