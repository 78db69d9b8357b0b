"""The contents of a GAN study's report."""

from __future__ import annotations

from collections.abc import Sequence

from sttp_riemann.lab.studies.collapse import LASTING, LEAST
from sttp_riemann.lab.studies.contents import Contents
from sttp_riemann.lab.studies.gan_findings import gan_findings
from sttp_riemann.lab.studies.gan_plots import WIDE, gan_figures
from sttp_riemann.lab.studies.gan_results import gan_csv, gan_table, tabulate_gan
from sttp_riemann.lab.studies.results import Result
from sttp_riemann.lab.training.recipe import Recipe

NOTES = (
    "Figures are those of the last evaluation: the mean over seeds ± two standard deviations.",
    "IS, FID, KID, precision and recall are torch-fidelity's. Diversity is the mean distance between samples relative "
    "to that between real images.",
    "A method names what holds the discriminator, dense that nothing does. C is the identity spectrum, L a learned "
    "one, R a learned one with the D-optimal penalty, as in the paper.",
    "Z of D and Z of G are the sizes of the discriminator and of the generator relative to the dense ones.",
    "Step time is the median over a run's steps, each of the generator and all of the discriminator that belong to it, "
    "and the median over seeds of that.",
    "The largest spectral norm is that of any discriminator layer as a matrix, at the worst evaluation of any seed.",
    f"Collapsed are runs whose diversity is below {LEAST} at the last {LASTING} evaluations. The detector names the "
    "layer whose stable rank fell most while the norm of its trained weight "
    "grew, and says so where there is none.",
)


def gan_contents(recipe: Recipe, results: Sequence[Result]) -> Contents:
    """Table, findings and figures of a GAN study.

    Parameters
    ----------
    recipe : Recipe
        The study.
    results : sequence of Result
        Its finished runs.

    Returns
    -------
    Contents

    Raises
    ------
    CheckpointError
        A run's records cannot be read.
    """
    rows = tabulate_gan(results)
    return Contents(gan_table(recipe, rows), gan_csv(rows), gan_findings(recipe, rows), NOTES, gan_figures(rows), WIDE)
