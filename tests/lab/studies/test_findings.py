from __future__ import annotations

from sttp_riemann.lab.studies.findings import findings
from sttp_riemann.lab.studies.results import tabulate
from tests.lab.studies.conftest import result


def accurate(method, accuracy, frames="riemannian", seed=0, **changes):
    return result(method, frames, seed, final={"test_accuracy": accuracy}, **changes)


def told(*runs) -> str:
    return "\n".join(findings(tabulate(runs)))


def test_a_difference_within_the_spread_is_called_that():
    text = told(
        *(accurate(m, a + s, seed=i) for m, a in (("dense", 0.95), ("sttp", 0.94)) for i, s in enumerate((0, 0.02)))
    )
    assert "STTP riemannian is 1.00 points below dense, within the spread of 2 seeds" in text


def test_a_difference_outside_the_spread_is_called_that():
    runs = [accurate(m, a + s, seed=i) for m, a in (("dense", 0.90), ("sttp", 0.95)) for i, s in enumerate((0, 0.001))]
    assert "STTP riemannian is 5.00 points above dense, outside the spread of 2 seeds" in told(*runs)


def test_a_single_seed_bears_nothing_out():
    assert "in a single seed, which tells nothing of the spread" in told(accurate("dense", 0.9), accurate("sttp", 0.8))


def test_the_faster_path_is_named_whichever_it_is():
    slow, fast = {"median_step_ms": 30.0}, {"median_step_ms": 10.0}
    text = told(accurate("sttp", 0.9, **slow), accurate("sttp", 0.9, "householder", **fast))
    assert "on householder frames takes 10.0 ms and on riemannian frames 30.0 ms (3.00 times as long)" in text


def test_singular_values_beyond_one_are_told(results):
    text = "\n".join(findings(tabulate(results)))
    assert "the largest singular value exceeds 1 in dense (2.00)" in text
    assert "ends with singular values of at most 1" in text


def test_the_worst_orthogonality_error_of_each_path_is_told(results):
    assert "2.0e-05 on riemannian frames and 2.0e-05 on householder frames" in "\n".join(findings(tabulate(results)))


def test_a_dense_network_alone_is_told_of_without_comparison():
    (text,) = [told(accurate("dense", 0.9))]
    assert text.splitlines() == [
        "dense reaches 90.00 % test accuracy.",
        "The largest singular value exceeds 1 in dense (2.00).",
    ]
