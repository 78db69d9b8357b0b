from __future__ import annotations

import math

import pytest

from sttp_riemann.lab.bench import race as racing
from sttp_riemann.lab.bench.child import Attempt
from sttp_riemann.lab.bench.contest import Contest, Contestant
from sttp_riemann.lab.bench.race import calls_for_a_sample, interleave, peak_memory, race
from sttp_riemann.lab.bench.settings import Settings

SETTINGS = Settings(repetitions=3, budget=100)


def contest(*contestants: Contestant) -> Contest:
    return Contest("case", contestants)


def test_a_row_is_a_round_after_warming_up(clock):
    # The first call warms up, the second counts the calls of a sample
    fast = clock.work(50.0, 1.0, 2.0, 9.0)
    rows = race(contest(Contestant("fast", lambda: fast)), SETTINGS, clock)
    assert [(r["case"], r["contestant"], r["round"], r["value"]) for r in rows] == [
        ("case", "fast", turn, seconds) for turn, seconds in enumerate([1.0, 2.0, 9.0])
    ]


def test_contestants_take_turns_and_each_round_begins_with_another(clock):
    order = []

    def called(name):
        def run() -> None:
            clock.seconds += 1.0
            order.append(name)

        return run

    samples = interleave({name: called(name) for name in "abc"}, 3, 100.0, clock)
    assert "".join(order[-9:]) == "abc" + "bca" + "cab"
    assert {name: len(own) for name, own in samples.items()} == {"a": 3, "b": 3, "c": 3}


def test_no_round_begins_after_the_budget_is_spent(clock):
    samples = interleave({"slow": clock.work(4.0)}, 100, 10.0, clock)
    assert samples == {"slow": [4.0, 4.0, 4.0]}


def test_there_is_one_round_however_small_the_budget(clock):
    assert interleave({"slow": clock.work(4.0)}, 100, 1e-9, clock) == {"slow": [4.0]}


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (0.005, 4), (1e-7, 100)])
def test_short_calls_are_timed_many_at_once(clock, seconds, calls):
    assert calls_for_a_sample(clock.work(seconds), clock) == calls


def test_what_is_missing_says_so_and_the_rest_is_measured(clock):
    ours = clock.work(2.0)
    absent = Contestant("absent", lambda: pytest.fail("built"), missing="not installed: do this")
    *measured, missing = race(contest(Contestant("ours", lambda: ours), absent), SETTINGS, clock)
    assert [r["value"] for r in measured] == [2.0, 2.0, 2.0]
    assert (missing["contestant"], missing["note"]) == ("absent", "not installed: do this")
    assert math.isnan(missing["value"])


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        (Attempt(100.0, failure="> 100 s", capped=True), [(None, 100.0, "> 100 s", True)]),
        (Attempt(50.0), [(None, 50.0, "one call", False)]),
        (Attempt(0.5), [(turn, 4.0, "", False) for turn in range(3)]),
    ],
)
def test_a_guarded_contestant_takes_turns_only_if_its_trial_was_short(clock, monkeypatch, tried, told):
    monkeypatch.setattr(racing, "attempt", lambda build, device, timeout: tried)
    ours, theirs = clock.work(2.0), clock.work(4.0)
    rows = race(contest(Contestant("ours", lambda: ours), Contestant("peer", lambda: theirs, True)), SETTINGS, clock)
    assert [(r["round"], r["value"], r["note"], r["capped"]) for r in rows[3:]] == told


def test_memory_is_measured_in_up_to_three_processes_each(monkeypatch):
    peaks = iter([10, 40, 30, 80, 20, 60])
    monkeypatch.setattr(racing, "attempt", lambda *given, **options: Attempt(1.0, next(peaks)))
    rows = peak_memory(contest(Contestant("a", int), Contestant("b", int)), Settings(repetitions=9))
    assert [(r["contestant"], r["round"], r["value"]) for r in rows] == [
        ("a", 0, 10), ("b", 0, 40), ("a", 1, 30), ("b", 1, 80), ("a", 2, 20), ("b", 2, 60)
    ]  # fmt: skip


def test_memory_that_could_not_be_measured_says_why(monkeypatch):
    monkeypatch.setattr(racing, "attempt", lambda *given, **options: Attempt(failure="does not fit into memory"))
    (found,) = peak_memory(contest(Contestant("a", int)), Settings(repetitions=1))
    assert found["note"] == "does not fit into memory"
