from __future__ import annotations

import torch

from sttp_riemann.lab.studies.ablation.drift import Drift
from sttp_riemann.lab.studies.ablation.gradients import Probe, condition, independent
from sttp_riemann.lab.studies.ablation.grid import Cell, Variant
from sttp_riemann.lab.studies.ablation.looks import Look
from sttp_riemann.lab.studies.ablation.verdicts import verdicts


def seen(frames: str, accuracies: tuple[float, ...], step_ms: float) -> Look:
    cell = Cell("sttp", frames, 4, 1e-3, accuracies, (None,) * len(accuracies), step_ms)
    values = torch.tensor([2.0, 1.0, 1e-9])
    return Look(Variant("sttp", frames, 4, (cell,)), Probe(torch.ones(20), values, values), Drift(1e-6, 1e-7))


def test_a_lead_within_the_spread_of_the_seeds_is_no_lead():
    near = [(seen("riemannian", (98.0, 90.0), 1.0), seen("householder", (93.0, 92.0), 1.0))]
    far = [(seen("riemannian", (98.0, 98.2), 1.0), seen("householder", (93.0, 92.8), 1.0))]
    assert "within the spread of the seeds in 1 of 1" in verdicts(near)[0]
    assert "Riemannian ahead in 1, Householder ahead in 0, within the spread of the seeds in 0" in verdicts(far)[0]
    assert "+5.20 points" in verdicts(far)[0]


def test_a_criterion_is_won_by_a_clear_factor_only():
    sentences = verdicts([(seen("riemannian", (98.0,), 1.0), seen("householder", (98.0,), 2.0))])
    time = next(s for s in sentences if s.startswith("Time of a step"))
    assert "Riemannian better in 1, Householder better in 0 of 1 pairs; medians 1.0 ms and 2.0 ms" in time
    assert any(s == "Steps to the target at the quickest rate: never measured on both paths." for s in sentences)
    equal = next(s for s in sentences if s.startswith("Distance of float32"))
    assert "Riemannian better in 0, Householder better in 0" in equal


def test_directions_that_do_not_move_the_weight_are_not_counted_in_the_condition():
    values = torch.tensor([2.0, 1.0, 1e-9])
    assert independent(values) == 2
    assert condition(values) == 2.0
