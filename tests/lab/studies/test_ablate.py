from __future__ import annotations

from dataclasses import replace

import pytest

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.files import Lock
from sttp_riemann.lab.studies import probes
from sttp_riemann.lab.studies.ablate import ablate
from sttp_riemann.lab.studies.classify import CLASSIFY
from sttp_riemann.lab.studies.study import KINDS
from sttp_riemann.lab.training.loop import Trainer

SMALL = {"ranks": [2, 3], "rates": [1e-3, 1e-2], "probe_options": {"width": 4, "depth": 1}, "drift_steps": 3}


def test_an_ablation_is_a_study_with_its_probes_as_columns(tiny, tmp_path, monkeypatch):
    recipe = tiny(methods=["dense", "sttp"], seeds=[0], steps=2, evaluate_every=2, validation=0.2)
    study = ablate(recipe, tmp_path, **SMALL)
    assert len(study.table) == 2 * 2 * 2
    assert len(study.page.chosen) == 2 * 2
    assert study.table.condition_after.notna().all()
    assert list(study.figures) == ["compression", "rates", "steps", "differential", "singular_values"]
    told = " ".join(study.findings)
    for measure in ("test accuracy", "condition after", "gradient spread", "float32 from float64"):
        assert f"too few seeds to tell whether {measure} differs" in told
    assert len(list(tmp_path.glob("*/seed*/result.json"))) == 8
    assert len(list(tmp_path.glob("probes/*.json"))) == 4
    # Nothing is done again
    monkeypatch.setitem(KINDS, "classify", replace(CLASSIFY, figures=()))
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("ran again"))
    monkeypatch.setattr(probes, "probe", lambda recipe: pytest.fail("probed again"))
    assert ablate(recipe, tmp_path, **SMALL).table.equals(study.table)


def test_the_start_may_be_an_axis_and_each_start_has_its_own_probes(tiny, tmp_path):
    recipe = tiny(methods=["sttp"], seeds=[0], steps=4, evaluate_every=2)
    sweep = {"init": ["orthogonal", "noisy_identity"]}
    study = ablate(recipe, tmp_path, **{**SMALL, "ranks": [2], "rates": [1e-2]}, sweep=sweep)
    assert sorted(zip(study.table.path, study.table.start, strict=True)) == [
        (path, start) for path in ("householder", "riemannian") for start in sorted(sweep["init"])
    ]
    assert study.table.condition_before.nunique() == 4
    assert len(list(tmp_path.glob("probes/*.json"))) == 4


@pytest.mark.parametrize(("field", "option"), [("lr", "rates"), ("rank", "ranks")])
def test_what_has_an_option_of_its_own_is_not_swept(tiny, tmp_path, field, option):
    with pytest.raises(RecipeError, match=f"sweep takes no {field} in an ablation: say which with --{option}"):
        ablate(tiny(validation=0.2), tmp_path, sweep={field: [1]})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ranks": []}, "ranks must be"),
        ({"rates": [0.0]}, "rates must be"),
        ({"drift_steps": 0}, "drift_steps"),
        ({"rates": [0.1, 0.2]}, "set validation"),
    ],
)
def test_settings_that_measure_nothing_are_refused_by_name(tiny, tmp_path, changes, told):
    with pytest.raises(RecipeError, match=told):
        ablate(tiny(), tmp_path, **{"rates": [0.1], **changes})
    assert list(tmp_path.iterdir()) == []


def test_an_ablation_needs_frames(tiny, tmp_path):
    with pytest.raises(RecipeError, match="compares svdp and sttp"):
        ablate(tiny(methods=["dense"]), tmp_path)


def test_a_second_ablation_in_a_folder_is_refused(tiny, tmp_path):
    with Lock(tmp_path), pytest.raises(CheckpointError, match="another run is in"):
        ablate(tiny(methods=["sttp"], seeds=[0]), tmp_path, **{**SMALL, "ranks": [2], "rates": [1e-3]})
