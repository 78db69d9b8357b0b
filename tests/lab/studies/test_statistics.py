import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sttp_riemann.lab.studies.statistics import (
    EXACT,
    difference,
    fewest_pairs,
    flip_signs,
    holm,
    interval,
    judge,
    matched,
    mean_test,
    pair,
    share_interval,
    share_test,
)

NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 3))
SAMPLES = st.lists(NUMBERS, min_size=2, max_size=9)


@given(SAMPLES.filter(lambda values: len(set(values)) > 1))
def test_interval_is_that_of_scipys_t_test(values):
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


@given(SAMPLES)
@settings(deadline=None)
def test_sign_flips_count_what_brute_force_counts(values):
    integers = [round(1000 * value) for value in values]
    seen = sum(integers)
    sums = [sum(s * v for s, v in zip(signs, integers, strict=True)) for signs in _patterns(len(values))]
    for alternative, extreme in {
        "two-sided": [abs(total) >= abs(seen) for total in sums],
        "greater": [total >= seen for total in sums],
        "less": [total <= seen for total in sums],
    }.items():
        assert flip_signs(values, alternative) == sum(extreme) / len(sums)


def _patterns(count):
    return itertools.product((1, -1), repeat=count)


def test_sign_flips_agree_with_scipys_permutation_test():
    values = np.random.default_rng(0).normal(0.4, 1.0, 9)
    found = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert flip_signs(values) == pytest.approx(found.pvalue)


def test_more_pairs_are_tested_by_students_t():
    values = np.random.default_rng(0).normal(0.4, 1.0, EXACT + 1)
    assert mean_test(values) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


@pytest.mark.parametrize("count", [EXACT, EXACT + 1])
def test_equal_differences_have_an_answer_however_many(count):
    assert mean_test([0.0] * count) == 1.0
    assert mean_test([0.5] * count) < 0.001
    assert mean_test([0.5] * count, "less") == 1.0
    assert difference([0.0] * count, margin=0.1).equivalent


@pytest.mark.parametrize("values", [[-0.83] * 3, [0.1 + 0.2, 0.3, 0.3], [0.0] * 20, [5.0], []])
def test_values_that_do_not_vary_have_no_interval_as_they_do_not_tell_how_far_another_seed_may_be(values):
    assert all(math.isnan(bound) for bound in interval(values))


def test_twenty_equal_differences_are_no_more_certain_than_their_signs():
    assert mean_test([0.5] * 20) == 2 / 2**EXACT


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(ps):
    order, rejected = sorted(range(len(ps)), key=ps.__getitem__), set()
    for place, index in enumerate(order):
        if min(1.0, (len(ps) - place) * ps[index]) > 0.05:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(ps)) if p <= 0.05} == rejected


@pytest.mark.parametrize("comparisons", [1, 2, 3, 6, 10])
def test_fewest_pairs_are_those_from_which_a_family_can_tell(comparisons):
    def told(count):
        return judge([difference([1.0] * count)] + [difference([])] * (comparisons - 1))[0].different

    fewest = fewest_pairs(comparisons)
    assert told(fewest)
    assert not told(fewest - 1)
    assert judge([difference([1.0] * (fewest - 1))] * comparisons)[0].too_few


def test_pairs_are_of_the_seeds_that_both_have():
    assert pair({0: 3.0, 2: 5.0, 7: 1.0}, {2: 4.0, 0: 1.0, 9: 0.0}) == [2.0, 1.0]


def test_no_pairs_are_no_difference_and_no_equivalence():
    found = difference([], margin=1.0)
    assert not found.different
    assert not found.equivalent
    assert math.isnan(found.mean)
    assert found.too_few


def test_a_single_pair_has_no_interval():
    assert math.isnan(difference([1.0]).low)


def test_equivalence_needs_a_margin_that_was_named():
    values = [0.01, -0.02, 0.0, 0.01, -0.01, 0.02, 0.0, 0.01]
    assert not difference(values).equivalent
    assert difference(values, margin=0.1).equivalent
    assert not difference(values, margin=0.005).equivalent


def test_a_difference_beyond_the_margin_is_never_equivalent():
    assert not difference([0.3, 0.31, 0.29, 0.3, 0.32, 0.3, 0.28, 0.3], margin=0.1).equivalent


# Studies that are simulated: runs of a seed share what the seed does to both methods
STUDIES = 400


@given(st.integers(1, 20).flatmap(lambda runs: st.tuples(st.integers(0, runs), st.just(runs))))
def test_beyond_the_interval_of_a_share_lie_2_and_a_half_percent_at_either_side(found):
    count, runs = found
    low, high = share_interval(count, runs)
    assert low == 0 if count == 0 else stats.binom.sf(count - 1, runs, low) == pytest.approx(0.025, rel=1e-6)
    assert high == 1 if count == runs else stats.binom.cdf(count, runs, high) == pytest.approx(0.025, rel=1e-6)


