from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.collapse import detect


def records(diversity, norms=None, ranks=None):
    """A run whose second layer goes as told, and whose first stays."""
    norms, ranks = norms or [1.0] * len(diversity), ranks or [8.0] * len(diversity)
    return [
        {
            "step": 10 * (i + 1),
            "figures": {"diversity": diversity[i]},
            "layers": {
                "first": {"trained_norm": 1.0, "stable_rank": 5.0},
                "second": {"trained_norm": norms[i], "stable_rank": ranks[i]},
            },
        }
        for i in range(len(diversity))
    ]


def test_a_collapse_is_named_with_its_step_and_layer():
    found = detect(records([0.2, 0.7, 0.8, 0.1, 0.0], [1, 2, 4, 8, 9], [8, 7, 5, 2, 1]))
    assert (found.step, found.layer) == (40, "second")
    assert (found.before, found.left) == (0.8, 0.1)
    assert found.spectral_norm == (1, 8)
    assert found.stable_rank == (8, 2)
    assert "step 40" in str(found)
    assert "layer second by step 40: spectral norm of its trained weight 1.00 to 8.00, stable rank 8.00 to 2.00" in str(
        found
    )


@pytest.mark.parametrize(
    "diversity",
    [
        [0.1, 0.3, 0.6, 0.8],
        [0.8, 0.1, 0.2, 0.8],  # comes back
        [0.9, 0.9, 0.9, 0.6],  # may yet
        [0.9, 0.9],
        [0.0],
    ],
)
def test_a_run_with_diversity_at_its_end_is_healthy_whatever_its_spectra(diversity):
    count = len(diversity)
    assert detect(records(diversity, [2.0**i for i in range(count)], [8 / (i + 1) for i in range(count)])) is None


@pytest.mark.parametrize(("norms", "ranks"), [([1, 1, 1], [8, 4, 1]), ([1, 4, 9], [8, 8, 8]), ([9, 4, 1], [1, 4, 8])])
def test_no_layer_is_blamed_unless_its_norm_grew_and_its_rank_fell(norms, ranks):
    found = detect(records([0.8, 0.1, 0.0], norms, ranks))
    assert (found.step, found.layer) == (20, None)
    assert "no layer's spectrum collapsed" in str(found)


@pytest.mark.parametrize(
    ("modes", "step"),
    [
        ([2, 9, 10, 6, 5], 40),
        ([2, 9, 10, 6, 9], None),  # comes back
        ([2, 3, 5, 8, 10], None),
        ([9, 9, 9, 9, 1], None),  # may yet
    ],
)
def test_lost_modes_are_a_collapse_of_samples_that_still_spread(modes, step):
    run = records([0.9] * 5)
    for record, count in zip(run, modes, strict=True):
        record["figures"]["modes"] = float(count)
    found = detect(run)
    assert (None if found is None else found.step) == step
    assert found is None or str(found).startswith("step 40, modes 10 to 6, ")


def test_what_is_lost_first_names_the_collapse():
    run = records([0.9, 0.9, 0.9, 0.1, 0.1])
    for record, count in zip(run, [8, 10, 3, 2, 1], strict=True):
        record["figures"]["modes"] = float(count)
    assert (detect(run).step, detect(run).measure) == (30, "modes")


def test_a_generator_that_never_gets_going_has_collapsed_and_its_layer_is_named_once_it_goes():
    found = detect(records([0.0, 0.0, 0.0], [1, 2, 3], [8, 4, 2]))
    assert (found.step, found.layer, found.layer_step) == (10, "second", 20)
    assert "diversity 0.00 from the first evaluation on" in str(found)
