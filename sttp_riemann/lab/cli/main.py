"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from sttp_riemann import interruption
from sttp_riemann.errors import ReportedError
from sttp_riemann.lab import plugins, recipes, verbs
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.cli.arguments import parse
from sttp_riemann.lab.units import told_all

if TYPE_CHECKING:
    from sttp_riemann.lab.studies.study import Study

# Exit status of a program whose reader has gone
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
        Exit status: 0, 1 for an error while running, 2 for wrong input, 130 if interrupted, 141 if nobody reads the
        output.
    """
    interruption.raise_from_now_on()
    try:
        arguments = parse(plugins.take_from(sys.argv[1:] if argv is None else argv))
        COMMANDS[arguments.subcommand](arguments[arguments.subcommand])
        sys.stdout.flush()
    except ReportedError as error:
        return _tell(str(error), error.status)
    except KeyboardInterrupt:
        return _tell("stopped; the same command resumes from the last checkpoint", interruption.INTERRUPTED)
    except BrokenPipeError:
        # Python flushes once more on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        return _tell("there is not enough memory: lower batch_size, image_size or the network's width", 1)
    return 0


def _tell(message: str, status: int) -> int:
    """Print an error as one line that fits on a screen, and return its status."""
    line = "".join(c if c.isprintable() else "?" for c in f"sttp-riemann: {' '.join(message.split())}")
    if len(line) > LONGEST_LINE:
        # The remedy is often at the end
        line = f"{line[:200]} ... {line[-(LONGEST_LINE - 205) :]}"
    print(line, file=sys.stderr)
    return status


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _compare(arguments: Namespace) -> None:
    given = dict(vars(arguments))
    _tell_study(verbs.compare(given.pop("recipe", "digits"), sweep=_sweep(given), **given))


def _report(arguments: Namespace) -> None:
    given = dict(vars(arguments))
    output = given.pop("output", "runs/report")
    study = verbs.report(given.pop("runs"), output=output, **given)
    _tell_study(replace(study, folder=Path(output)))


def _ablate(arguments: Namespace) -> None:
    given = dict(vars(arguments))
    _tell_study(verbs.ablate(given.pop("recipe", "digits-ablation"), sweep=_sweep(given), **given))


def _sweep(given: dict[str, Any]) -> dict[str, list[Any]]:
    """Take what is swept out of the given options."""
    from sttp_riemann.lab.studies.plan import read_sweep

    return read_sweep([text for texts in given.pop("sweep", []) for text in texts])


def _tell_study(study: Study) -> None:
    from sttp_riemann.lab.studies.study import HTML

    print(f"\n{study}\n\nreport: {study.folder}/{HTML}")
    if study.skipped:
        print(f"sttp-riemann: left out: {'; '.join(study.skipped)}", file=sys.stderr)


def _train(arguments: Namespace) -> None:
    given = dict(vars(arguments))
    result = verbs.train(given.pop("recipe"), **given)
    print(told_all({name: value for name, value in result["final"].items() if name != "step"}))
    if skipped := result.get("skipped_steps"):
        steps = result["recipe"]["schedule"]["steps"]
        print(f"skipped: {skipped} of {steps} steps, as a loss or gradient was not finite")
    print(f"run: {result['folder']}")


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
    given = dict(vars(arguments))
    model = given.pop("model")
    output = given.pop("output", verbs.compressed_folder(model))
    print(f"{verbs.compress(model, output=output, **given)}\n\nwritten to: {output}")


def _inspect(arguments: Namespace) -> None:
    from sttp_riemann.lab.inspection import NOTE, survey

    found = verbs.inspect(arguments.checkpoint)
    if verbs.is_study(Path(arguments.checkpoint)):
        print(survey(found))
        return
    for name, report in found.items():
        print(f"{name}\n{report}\n")
    print(NOTE)


def _export(arguments: Namespace) -> None:
    from sttp_riemann.lab.export import export
    from sttp_riemann.lab.training.saved import load_saved

    export(load_saved(verbs.checkpoint(arguments.checkpoint)), Path(arguments.to))
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
