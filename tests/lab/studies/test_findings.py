from __future__ import annotations

import numpy as np
import pytest

from sttp_riemann.lab.studies.findings import comparisons, findings
from sttp_riemann.lab.studies.reading import Reading
from tests.lab.studies.conftest import VARIANTS, curves, page, result, study, validated

PATHS = ("riemannian", "householder")


def noisy(seeds, gap=0.0, methods=VARIANTS, noise=0.001):
    """Runs whose accuracies differ by chance, those on Riemannian frames by a gap besides."""
    draw = np.random.default_rng(0)
    return [
        result(m, path, seed, 0.95 + noise * draw.normal() + (gap if m != "dense" and path == "riemannian" else 0))
        for seed in range(seeds)
        for m, path in methods
    ]


def pairs(made):
    return [(c.ours, c.other) for c in made]


def test_paths_are_compared_and_variants_with_the_baseline(results):
    framed = [f"{m} {path}" for m in ("SVDP", "STTP") for path in ("riemannian", "householder")]
    assert pairs(comparisons(page(results))) == [
        (framed[0], framed[1]), (framed[2], framed[3]), *((name, "dense") for name in framed)
    ]  # fmt: skip


def test_values_of_a_swept_field_are_compared_with_the_first():
    runs = [result("sttp", init=init) for init in ("identity", "orthogonal", "noisy_identity")]
    assert pairs(comparisons(page(runs))) == [
        ("STTP riemannian noisy_identity", "STTP riemannian identity"),
        ("STTP riemannian orthogonal", "STTP riemannian identity"),
    ]


def losses(*fields):
    """Runs of two methods at two values of some fields that change together."""
    values = {"label_smoothing": (0.0, 0.1), "mixup": (0.0, 0.2), "lr": (0.1, 0.2)}
    return [
        result(method, label_smoothing=values["label_smoothing"][i], **{name: values[name][i] for name in fields})
        for i in (0, 1) for method in ("dense", "sttp")
    ]  # fmt: skip


def test_a_field_that_goes_with_another_is_in_no_title_and_told_once():
    found = page(losses("mixup"))
    assert list(found.variants) == [f"{m} mixup={v}" for m in ("dense", "STTP riemannian") for v in (0.0, 0.2)]
    assert "label_smoothing changes together with mixup: 0.0 for 0.0; 0.1 for 0.2." in findings(found)
    mixed = [*losses("mixup"), result("dense", label_smoothing=0.1, mixup=0.0)]
    assert "dense mixup=0.0 label_smoothing=0.1" in page(mixed).variants


@pytest.mark.parametrize("fields", [(), ("lr",)])
def test_the_baseline_of_a_variant_has_the_same_swept_fields_and_rate(fields):
    rates = [f" lr={rate}" if fields else "" for rate in (0.1, 0.2)]
    made = pairs(comparisons(page(losses(*fields))))
    assert made[-2:] == [
        (f"STTP riemannian{rate} label_smoothing={value}", f"dense{rate} label_smoothing={value}")
        for rate, value in zip(rates, (0.0, 0.1), strict=True)
    ]


def test_paths_are_compared_whatever_fields_only_one_of_them_has():
    runs = [result("sttp", moment=moment) for moment in ("matrix", "cores")]
    runs += [result("sttp", "householder", pivots=pivots) for pivots in (True, False)]
    assert pairs(comparisons(page(runs)))[:4] == [
        (f"STTP riemannian moment={moment}", f"STTP householder pivots={pivots}")
        for moment in ("cores", "matrix") for pivots in ("false", "true")
    ]  # fmt: skip


def test_paths_that_differ_in_a_field_that_both_have_are_not_compared():
    runs = [result("sttp", path, init=init) for path in PATHS for init in ("orthogonal", "identity")]
    made = pairs(comparisons(page(runs)))
    assert ("STTP riemannian identity", "STTP householder identity") in made
    assert ("STTP riemannian identity", "STTP householder orthogonal") not in made


def tuned(rates=(0.1, 0.2), gap=0.0, held=0.9):
    """Runs at several rates, of which the last is the best."""
    return [
        validated(result("sttp", path, seed, 0.9 + rate / 10 + gap * (path == "riemannian"), lr=rate), held + rate)
        for seed in range(3) for path in PATHS for rate in rates
    ]  # fmt: skip


def test_where_rates_are_chosen_their_mean_and_the_steps_to_the_target_are_compared_too():
    told = [str(c) for c in comparisons(page(tuned(gap=0.01)))]
    assert len(told) == 3
    assert "difference +1.00 points" in told[2]
    assert "mean over rates" in told[2]
    assert "steps to 95 %" in told[1]


def test_a_run_that_never_reaches_the_target_counts_with_all_its_steps():
    runs = [result("sttp", path, seed, 0.9 if path == "riemannian" else 0.99) for seed in range(2) for path in PATHS]
    found = page(runs)
    assert list(found.table.steps_to_target) == [1000, 1000, 10, 10]
    assert "Runs that never reach 95 % count with all their steps: 2 of STTP riemannian." in findings(found)
    assert list(page(runs, Reading(target=0.5)).table.steps_to_target) == [10] * 4


