"""What is computed again: enough, as cheap as can be, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.batch.budget import SAFE, Call, Key, Step, choose_again

SIZES = st.integers(1, 100)


@st.composite
def steps(draw) -> Step:
    """Steps of calls that keep more and more, some of them without V^T x or without a choice."""
    calls, common = [], 0
    for i in range(draw(st.integers(1, 6))):
        common += draw(SIZES)
        own = draw(st.sampled_from(["free", "fixed", "none"]))
        calls.append(
            Call(
                common=common,
                input=draw(SIZES),
                output=draw(SIZES),
                copied=draw(st.booleans()),
                dense_gradient=draw(SIZES),
                gradient=draw(SIZES),
                codes=0 if own == "none" else draw(SIZES),
                cost=0 if own == "none" else draw(SIZES),
                key=Key(i, 0) if own == "free" else None,
                kept=own == "fixed",
            )
        )
    return Step(calls, common + draw(SIZES), draw(SIZES), draw(SIZES))


def _peak(step: Step, again: set[Key]) -> float:
    return max(step.levels(again))


def _all(step: Step) -> set[Key]:
    return {call.key for call in step.calls if call.key is not None}


@given(steps(), st.floats(0.1, 2))
def test_the_share_is_kept_or_no_further_call_would_help(step: Step, share: float) -> None:
    again = choose_again(step, share)
    within = _peak(step, again) <= share * SAFE * step.dense_peak()
    assert within or all(_peak(step, again | {key}) >= _peak(step, again) for key in _all(step) - again)


@given(steps(), st.floats(0.1, 2))
def test_nothing_is_computed_again_in_vain(step: Step, share: float) -> None:
    again = choose_again(step, share)
    limit = max(share * SAFE * step.dense_peak(), _peak(step, again))
    assert all(_peak(step, again - {key}) > limit for key in again)


@given(steps())
def test_with_room_enough_everything_is_kept(step: Step) -> None:
    assert choose_again(step, 1e6) == set()


def _equal(costs: list[float], codes: list[float], weights: float) -> Step:
    """Calls after which nothing but V^T x is kept, so that the end of the forward is the peak."""
    calls = [
        Call(0, 0, 0, False, 0, 0, codes=size, cost=cost, key=Key(i, 0))
        for i, (cost, size) in enumerate(zip(costs, codes, strict=True))
    ]
    return Step(calls, 1000, 0, weights)


def test_the_cheapest_per_byte_goes_first() -> None:
    again = choose_again(_equal([400, 100, 900], [4, 4, 4], 0), (1000 + 8) / 1000 / SAFE)
    assert {key.layer for key in again} == {1}


def test_what_became_needless_is_kept_again() -> None:
    """Three bytes are missing: the cheap small one is taken first, and does not suffice."""
    again = choose_again(_equal([1, 60], [2, 6], 0), (1000 + 5) / 1000 / SAFE)
    assert {key.layer for key in again} == {1}


def test_what_comes_after_the_peak_stays() -> None:
    """The first call keeps nothing before it, so that the second alone cannot lower the peak at the first."""
    calls = [
        Call(500, 400, 400, False, 0, 0, codes=10, cost=1, key=Key(0, 0)),
        Call(600, 1, 1, False, 0, 0, codes=10, cost=1, key=Key(1, 0)),
    ]
    assert choose_again(Step(calls, 610, 0, 0), 0.5) == set()
