"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        command, given = parse(plugins.take_from(sys.argv[1:] if argv is None else argv))
        COMMANDS[command](given)
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


def _compare(given: dict[str, Any]) -> None:
    _tell_study(verbs.compare(sweep=_sweep(given), **given))


def _ablate(given: dict[str, Any]) -> None:
    _tell_study(verbs.ablate(sweep=_sweep(given), **given))


def _sweep(given: dict[str, Any]) -> dict[str, list[Any]]:
    """Take what is swept out of the given options."""
    from sttp_riemann.lab.studies.plan import read_sweep

    return read_sweep([text for texts in given.pop("sweep", []) for text in texts])


def _tell_study(study: Study) -> None:
    from sttp_riemann.lab.studies.report import HTML

    print(f"\n{study}\n\nreport: {study.folder}/{HTML}")
    if study.skipped:
        print(f"sttp-riemann: left out: {'; '.join(study.skipped)}", file=sys.stderr)


def _train(given: dict[str, Any]) -> None:
    result = verbs.train(**given)
    print(told_all({name: value for name, value in result["final"].items() if name != "step"}))
    if skipped := result.get("skipped_steps"):
        steps = result["recipe"]["schedule"]["steps"]
        print(f"skipped: {skipped} of {steps} steps, as a loss or gradient was not finite")
    print(f"run: {result['folder']}")


def _recipes(given: dict[str, Any]) -> None:
    width = max(map(len, recipes.names()))
    for name in recipes.names():
        print(f"{name:{width}s} {recipes.read(name).get('summary', '')}")


def _bench(given: dict[str, Any]) -> None:
    from sttp_riemann.lab.bench.run import bench
    from sttp_riemann.lab.studies.report import HTML

    output = Path(given.pop("output", "runs/bench"))
    print(f"report: {bench(Settings(**given), output).folder}/{HTML}")


def _compress(given: dict[str, Any]) -> None:
    given.setdefault("output", verbs.compressed_folder(given["model"]))
    print(f"{verbs.compress(**given)}\n\nwritten to: {given['output']}")


def _inspect(given: dict[str, Any]) -> None:
    from sttp_riemann.lab.inspection import NOTE, survey

    path = given["checkpoint"]
    found = verbs.inspect(path)
    if verbs.is_study(Path(path)):
        print(survey(found))
        return
    for name, report in found.items():
        print(f"{name}\n{report}\n")
    print(NOTE)


def _export(given: dict[str, Any]) -> None:
    from sttp_riemann.lab.export import export
    from sttp_riemann.lab.training.saved import load_saved

    export(load_saved(verbs.checkpoint(given["checkpoint"])), Path(given["to"]))
    print(f"written to: {given['to']}")


COMMANDS = {
    "compare": _compare,
    "report": lambda given: _tell_study(verbs.report(**given)),
    "ablate": _ablate,
    "train": _train,
    "compress": _compress,
    "inspect": _inspect,
    "export": _export,
    "recipes": _recipes,
    "bench": _bench,
}
