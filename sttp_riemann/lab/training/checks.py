"""What values a recipe's fields may have, alone and together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sttp_riemann.errors import RecipeError
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS
from sttp_riemann.lab.training.typecheck import LARGEST_WHOLE, check_text, shown
from sttp_riemann.trains.spectrum import PENALTIES

if TYPE_CHECKING:
    from sttp_riemann.lab.training.recipe import Recipe

AT_LEAST_ONE = (
    "steps", "batch_size", "accumulate", "evaluate_every", "evaluate_batch_size", "keep",
    "discriminator_steps", "metric_samples", "is_splits", "kid_subsets", "kid_subset_size",
)  # fmt: skip
AT_LEAST_ONE_IF_GIVEN = ("image_size", "channels", "threads", "generator_rank")
NOT_NEGATIVE = (
    "seed", "checkpoint_every", "gauge_fix_every", "patience", "weight_decay", "penalty_weight", "mixup",
    "generator_penalty_weight", "skip_bad_steps",
)  # fmt: skip
POSITIVE = ("lr", "clip", "decay_factor", "temperature")
# Far beyond what anyone trains with, and within what the machine's numbers and memory can hold
LARGEST: dict[str, int | float] = {
    **dict.fromkeys(
        ("steps", "evaluate_every", "checkpoint_every", "gauge_fix_every", "patience", "skip_bad_steps"), 10**9
    ),
    **dict.fromkeys(("batch_size", "evaluate_batch_size", "accumulate", "keep", "kid_subsets"), 10**6),
    **dict.fromkeys(("metric_samples", "kid_subset_size", "is_splits"), 10**7),
    **dict.fromkeys(("penalty_weight", "generator_penalty_weight", "clip"), 1e9),
    "lr": 1e30,
    "weight_decay": 1e6,
    "image_size": 4096,
    "channels": 64,
    "threads": 1024,
    "discriminator_steps": 10**4,
    "generator_rank": LARGEST_WHOLE,
    "mixup": 1e3,
    "temperature": 1e3,
    "decay_factor": 1.0,
}
# Smaller ones leave nothing but rounding
SMALLEST = {"mixup": 1e-3, "temperature": 1e-3}
LONGEST_NAME = 255
"""Bytes that a file system lets one name of a path have."""
PATHS = ("output", "data_root", "teacher", "extractor_weights", "data")
FRACTIONS = ("momentum", "label_smoothing", "ema", "validation")
# A covariance is of two at least; neighbours are sought among three others
FEWEST_SAMPLES = {"fid": 2, "prc": 4}
LOW_RANK = ("svdp", "sttp")
# torch's generators take no larger one
LARGEST_SEED = 2**63 - 1


def check_ranges(recipe: Recipe) -> None:
    """Refuse a field whose value is out of range.

    Raises
    ------
    RecipeError
        The message names the field, the range and the value.
    """
    for name in (*AT_LEAST_ONE, *(n for n in AT_LEAST_ONE_IF_GIVEN if getattr(recipe, n) is not None)):
        _require(getattr(recipe, name) >= 1, f"{name} must be at least 1, not {shown(getattr(recipe, name))}")
    for name in NOT_NEGATIVE:
        _require(getattr(recipe, name) >= 0, f"{name} must not be negative, not {shown(getattr(recipe, name))}")
    for name in POSITIVE:
        value = getattr(recipe, name)
        _require(value is None or value > 0, f"{name} must be positive, not {value}")
    for name, largest in LARGEST.items():
        value = getattr(recipe, name)
        _require(value is None or value <= largest, f"{name} must be at most {largest:,}, not {shown(value)}")
    for name, smallest in SMALLEST.items():
        value = getattr(recipe, name)
        _require(not 0 < value < smallest, f"{name} must be at least {smallest}, not {value}")
    for name in FRACTIONS:
        _require(0 <= getattr(recipe, name) < 1, f"{name} must be in [0, 1), not {getattr(recipe, name)}")
    _check_rows(recipe)
    _require(0 <= recipe.distill <= 1, f"distill must be in [0, 1], not {recipe.distill}")
    _check_ranks(recipe)
    _check_lists(recipe)
    _check_name(recipe.name)
    for name in PATHS:
        value = getattr(recipe, name)
        if value is not None:
            check_path(name, value)


def _check_rows(recipe: Recipe) -> None:
    """Refuse names that no registry has, modules that were imported to add rows included."""
    penalties = ("none", *PENALTIES)
    given: dict[str, tuple[list[str], Iterable[str]]] = {
        "optimizer": ([recipe.optimizer], OPTIMIZERS),
        "frames": ([recipe.frames], FRAMES),
        "paths": (recipe.paths, FRAMES),
        "penalty": ([recipe.penalty], penalties),
        "generator_frames": ([v for v in [recipe.generator_frames] if v is not None], FRAMES),
        "generator_penalty": ([v for v in [recipe.generator_penalty] if v is not None], penalties),
    }
    for name, (values, rows) in given.items():
        known = list(rows)
        for value in values:
            _require(value in known, f"{name} must be one of {', '.join(known)}, not {shown(value)}")


def _check_name(name: str) -> None:
    # A run's folder is named after it, and so is the partial file that a result is first written to
    _require(len(name.encode()) <= LONGEST_NAME - 55, f"name must have at most 200 bytes, not {len(name.encode())}")
    _require(
        name not in ("", ".", "..") and "/" not in name and name.isprintable(),
        f"name is that of a folder under runs/, and {shown(name)} cannot be",
    )


def check_path(name: str, path: str) -> None:
    """Refuse a path that no file system can hold.

    Parameters
    ----------
    name : str
        Field or option that it is of.
    path : str
        What was given; the file need not exist.

    Raises
    ------
    RecipeError
        It, or a part of it, is too long, or it is no text that a path can be.
    """
    check_text(name, path)
    longest = max((len(part.encode()) for part in Path(path).parts), default=0)
    _require(longest <= LONGEST_NAME, f"{name} has a part of {longest} bytes: {LONGEST_NAME} are the most")


def _check_ranks(recipe: Recipe) -> None:
    for rank in recipe.rank.values() if isinstance(recipe.rank, dict) else [recipe.rank]:
        _check_rank("rank", rank)
    for method, ranks in recipe.ranks.items():
        _require(method in LOW_RANK, f"ranks are of {' and '.join(LOW_RANK)}, not of {shown(method)}")
        _require(
            isinstance(ranks, list) and bool(ranks),
            f"ranks of {method!r} must be a list that is not empty, such as [4, 8, 16], not {shown(ranks)}",
        )
        for rank in ranks:
            _check_rank(f"each of the ranks of {method!r}", rank)
        _require(len(set(ranks)) == len(ranks), f"ranks of {method!r} name the same one twice: {shown(ranks)}")
    budget = recipe.budget
    _require(budget is None or not recipe.ranks, "ranks and budget both say the rank: leave one of them out")
    _require(budget is None or 0 < budget <= 1, f"budget must be above 0 and at most 1, not {budget}")


def _check_rank(name: str, rank: object) -> None:
    holds = (isinstance(rank, int) and 1 <= rank <= LARGEST_WHOLE) or (isinstance(rank, float) and 0 < rank <= 1)
    _require(
        holds and not isinstance(rank, bool),
        f"{name} must be {'at least 1' if not _is_large(rank) else f'at most {LARGEST_WHOLE}'}, not {shown(rank)}; "
        "a fraction of the full rank is above 0 and at most 1.0",
    )


def _is_large(rank: object) -> bool:
    return isinstance(rank, int) and rank > LARGEST_WHOLE


def _check_lists(recipe: Recipe) -> None:
    _require(
        len(recipe.betas) == 2 and all(0 <= b < 1 for b in recipe.betas),
        f"betas must be two numbers in [0, 1), not {shown(recipe.betas)}",
    )
    _require(
        all(0 < m < 1 for m in recipe.milestones) and recipe.milestones == sorted(recipe.milestones),
        f"milestones must be ascending fractions of the run between 0 and 1, not {shown(recipe.milestones)}",
    )
    for name in ("methods", "paths", "seeds"):
        values = getattr(recipe, name)
        _require(bool(values), f"{name} must not be empty")
        _require(len(set(values)) == len(values), f"{name} names the same one twice: {shown(values)}")
    for name in ("spectra", "metrics"):
        values = getattr(recipe, name)
        _require(len(set(values)) == len(values), f"{name} names the same one twice: {shown(values)}")
    for seed in (recipe.seed, *recipe.seeds):
        _require(0 <= seed <= LARGEST_SEED, f"a seed must be between 0 and {LARGEST_SEED}, not {shown(seed)}")


def check_combinations(recipe: Recipe) -> None:
    """Refuse fields that contradict each other.

    Raises
    ------
    RecipeError
        The message names the fields and what to change.
    """
    _require(
        recipe.penalty == "none" or recipe.spectrum != "identity",
        f"penalty {recipe.penalty!r} has nothing to act on with an identity spectrum: set spectrum to 'learned'",
    )
    _require(
        not recipe.nesterov or (recipe.optimizer == "sgd" and recipe.momentum > 0),
        "nesterov needs optimizer 'sgd' and a momentum above 0",
    )
    _require(
        recipe.precision != "fp16" or recipe.device == "auto",
        "precision 'fp16' needs an accelerator: set device to 'auto', or precision to 'bf16' or 'float32'",
    )
    _require(
        recipe.batch_size % recipe.accumulate == 0,
        f"batch_size {recipe.batch_size} cannot be computed in {recipe.accumulate} equal parts: change accumulate",
    )
    _check_gan(recipe) if recipe.task == "gan" else _check_classify(recipe)
    for name, options in recipe.augment.items():
        _require(
            isinstance(options, dict),
            f"augment needs a mapping of options for {shown(name)}, {{}} where there are none, not {shown(options)}",
        )


def _check_classify(recipe: Recipe) -> None:
    for method in (recipe.method, *recipe.methods):
        _require(method not in ("sn", "sr"), f"method {method!r} is a discriminator's: set task to 'gan'")
    _require(
        recipe.validation > 0 or not (recipe.patience or recipe.keep_best),
        "patience and keep_best must not choose by the test images: set validation to a share such as 0.1",
    )
    _require(not recipe.spectra, "spectra is for task 'gan': set spectrum and penalty instead")


def _check_gan(recipe: Recipe) -> None:
    _require(recipe.label_smoothing == 0 and recipe.mixup == 0, "label_smoothing and mixup are for task 'classify'")
    _require(recipe.validation == 0, "validation is for task 'classify'")
    _require(recipe.teacher is None, "teacher is for task 'classify'")
    _require(
        "kid" not in recipe.metrics or recipe.kid_subset_size <= recipe.metric_samples,
        f"kid_subset_size {recipe.kid_subset_size} is more than metric_samples {recipe.metric_samples}: lower it",
    )
    _require(
        "is" not in recipe.metrics or recipe.is_splits <= recipe.metric_samples,
        f"is_splits {recipe.is_splits} is more than metric_samples {recipe.metric_samples}: lower it",
    )
    _require("kid" not in recipe.metrics or recipe.kid_subset_size >= 2, "kid_subset_size must be at least 2, not 1")
    for metric in recipe.metrics:
        fewest = FEWEST_SAMPLES.get(metric, 1)
        _require(
            recipe.metric_samples >= fewest,
            f"metric_samples must be at least {fewest} for {metric!r}, not {recipe.metric_samples}",
        )
    spectrum = recipe.generator_spectrum or recipe.spectrum
    penalty = recipe.generator_penalty or recipe.penalty
    _require(
        recipe.budget is None or recipe.generator_rank is None,
        "generator_rank and budget both say the generator's rank: leave one of them out",
    )
    _require(
        recipe.generator_method == "dense" or penalty == "none" or spectrum != "identity",
        f"generator_penalty {penalty!r} has nothing to act on with an identity spectrum: set generator_spectrum "
        "to 'learned'",
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RecipeError(message)
