from __future__ import annotations

import pytest

from sttp_riemann.lab.bench import race as racing
from sttp_riemann.lab.bench.child import Attempt
from sttp_riemann.lab.bench.contest import Contest, Contestant, Entry
from sttp_riemann.lab.bench.race import interleave, paired_ratio, race
from sttp_riemann.lab.bench.settings import Settings

SETTINGS = Settings(repetitions=3, budget=100)


def contest(*contestants: Contestant) -> Contest:
    return Contest("case", contestants, contestants[0].name)


def test_a_time_is_the_median_of_the_rounds_after_warming_up(clock, watch):
    # The first call warms up
    fast = clock.work(50.0, 1.0, 2.0, 9.0, 1.0)
    (entry,) = race(contest(Contestant("fast", lambda: fast)), SETTINGS, watch)
    assert entry == Entry("case", "fast", pytest.approx(2.0), None)


def test_a_ratio_is_the_median_of_the_rounds_ratios(clock, watch):
    # The machine slows down fourfold after the first round, and both with it
    ours = clock.work(1.0, 1.0, 1.0, 4.0, 4.0)
    theirs = clock.work(3.0, 3.0, 3.0, 12.0, 12.0)
    entries = race(contest(Contestant("ours", lambda: ours), Contestant("theirs", lambda: theirs)), SETTINGS, watch)
    assert [entry.ratio for entry in entries] == [None, pytest.approx(3.0)]


def test_paired_ratios_do_not_see_what_slows_both():
    assert paired_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == 2.0


def test_contestants_take_turns_and_each_round_begins_with_another(clock, watch):
    order = []

    def called(name):
        def run() -> None:
            clock.seconds += 1.0
            order.append(name)

        return run

    samples = interleave({name: called(name) for name in "abc"}, 3, 100.0, watch)
    assert "".join(order[-9:]) == "abc" + "bca" + "cab"
    assert {name: len(own) for name, own in samples.items()} == {"a": 3, "b": 3, "c": 3}


def test_no_round_begins_after_the_budget_is_spent(clock, watch):
    samples = interleave({"slow": clock.work(4.0)}, 100, 10.0, watch)
    assert samples == {"slow": [4.0, 4.0, 4.0]}


def test_there_is_one_round_however_small_the_budget(clock, watch):
    assert interleave({"slow": clock.work(4.0)}, 100, 1e-9, watch) == {"slow": [4.0]}


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (0.005, 4), (1e-7, 100)])
def test_short_calls_are_timed_many_at_once(clock, watch, seconds, calls):
    assert watch.calls_for_a_sample(clock.work(seconds)) == calls


def test_what_is_missing_says_so_and_the_rest_is_measured(clock, watch):
    ours = clock.work(2.0)
    absent = Contestant("absent", lambda: pytest.fail("built"), missing="not installed: do this")
    assert race(contest(Contestant("ours", lambda: ours), absent), SETTINGS, watch) == [
        Entry("case", "ours", pytest.approx(2.0)),
        Entry("case", "absent", note="not installed: do this"),
    ]


@pytest.mark.parametrize(
    ("tried", "entry"),
    [
        (Attempt(failure="> 100 s"), Entry("case", "peer", note="> 100 s")),
        (Attempt(seconds=50.0), Entry("case", "peer", 50.0, pytest.approx(25.0), "one call")),
        (Attempt(seconds=0.5), Entry("case", "peer", pytest.approx(4.0), pytest.approx(2.0))),
    ],
)
def test_a_guarded_contestant_takes_turns_only_if_its_trial_was_short(clock, watch, monkeypatch, tried, entry):
    monkeypatch.setattr(racing, "attempt", lambda build, device, timeout: tried)
    ours, theirs = clock.work(2.0), clock.work(4.0)
    peer = Contestant("peer", lambda: theirs, guarded=True)
    assert race(contest(Contestant("ours", lambda: ours), peer), SETTINGS, watch)[1] == entry
