"""What values a recipe's fields may have, alone and together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sttp_riemann.training.errors import RecipeError

if TYPE_CHECKING:
    from sttp_riemann.training.recipe import Recipe

AT_LEAST_ONE = (
    "steps", "batch_size", "accumulate", "evaluate_every", "evaluate_batch_size", "keep",
    "discriminator_steps", "metric_samples", "is_splits", "kid_subsets", "kid_subset_size",
)  # fmt: skip
AT_LEAST_ONE_IF_GIVEN = ("image_size", "channels", "threads", "generator_rank")
NOT_NEGATIVE = (
    "seed", "checkpoint_every", "gauge_fix_every", "patience", "weight_decay", "penalty_weight", "mixup",
    "generator_penalty_weight",
)  # fmt: skip
POSITIVE = ("lr", "clip", "decay_factor", "temperature")
FRACTIONS = ("momentum", "label_smoothing", "ema")
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
        _require(getattr(recipe, name) >= 1, f"{name} must be at least 1, not {getattr(recipe, name)}")
    for name in NOT_NEGATIVE:
        _require(getattr(recipe, name) >= 0, f"{name} must not be negative, not {getattr(recipe, name)}")
    for name in POSITIVE:
        value = getattr(recipe, name)
        _require(value is None or value > 0, f"{name} must be positive, not {value}")
    for name in FRACTIONS:
        _require(0 <= getattr(recipe, name) < 1, f"{name} must be in [0, 1), not {getattr(recipe, name)}")
    _require(0 <= recipe.distill <= 1, f"distill must be in [0, 1], not {recipe.distill}")
    _check_ranks(recipe)
    _check_lists(recipe)


def _check_ranks(recipe: Recipe) -> None:
    for rank in recipe.rank.values() if isinstance(recipe.rank, dict) else [recipe.rank]:
        _check_rank("rank", rank)
    for method, ranks in recipe.ranks.items():
        _require(method in LOW_RANK, f"ranks are of {' and '.join(LOW_RANK)}, not of {method!r}")
        _require(
            isinstance(ranks, list) and bool(ranks),
            f"ranks of {method!r} must be a list that is not empty, such as [4, 8, 16], not {ranks!r}",
        )
        for rank in ranks:
            _check_rank(f"each of the ranks of {method!r}", rank)
        _require(len(set(ranks)) == len(ranks), f"ranks of {method!r} name the same one twice: {ranks}")
    budget = recipe.budget
    _require(budget is None or not recipe.ranks, "ranks and budget both say the rank: leave one of them out")
    _require(budget is None or 0 < budget <= 1, f"budget must be above 0 and at most 1, not {budget}")


def _check_rank(name: str, rank: object) -> None:
    holds = (isinstance(rank, int) and rank >= 1) or (isinstance(rank, float) and 0 < rank <= 1)
    _require(
        holds and not isinstance(rank, bool),
        f"{name} must be at least 1, not {rank!r}; a fraction of the full rank is above 0 and at most 1.0",
    )


def _check_lists(recipe: Recipe) -> None:
    _require(
        len(recipe.betas) == 2 and all(0 <= b < 1 for b in recipe.betas),
        f"betas must be two numbers in [0, 1), not {recipe.betas}",
    )
    _require(
        all(0 < m < 1 for m in recipe.milestones) and recipe.milestones == sorted(recipe.milestones),
        f"milestones must be ascending fractions of the run between 0 and 1, not {recipe.milestones}",
    )
    for name in ("methods", "paths", "seeds"):
        values = getattr(recipe, name)
        _require(bool(values), f"{name} must not be empty")
        _require(len(set(values)) == len(values), f"{name} names the same one twice: {values}")
    for name in ("spectra", "metrics"):
        values = getattr(recipe, name)
        _require(len(set(values)) == len(values), f"{name} names the same one twice: {values}")
    for seed in (recipe.seed, *recipe.seeds):
        _require(0 <= seed <= LARGEST_SEED, f"a seed must be between 0 and {LARGEST_SEED}, not {seed}")


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
            f"augment needs a mapping of options for {name!r}, {{}} where there are none, not {options!r}",
        )


def _check_classify(recipe: Recipe) -> None:
    for method in (recipe.method, *recipe.methods):
        _require(method not in ("sn", "sr"), f"method {method!r} is a discriminator's: set task to 'gan'")
    _require(not recipe.spectra, "spectra is for task 'gan': set spectrum and penalty instead")


def _check_gan(recipe: Recipe) -> None:
    _require(recipe.label_smoothing == 0 and recipe.mixup == 0, "label_smoothing and mixup are for task 'classify'")
    _require(recipe.teacher is None, "teacher is for task 'classify'")
    _require(
        "kid" not in recipe.metrics or recipe.kid_subset_size <= recipe.metric_samples,
        f"kid_subset_size {recipe.kid_subset_size} is more than metric_samples {recipe.metric_samples}: lower it",
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