def test_steps_to_a_target_that_no_run_reaches_are_not_compared():
    found = page(tuned(held=0.5))
    assert "steps to" not in "".join(str(c) for c in comparisons(found))
    told = findings(found)
    assert "No run reaches 95 %." in told
    assert not any("never reach" in line for line in told)


def test_curves_are_compared_at_the_same_size():
    made = comparisons(page(curves()))
    assert pairs(made) == [
        ("SVDP riemannian", "SVDP householder"), ("STTP riemannian", "STTP householder"),
        ("STTP riemannian", "SVDP riemannian"), ("STTP householder", "SVDP householder"),
    ]  # fmt: skip
    assert {c.span for c in made} == {(6.0, 24.0)}
    assert "at equal Z (6 to 24 %)" in str(made[0])


def test_curves_are_compared_at_the_same_stored_numbers_where_a_reader_asks():
    """Stored twice as much on one path, its curve is half as far along: at equal numbers it has the value of rank 8."""
    runs = [
        result(
            "sttp", frames, seed, accuracy, rank=rank, ratio=rank, stored=1000 * rank * (1 + (frames == "riemannian"))
        )
        for frames in PATHS
        for rank, accuracy in ((4, 0.80), (8, 0.90), (16, 1.00))
        for seed in (0, 1)
    ]
    (by_z,) = comparisons(page(runs))
    assert (by_z.span, by_z.difference.mean) == ((4.0, 16.0), 0)
    (by_stored,) = comparisons(page(runs, Reading(size="stored")))
    assert by_stored.span == (8000, 16000)
    assert by_stored.difference.mean == pytest.approx(-10)
    assert "at equal stored numbers (8,000 to 16,000)" in str(by_stored)


def test_too_few_seeds_cannot_tell(results):
    sentences = findings(page(results))
    assert any("SVDP riemannian against SVDP householder: too few seeds to tell whether" in s for s in sentences)
    assert (
        "The report makes 6 comparisons: with so many, 8 seeds are the fewest that can tell a difference." in sentences
    )


def test_a_difference_is_told_with_its_interval():
    sentences = findings(page(noisy(8, gap=0.01)))
    told = next(s for s in sentences if s.startswith("STTP riemannian against STTP householder"))
    assert "test accuracy is higher (difference +" in told
    assert "95 % interval +0." in told
    assert "8 seeds; p = 0.0" in told


def test_a_difference_within_the_margin_is_told_as_that():
    told = str(comparisons(page(noisy(8, gap=0.01), Reading(margin=3)))[0])
    assert "test accuracy is higher, yet by less than the margin of 3 points" in told


def test_equivalence_is_claimed_only_within_a_margin_that_is_named():
    told = str(comparisons(page(noisy(9)))[0])
    assert "test accuracy is the same within the margin of 0.5 points" in told


def test_what_is_not_shown_is_not_claimed():
    told = str(comparisons(page(noisy(8, noise=0.02)))[0])
    assert "no difference in test accuracy is shown, nor that it is within 0.5 points" in told


def test_variants_with_no_seed_in_common_are_not_compared():
    assert comparisons(page([result("sttp", seed=0), result("sttp", "householder", seed=1)])) == []


def test_the_time_of_a_step_is_described_as_a_ratio(results):
    slow = [{**r, "median_step_ms": 24.0} if r["recipe"]["frames"] == "householder" else r for r in results]
    told = "A step of SVDP riemannian takes 0.50 times as long as one of SVDP householder."
    assert told in findings(page(slow))


def test_fewer_seeds_and_other_rates_are_remarked():
    runs = [result("dense", lr=0.1), result("dense", seed=1, lr=0.1), result("sttp", lr=0.5)]
    sentences = findings(page(runs))
    assert "Rows differ in learning rate: 0.1 of dense; 0.5 of STTP riemannian." in sentences
    assert "Of fewer seeds than the 2 of other rows: STTP riemannian (1)." in sentences


def test_findings_know_no_spread():
    told = " ".join(findings(page(study(3))) + findings(page(curves(3))))
    assert "spread" not in told


@pytest.mark.parametrize("tuned", [False, True])
def test_a_study_of_the_same_run_twice_claims_nothing(tuned):
    runs = [result("sttp", path, seed, 0.9) for seed in range(6) for path in ("riemannian", "householder")]
    runs = [validated(run, 0.9) for run in runs] if tuned else runs
    (made,) = comparisons(page(runs))
    assert not made.difference.different
    assert (made.difference.pairs, made.difference.mean) == (6, 0.0)


def test_a_difference_that_is_the_same_in_three_seeds_is_not_told_as_certain():
    runs = [result("sttp", path, seed, 0.95 - 0.0083 * (path == "riemannian")) for seed in range(3) for path in PATHS]
    told = str(comparisons(page(runs))[0])
    assert "too few seeds to tell whether test accuracy differs" in told
    assert "(difference -0.83 points in every seed, so that there is no interval; 3 seeds)" in told
    assert page(runs).summary()["test accuracy (%)"][0] == "94.17"


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    runs = [
        result("sttp", path, seed, 0.95 - 1e-7 * (seed + 1) * (path == "riemannian"))
        for seed in range(3) for path in PATHS
    ]  # fmt: skip
    (told,) = map(str, comparisons(page(runs)))
    assert "difference +0.00" in told
    assert "-0.00" not in told
