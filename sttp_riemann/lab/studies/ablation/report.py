"""The page of an ablation: its tables, figures and verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from sttp_riemann.files import write_atomically
from sttp_riemann.lab.studies.ablation.figures import draw_differentials, draw_rates
from sttp_riemann.lab.studies.ablation.gradients import independent
from sttp_riemann.lab.studies.ablation.grid import NEAR, Variant
from sttp_riemann.lab.studies.ablation.looks import Look
from sttp_riemann.lab.studies.ablation.settings import Settings
from sttp_riemann.lab.studies.ablation.verdicts import EQUAL, verdicts
from sttp_riemann.lab.studies.markdown import code, markdown_table, plain
from sttp_riemann.lab.studies.results import with_spread
from sttp_riemann.lab.studies.variant import title
from sttp_riemann.lab.training.machine import environment


def write(settings: Settings, seen: Sequence[Look], output: Path, command: Sequence[str]) -> Path:
    """Write the page and its figures beside it.

    Parameters
    ----------
    settings : Settings
        What was asked.
    seen : sequence of Look
        By method, rank and path.
    output : Path
        The Markdown file.
    command : sequence of str
        What it was written by, for the reader.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    CheckpointError
        A file cannot be written.
    """
    variants = [s.variant for s in seen]
    pictures = {"rates": draw_rates(variants), "differential": draw_differentials(seen)}
    for name, png in pictures.items():
        write_atomically(output.with_name(f"{output.stem}-{name}.png"), png)
    pairs = list(zip(seen[::2], seen[1::2], strict=True))
    told = "\n".join(f"- {sentence}" for sentence in verdicts(pairs))
    parts = [
        "# Riemannian against Householder",
        _introduction(settings, command),
        "## When each wins",
        told,
        f"Of two figures, the one that is better by a factor of at least {EQUAL} counts as better.",
        "## Accuracy, steps and time",
        markdown_table(accuracy_table(settings, variants)),
        _about_accuracy(settings),
        f"![test accuracy over learning rate]({output.stem}-rates.png)",
        "Mean over the seeds, and their range.",
        "## Conditioning, gradients and drift",
        markdown_table(probe_table(seen)),
        _about_probes(settings),
        f"![singular values of the differential]({output.stem}-differential.png)",
        "Singular values of dW/dθ, largest first, before training (faint) and after.",
        "## Environment",
        "\n".join(f"- {key}: {value}" for key, value in environment().items()),
    ]
    write_atomically(output, ("\n\n".join(parts) + "\n").encode())
    return output


def accuracy_table(settings: Settings, variants: Sequence[Variant]) -> list[list[str]]:
    """One line a variant: what it reaches at its best rate, how quickly, and at how many rates."""
    head = ["variant", "rank", "best rate", "test accuracy (%)", f"steps to {settings.target:g} %", "at rate"]
    lines = [[*head, "step (ms)", f"rates within {NEAR:g} point", "mean over rates (%)"]]
    for variant in variants:
        best, fastest, good = variant.best, variant.fastest, variant.good_rates
        lines.append(
            [
                title(f"{variant.method}-{variant.frames}"),
                str(variant.rank),
                f"{best.rate:g}",
                with_spread(best.accuracy, best.two_sd),
                "–" if fastest is None else f"{fastest.typical_steps:g}",
                "–" if fastest is None else f"{fastest.rate:g}",
                f"{best.step_ms:.1f}",
                f"{len(good)} ({min(good):g} to {max(good):g})",
                f"{variant.mean_accuracy:.2f}",
            ]
        )
    return lines


def probe_table(seen: Sequence[Look]) -> list[list[str]]:
    """One line a variant: condition of the differential, spread of gradient norms, drift."""
    head = ["variant", "rank", "condition before", "condition after", "gradient spread"]
    lines = [[*head, "float32 from float64", "orthogonality error"]]
    for one in seen:
        variant = one.variant
        lines.append(
            [
                title(f"{variant.method}-{variant.frames}"),
                str(variant.rank),
                f"{one.start:.3g} ({independent(one.probe.start)})",
                f"{one.end:.3g} ({independent(one.probe.end)})",
                f"{one.spread:.2f}",
                f"{one.drift.distance:.1e}",
                f"{one.drift.orthogonality:.1e}",
            ]
        )
    return lines


def _introduction(settings: Settings, command: Sequence[str]) -> str:
    recipe = settings.recipe
    return (
        f"Written by {code(f'sttp-riemann {shlex.join(command)}')}. The recipe {code(recipe.name)} "
        f"({plain(recipe.data.name)}, {plain(recipe.network.name)}, {recipe.schedule.steps} steps of "
        f"{recipe.schedule.batch_size}, "
        f"spectrum {recipe.network.spectrum}) with each method "
        f"on both paths, at ranks {_list(settings.ranks)} and learning rates {_list(settings.rates)}, "
        f"{len(recipe.study.seeds)} seeds each. Both paths start from the same weights and see the same batches. "
        "Riemannian Adam scales a frame's step so that its root mean square entry is about the learning rate, as "
        "Adam's is, which makes equal rates comparable."
    )


def _about_accuracy(settings: Settings) -> str:
    return (
        f"Test accuracy: mean over seeds ± two standard deviations, at the rate where it is highest. Steps to "
        f"{settings.target:g} %: median over seeds, to the first evaluation (every "
        f"{settings.recipe.evaluation.evaluate_every} steps) that has it, at the rate where that is soonest. "
        "Step: median of forward, backward and optimizer."
    )


def _about_probes(settings: Settings) -> str:
    options = ", ".join(f"{plain(k)} {plain(v)}" for k, v in settings.probe_options.items())
    return (
        f"Condition: largest over smallest singular value of the differential of W of the last convolution but one, "
        f"in the recipe's network with {options}, trained at {settings.recipe.optimizer.lr:g}; the Riemannian one is "
        "taken on the tangent space, without the directions of the gauge. In brackets how many directions move W at "
        "all: a learned spectrum starts with equal values, within which U and V can turn together and leave W as it "
        "is; only the others are counted in the condition. Gradient spread: 95 % quantile over 5 % quantile of "
        "the norm of all frames' gradients along that run, after its first tenth. Float32 from float64: relative "
        f"distance of W after {settings.drift_steps} steps towards a fixed 64 x 64 matrix in both precisions; "
        "orthogonality error: the largest entry of |XᵀX − I| in float32 there."
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)
