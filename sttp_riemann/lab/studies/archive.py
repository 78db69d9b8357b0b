"""Finished runs in one small file: what to keep of a study so that it can be reported and extended later."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import parse_json
from sttp_riemann.lab.studies.records import RECORDS, read_records, slim
from sttp_riemann.lab.training.recipe import FIELDS, nest

ARCHIVE = "runs.jsonl.gz"
"""Its name; each line is the result of a run."""
LARGEST = 2**29
"""Most bytes that one may unpack to."""
DIGITS = 6
# Of one machine
PLACES = ("output", "data_root", "extractor_weights")


def pack(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Write the results of runs, numbers to six digits, without folders of this machine.

    Parameters
    ----------
    results : sequence of mapping
        As `sttp_riemann.lab.studies.runs.find` gives them.

    Returns
    -------
    bytes
        The same for the same results.
    """
    lines = []
    for result in results:
        fields = {name: FIELDS[name].default if name in PLACES else v for name, v in result["recipe"].items()}
        content = {**result, "recipe": nest(fields), "folder": "/".join(Path(result["folder"]).parts[-2:])}
        if fields["task"] == "gan":
            content[RECORDS] = slim(read_records(result))
        lines.append(json.dumps(_rounded(content)))
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [*map(_rounded, value)] if isinstance(value, list | tuple) else value


def unpack(path: Path) -> Iterator[dict[str, Any]]:
    """Read an archive, line by line, unchecked but for the folder that each run names.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    dict
        A result; its ``folder`` lies in the archive's own and need not exist.

    Raises
    ------
    CheckpointError
        It cannot be read; the message says why.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
        for line in content.decode().splitlines():
            result = parse_json(line)
            place = PurePosixPath(result["folder"])
            if place.is_absolute() or ".." in place.parts or not place.parts:
                raise ValueError(f"a run's folder is {str(place)[:40]!r}")
            yield {**result, "folder": path.parent / place}
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error) as error:
        raise CheckpointError(f"{path} cannot be read: restore or delete it ({error})") from error
