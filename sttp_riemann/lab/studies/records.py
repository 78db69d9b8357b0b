"""What runs of GANs record at their evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import parse_json
from sttp_riemann.lab.forms import Each, check_form

Record = dict[str, Any]
RECORDS = "records"
"""Where an archived result has them."""
AGAIN = "delete the run's folder to have it anew"
_FORM = {
    "step": int,
    "figures": {"diversity": float},
    "layers": Each(
        {**dict.fromkeys(("spectral_norm", "trained_norm", "stable_rank", "gradient_norm"), float), "top": [float]}
    ),
    "outputs": Each([float]),
}


def read_records(result: Mapping[str, Any]) -> list[Record]:
    """Read what a run recorded at its evaluations, in order.

    Parameters
    ----------
    result : mapping
        Of the run: with its folder, or from an archive.

    Returns
    -------
    list of dict
        One an evaluation.

    Raises
    ------
    CheckpointError
        A record cannot be read, or there is none.
    """
    folder = Path(result["folder"])
    if RECORDS in result:
        found = _checked(result[RECORDS], f"the archived records of {folder}", "restore the archive")
    else:
        files, found = sorted((folder / "stability").glob("*.json")), []
        for path in files:
            try:
                content = parse_json(path.read_text(encoding="utf-8"))
            except (ValueError, OSError) as error:
                raise CheckpointError(f"{path} cannot be read: {AGAIN} ({error})") from error
            found += _checked([content], str(path), AGAIN, found[:1])
    if not found:
        raise CheckpointError(f"{folder} has no record of its evaluations: {AGAIN}")
    # A folder may hold records of a longer run that was there before
    return [record for record in found if record["step"] <= result["final"]["step"]]


def slim(records: Sequence[Record]) -> list[Record]:
    """Leave out what figures do not show: the outputs on single images, of which the mean stays."""
    return [
        {**record, "outputs": {kind: [fmean(values)] for kind, values in record["outputs"].items()}}
        for record in records
    ]


def _checked(records: Any, what: str, remedy: str, first: Sequence[Record] = ()) -> list[Record]:
    """Give records after a look at their form, and at their layers, which are those of the first."""
    try:
        check_form(records, [_FORM])
        if len({frozenset(record["layers"]) for record in (*first, *records)}) > 1:
            raise ValueError("its layers are not those of the first")
    except ValueError as error:
        raise CheckpointError(f"{what} cannot be read: {remedy} ({error})") from error
    return list(records)
