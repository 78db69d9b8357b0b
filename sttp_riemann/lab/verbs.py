"""The verbs of the command line as Python functions of the same names and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from sttp_riemann.errors import RecipeError
from sttp_riemann.files import child, write_atomically
from sttp_riemann.lab import plugins, recipes
from sttp_riemann.lab.training.recipe import FIELDS, Recipe, flatten, nest
from sttp_riemann.lab.training.storage import checkpoint_of, checkpoints, run_folders

if TYPE_CHECKING:
    from sttp_riemann.lab.compression import Compressed
    from sttp_riemann.lab.inspection import NetworkReport
    from sttp_riemann.lab.studies.study import Study


def compare(
    recipe: str = "digits",
    *,
    workers: int = 1,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    margin: float | None = None,
    choose: Sequence[str] = (),
    target: float = 0.95,
    **fields: Any,
) -> Study:
    """Compare methods, paths, seeds and values of any field; what the output already holds is not done again.

    Parameters
    ----------
    recipe : str
        Name of a shipped recipe, or a YAML file.
    workers : int
        How many runs are under way at a time, each in a process.
    sweep : mapping, optional
        Values of further fields, such as ``{"lr": [1e-3, 3e-3]}``.
    margin : float, optional
        Difference in the first measure that does not matter.
    choose : sequence of str
        Fields in which runs differ and whose best value is chosen by held-out examples, as the learning rate always is.
    target : float
        Accuracy, or R^2, that steps are counted to.
    **fields
        Fields of the recipe; ``output`` is the folder, ``runs/NAME`` by default.

    Returns
    -------
    Study
        With ``table`` (a row a run), ``figures`` and ``findings``; its report is in the output.

    Raises
    ------
    ReportedError
        What was asked cannot be done; the message says why.
    """
    from sttp_riemann.lab.studies.compare import compare
    from sttp_riemann.lab.studies.reading import Reading

    wanted = read_recipe(recipe, fields, sweep)
    if "rank" in fields and wanted.study.rank_unused:
        raise RecipeError("--rank has no effect where the recipe's ranks say every rank: give --ranks.METHOD instead")
    return compare(wanted, output_of(wanted), workers, sweep, Reading(margin, choose, target))


def ablate(
    recipe: str = "digits-ablation",
    *,
    workers: int = 1,
    ranks: Sequence[int] | None = None,
    rates: Sequence[float] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    margin: float | None = None,
    choose: Sequence[str] = (),
    target: float = 0.95,
    drift_steps: int = 2000,
    **fields: Any,
) -> Study:
    """Compare both paths over ranks and learning rates, and probe conditioning, gradients and drift.

    Parameters
    ----------
    recipe : str
        Name of a shipped recipe, or a YAML file.
    workers : int
        How many runs are under way at a time, each in a process.
    ranks, rates : sequence, optional
        Ranks of all layers, and learning rates.
    sweep : mapping, optional
        Values of further fields, such as ``{"init": ["orthogonal", "noisy_identity"]}``.
    margin, choose, target
        As in `compare`.
    drift_steps : int
        Steps of the descent in float32 and float64.
    **fields
        Fields of the recipe.

    Returns
    -------
    Study
        Like that of `compare`, with the probes as further columns.

    Raises
    ------
    ReportedError
        What was asked cannot be done; the message says why.
    """
    from sttp_riemann.lab.studies.ablate import RANKS, RATES, ablate
    from sttp_riemann.lab.studies.reading import Reading

    reading = Reading(margin, choose, target)
    wanted = read_recipe(recipe, fields, sweep)
    ranks, rates = RANKS if ranks is None else ranks, RATES if rates is None else rates
    return ablate(wanted, output_of(wanted), workers, ranks, rates, sweep, reading, drift_steps=drift_steps)


def report(
    runs: Sequence[str | Path],
    *,
    output: str | Path = "runs/report",
    margin: float | None = None,
    choose: Sequence[str] = (),
    target: float = 0.95,
    size: str = "ratio",
) -> Study:
    """Report finished runs, whichever commands made them, and keep their results beside the report in one small file.

    Parameters
    ----------
    runs : sequence of str or Path
        Folders of runs, or folders that hold such, or such a file: it stands for its runs in `compare`, too.
    output : str or Path
        Folder of the report.
    margin : float, optional
        Difference in the first measure that does not matter.
    choose : sequence of str
        Fields in which runs differ and whose best value is chosen by held-out examples, as the learning rate always is.
    target : float
        Accuracy, or R^2, that steps are counted to.
    size : {"ratio", "dof", "stored"}
        What ranks are compared at: compression Z, degrees of freedom or stored numbers of the weights.

    Returns
    -------
    Study

    Raises
    ------
    ReportedError
        What was asked cannot be done; the message says why.
    """
    from sttp_riemann.lab.studies.archive import ARCHIVE, pack
    from sttp_riemann.lab.studies.reading import Reading
    from sttp_riemann.lab.studies.report import check_report
    from sttp_riemann.lab.studies.study import collect

    reading = Reading(margin, choose, target, size)
    check_report(Path(output))
    study = replace(collect([Path(run) for run in runs], Path(output).name, reading), folder=Path(output))
    study.write(Path(output))
    write_atomically(Path(output) / ARCHIVE, pack(study.results))
    return study


def train(recipe: str = "digits", **fields: Any) -> dict[str, Any]:
    """Train one network as a recipe says, resuming from its last checkpoint.

    Parameters
    ----------
    recipe : str
        Name of a shipped recipe, or a YAML file.
    **fields
        Fields of the recipe.

    Returns
    -------
    dict
        What ``result.json`` holds, and under ``folder`` the run's folder.

    Raises
    ------
    ReportedError
        What was asked cannot be done; the message says why.
    """
    from sttp_riemann.lab.studies.runs import finish

    wanted = read_recipe(recipe, fields)
    folder = output_of(wanted)
    return finish(wanted, folder if wanted.output else folder / f"train-{wanted.label}-seed{wanted.seed}")


def compress(
    model: str,
    *,
    output: str | Path | None = None,
    weights: str | Path | None = None,
    network: str | None = None,
    network_options: Mapping[str, Any] | None = None,
    epochs: int = 0,
    calibrate: int | None = None,
    **fields: Any,
) -> Compressed:
    """Compress a trained network to low-rank weights, as close as the ranks allow; fine-tune it if asked.

    Parameters
    ----------
    model : str
        ``torchvision:NAME``, the folder or a checkpoint of a dense run, or weights of `network`.
    output : str or Path, optional
        Folder to write to; ``runs/MODEL-compressed`` by default.
    weights : str or Path, optional
        Weights of a torchvision network.
    network, network_options : str and mapping, optional
        The network that `model` holds the weights of, and its options.
    epochs : int
        Passes over the training examples to fine-tune by.
    calibrate : int, optional
        Training examples on which layers' inputs are measured.
    **fields
        Fields of the recipe.

    Returns
    -------
    Compressed
        Sizes and errors of layers, accuracies or R^2; printed, they are a table.

    Raises
    ------
    ReportedError
        What was asked cannot be done; the message says why.
    """
    from sttp_riemann.lab.compression import compress, load_trained
    from sttp_riemann.lab.networks.registry import TORCHVISION

    if (network is None and network_options is not None) or (network is not None and weights is not None):
        raise RecipeError("network_options need --network; --weights is for torchvision:NAME, without --network")
    import_own({"network": network, **fields})
    if weights is None and network is None and not model.startswith(TORCHVISION):
        checkpoint(model)
    if "teacher" in fields:
        checkpoint(fields["teacher"])
    of_data = {name: value for name, value in fields.items() if name in FIELDS and FIELDS[name].path[0] == "data"}
    own = None if network is None else {"network": network, "network_options": network_options or {}, **of_data}
    trained = load_trained(model, None if weights is None else Path(weights), fields.get("download", False), own)
    return compress(trained, Path(output or compressed_folder(model)), fields, epochs, calibrate)


def compressed_folder(model: str) -> Path:
    """Default folder for a compressed model."""
    name = Path(model.rpartition(":")[2]).name
    return Path("runs") / f"{name.removesuffix('.safetensors').removesuffix('.pth')}-compressed"


def inspect(path: str | Path) -> dict[str, NetworkReport]:
    """Inspect every layer of a run's networks.

    Parameters
    ----------
    path : str or Path
        The folder of a run or of a study, or a checkpoint.

    Returns
    -------
    dict
        By the network's name, of a study with the run's folder before it; printed, each is a table.

    Raises
    ------
    ReportedError
        There is no such checkpoint, or it cannot be read.
    """
    from sttp_riemann.lab.inspection import inspect
    from sttp_riemann.lab.training.saved import load_saved

    path = Path(path)
    runs = {f"{run.relative_to(path)} ": run for run in run_folders(path)} if is_study(path) else {"": path}
    return {
        f"{place}{name}": inspect(model, saved.example(name))
        for place, run in runs.items()
        for saved in [load_saved(checkpoint(str(run)))]
        for name, model in saved.players.items()
    }


def is_study(path: Path) -> bool:
    """Whether a folder contains folders of runs and is not one itself."""
    return path.is_dir() and not checkpoints(path) and bool(run_folders(path))


def read_recipe(recipe: str, changes: Mapping[str, Any], sweep: Mapping[str, Sequence[Any]] | None = None) -> Recipe:
    """Recipe by its name or file, with some fields changed; modules that changes and sweep name are imported.

    Raises
    ------
    RecipeError
        There is none, it is not valid, or a module cannot be imported.
    """
    import_own(changes, sweep)
    fields = flatten(recipes.read(recipe))
    for name, value in changes.items():
        # A network option joins those of the recipe; {} clears them
        joins = isinstance(value, dict) and value and name in FIELDS and get_origin(FIELDS[name].hint) is dict
        fields[name] = {**fields.get(name, {}), **value} if joins else value
    found = Recipe.from_dict(nest(fields))
    if found.distillation.teacher is not None:
        checkpoint(found.distillation.teacher)
    weights = found.evaluation.extractor_weights
    if weights is not None and not Path(weights).is_file():
        raise RecipeError(f"there is no file {weights}: correct extractor_weights")
    return found


def import_own(changes: Mapping[str, Any], sweep: Mapping[str, Sequence[Any]] | None = None) -> None:
    """Import the modules of networks and data that a user names as ``module:attribute``.

    Raises
    ------
    RecipeError
        One cannot be imported, or raises.
    """
    for field in ("network", "generator", "data"):
        plugins.import_named([changes.get(field), *(sweep or {}).get(field, [])])


def output_of(recipe: Recipe) -> Path:
    """Give the folder that a recipe is for: its own, or ``runs/NAME``."""
    return Path(recipe.output) if recipe.output is not None else child(Path("runs"), recipe.name)


def checkpoint(name: str) -> Path:
    """Path of a checkpoint, given the file or a run's folder.

    Raises
    ------
    RecipeError
        There is no such checkpoint.
    """
    path = checkpoint_of(Path(name))
    if path.suffix != ".safetensors":
        raise RecipeError(
            f"{name} is not a checkpoint of this program (a .safetensors file): compress takes the weights of your "
            f"network with --network mynet:MyNet, those of a torchvision network as torchvision:NAME --weights {name}"
        )
    return path
