"""The ablation: a comparison over ranks, learning rates and starts, with probes of both paths as further columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.networks.registry import options_of
from sttp_riemann.lab.studies.compare import compare
from sttp_riemann.lab.studies.page import DEFAULT
from sttp_riemann.lab.studies.plan import Sweep, plan
from sttp_riemann.lab.studies.probes import probe_path
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.study import Study
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.sections import LOW_RANK

RANKS = (4, 16, 64)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
PROBED: Mapping[str, Any] = {"width": 16, "depth": 2}


def ablate(
    recipe: Recipe,
    output: Path,
    workers: int = 1,
    ranks: Sequence[int] = RANKS,
    rates: Sequence[float] = RATES,
    sweep: Sweep | None = None,
    reading: Reading = DEFAULT,
    probe_options: Mapping[str, Any] = PROBED,
    drift_steps: int = 2000,
) -> Study:
    """Compare both paths over ranks and learning rates, probe each, and write the report.

    Parameters
    ----------
    recipe : Recipe
        What is trained; its low-rank methods are compared.
    output : Path
        Folder of the study; what it already holds is not done again.
    workers : int
        Number of runs at a time.
    ranks, rates : sequence
        Ranks of all layers, and learning rates, of which each variant's best on held-out examples is chosen.
    sweep : mapping, optional
        Values of further fields, all of which are combined, such as ``{"init": ["orthogonal", "noisy_identity"]}``.
    reading : Reading
        How to report them.
    probe_options : mapping
        Options of the network that is probed, as far as it has them: a Jacobian of a wide layer does not fit into
        memory.
    drift_steps : int
        Steps of the descent in float32 and float64.

    Returns
    -------
    Study
        With its report in `output`.

    Raises
    ------
    ReportedError
        A setting is out of range, the output cannot be written, or a run fails; what is finished stays.
    """
    if recipe.task == "gan":
        raise RecipeError(f"an ablation needs a recipe of one network with labels, and {recipe.name!r} trains a GAN")
    for name, values in {"ranks": ranks, "rates": rates, "drift_steps": [drift_steps]}.items():
        if not values or min(values) <= 0:
            raise RecipeError(f"{name} must be one or more positive numbers, not {list(values)}")
    for field, option in {"lr": "rates", "rank": "ranks"}.items():
        if field in (sweep or {}):
            raise RecipeError(f"sweep takes no {field} in an ablation: say which with --{option}")
    methods = [method for method in recipe.study.methods if method in LOW_RANK]
    if not methods:
        raise RecipeError(f"an ablation compares {' and '.join(LOW_RANK)}: name one in methods")
    if len(rates) > 1 and not recipe.evaluation.validation:
        raise RecipeError("learning rates are chosen by held-out examples: set validation to a share such as 0.2")
    recipe = recipe.changed(methods=methods, ranks={method: list(ranks) for method in methods})
    known = [*options_of(recipe.network.name), *recipe.network.options]
    smaller = {name: value for name, value in probe_options.items() if name in known}
    options = {**recipe.network.options, **smaller}
    probed = [run.changed(network_options=options) for run in plan(recipe, sweep)]
    probes = [(run, drift_steps, probe_path(run, output)) for run in probed]
    return compare(recipe, output, workers, {"lr": list(rates), **(sweep or {})}, reading, probes)
