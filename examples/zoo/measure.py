"""What a model of the zoo does: every verb in every method on every path, and the share that is reached."""

from __future__ import annotations

import copy
import importlib.metadata
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from case import RANK, Case, need, tensors
from row import Row
from torch import nn
from verbs import BOTH, VERBS, LeftOut

import sttp_riemann as sr
from sttp_riemann.model.reach import REASONS

VARIANTS = {("sttp", "householder"): tuple(VERBS), ("svdp", "riemannian"): BOTH}
"""Method and path, and verbs."""


def measure(row: Row, only: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that the table tells of a model.

    Parameters
    ----------
    row : Row
        The model.
    only : sequence of str
        Verbs; all of them without it.

    Returns
    -------
    dict
        Values that JSON knows. ``dense`` is None where the dense model trains, and otherwise why it does not;
        ``variants`` has by method and path the verbs that passed, and why the others did not.
    """
    begin = time.process_time()
    warnings.simplefilter("ignore")
    version = importlib.metadata.version(row.package)
    found: dict[str, Any] = {"package": row.package, "version": version, "model": row.name}
    row.known()
    dense = row.fresh()
    found |= {"dense": why(_trains, row, copy.deepcopy(dense)), "register": list(row.register), **share(row)}
    chosen = {} if found["dense"] else VARIANTS
    wanted = {own: [verb for verb in names if not only or verb in only] for own, names in chosen.items()}
    found["variants"] = {" ".join(own): _verbs(row, dense, own, names) for own, names in wanted.items()}
    return {**found, "seconds": round(time.process_time() - begin, 1)}


def share(row: Row) -> dict[str, Any]:
    """Numbers of the published size, which share of them is reached, and what is left for which reason."""
    try:
        with torch.device("meta"):
            model = (row.published or row.make)()
        size = row.size if row.published else "small"
    except Exception:  # some models compute numbers while they are built
        model, size = row.make(), "small"
    try:
        table = sr.compression(sr.reparameterize(model, RANK, init="identity"))
    except Exception as error:
        return {"size": size, "unreached": first_line(error)}
    total = table.dense + table.other
    left = []
    for reason in REASONS:
        own = [each for each in table.left if each.reason == reason]
        kinds = sorted({each.kind for each in own})
        if own:
            left.append({"reason": reason, "numbers": sum(each.numbers for each in own), "kinds": kinds})
    return {"size": size, "numbers": total, "reached": table.dense, "left": left}


def why(task: Any, *arguments: Any) -> str | None:
    """The first line of what goes wrong in a call; None if nothing does."""
    try:
        task(*arguments)
    except Exception as error:
        return first_line(error)
    return None


def first_line(error: BaseException) -> str:
    """Of an error, with its class."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:300]


def _trains(row: Row, model: nn.Module) -> None:
    """Forward, backward and a step of the dense model."""
    model.train()
    batch = row.batch()
    outputs = list(tensors(model(**batch) if isinstance(batch, dict) else model(*batch)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    sum((t.square().mean() for t in outputs), torch.zeros(())).backward()
    optimizer.step()
    need(all(bool(p.isfinite().all()) for p in model.parameters()), "parameters are not finite")


def _verbs(row: Row, dense: nn.Module, variant: tuple[str, str], names: Sequence[str]) -> dict[str, Any]:
    try:
        case = Case(row, dense, *variant)
    except Exception as error:
        return {"passed": [], "failed": dict.fromkeys(names, first_line(error))}
    passed, failed = [], {}
    for name in names:
        try:
            VERBS[name](case)
            passed.append(name)
        except LeftOut:
            continue
        except Exception as error:
            failed[name] = first_line(error)
    return {"passed": passed, "failed": failed}