@given(st.integers(0, 7), st.integers(0, 6))
def test_shares_are_compared_by_all_tables_of_the_same_margins(ours, other):
    chances = [stats.hypergeom.pmf(k, 13, ours + other, 7) for k in range(8)]
    extreme = sum(p for p in chances if p <= chances[ours] * (1 + 1e-7))
    assert share_test((ours, 7), (other, 6)) == pytest.approx(extreme)


def _studies(gap, counts, methods=2):
    generator = np.random.default_rng(0)
    for number in range(STUDIES):
        count = counts[number % len(counts)]
        shared = generator.normal(0, 1.0, count)
        runs = [95 + shared + generator.normal(0, 1.0, count) for _ in range(methods)]
        runs[0] = runs[0] + gap
        yield [dict(enumerate(run)) for run in runs]


def _called_different(study):
    family = [difference(pair(a, b), margin=0.5) for a, b in itertools.combinations(study, 2)]
    return any(found.different for found in judge(family))


def test_the_same_method_twice_is_called_different_in_at_most_5_of_100_studies():
    assert sum(map(_called_different, _studies(0, range(6, 11)))) <= 0.05 * STUDIES


@pytest.mark.parametrize("count", range(6, 11))
def test_of_all_signs_that_chance_may_give_at_most_5_in_100_are_called_different(count):
    # Not simulated: where both methods are the same, every pattern of signs is as likely as any other
    values = np.random.default_rng(0).normal(0, 1, count)
    called = [flip_signs(np.array(signs) * values) <= 0.05 for signs in _patterns(count)]
    assert 0 < np.mean(called) <= 0.05


def test_six_comparisons_of_one_method_are_all_right_in_95_of_100_studies():
    assert sum(map(_called_different, _studies(0, range(6, 11), methods=4))) <= 0.05 * STUDIES


def test_a_difference_of_two_standard_deviations_is_found_with_eight_seeds():
    assert sum(map(_called_different, _studies(2.0, [8]))) > 0.9 * STUDIES


def _found_among(study, comparisons):
    """Whether the first of two methods is told from the second in a report that makes other comparisons, too."""
    ours, other, *others = study
    pairs = [(ours, other), *itertools.combinations(others, 2)][:comparisons]
    assert len(pairs) == comparisons
    return judge([difference(pair(a, b)) for a, b in pairs])[0].different


@pytest.mark.parametrize(
    ("count", "alone", "among_six"), [(8, 0.91, 0.49), (9, 0.95, 0.67), (10, 0.99, 0.82), (12, 0.99, 0.91)]
)
def test_the_guides_table_of_how_often_that_difference_is_found(count, alone, among_six):
    # With 8 seeds and six comparisons each seed must agree: a chance of 0.921 for one, 0.52 for all
    assert sum(map(_called_different, _studies(2.0, [count]))) / STUDIES == pytest.approx(alone, abs=0.006)
    found = [_found_among(study, 6) for study in _studies(2.0, [count], methods=6)]
    assert sum(found) / STUDIES == pytest.approx(among_six, abs=0.006)


def test_the_same_method_is_called_equivalent_only_where_the_margin_allows():
    beyond = [difference(pair(a, b), margin=2.0).equivalent for a, b in _studies(2.0, [8])]
    assert sum(beyond) <= 0.05 * STUDIES


def _curve(values, ratios=(1.0, 10.0, 100.0)):
    return list(zip(ratios, values, strict=True))


def test_curves_are_compared_where_both_have_a_size():
    ours = {0: _curve([0.0, 1.0, 2.0]), 1: _curve([1.0, 2.0, 3.0])}
    other = {0: _curve([0.0, 1.0], (10.0, 1000.0)), 1: _curve([0.0, 1.0], (10.0, 1000.0))}
    found, low, high = matched(ours, other)
    assert (low, high) == (10.0, 100.0)
    # From 1 to 2 against 0 to 0.5 on a log axis
    assert found == pytest.approx([1.25, 2.25])


def test_points_of_the_same_size_are_compared_as_they_are():
    found, low, high = matched({0: [(5.0, 91.0)]}, {0: [(5.0, 90.0)]})
    assert found == [1.0]
    assert low == high == 5.0


def test_curves_without_a_common_size_are_not_compared():
    assert matched({0: [(1.0, 0.0), (2.0, 1.0)]}, {0: [(3.0, 0.0), (4.0, 1.0)]})[0] == []


@given(st.permutations(_curve([0.0, 1.5, 2.0])), st.floats(-5, 5))
def test_a_shifted_curve_differs_by_the_shift(points, shift):
    found, _, _ = matched({0: points}, {0: [(z, value + shift) for z, value in points]})
    assert found == pytest.approx([-shift])
