"""GPT-2 and T5 in the Trainers of transformers: what is saved comes back, trains on, and generates the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sttp_riemann as sr
from tests.workflows.common import PATHS, weights_of
from tests.workflows.test_zoo import gpt2, t5

transformers = pytest.importorskip("transformers")

WORDS = torch.randint(3, 32, (8, 8), generator=torch.Generator().manual_seed(0))
ROWS = [{"input_ids": row, "labels": row.flip(0)} for row in WORDS]
MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "GPT-2": (gpt2, "AutoModelForCausalLM"),
    "T5": (t5, "AutoModelForSeq2SeqLM"),
}
SEARCHES = {"greedy": {}, "beams": {"num_beams": 3}}


def made(name: str, frames: str, seed: int = 0) -> Any:
    torch.manual_seed(0)
    return sr.reparameterize(MODELS[name][0](), 4, frames=frames, init="orthogonal", seed=seed)


def trainer(model: Any, frames: str, folder: Path, **options: Any) -> Any:
    """At its defaults, but for our optimizer where the guide asks for it."""
    several = isinstance(model, transformers.T5ForConditionalGeneration)
    kinds = ("Seq2SeqTrainingArguments", "Seq2SeqTrainer") if several else ("TrainingArguments", "Trainer")
    arguments, kind = (getattr(transformers, name) for name in kinds)
    own = {"output_dir": str(folder), "max_steps": 4, "save_steps": 2, "use_cpu": True, "learning_rate": 1e-2}
    optimizers = (sr.RiemannianAdam(model.parameters(), lr=1e-2), None) if frames == "riemannian" else (None, None)
    made = arguments(**own, report_to="none", disable_tqdm=True, per_device_train_batch_size=2, **options)
    return kind(model, made, train_dataset=ROWS, optimizers=optimizers)


def generated(model: Any, **search: Any) -> Any:
    """Tokens, and the scores that they were chosen by."""
    options = {"do_sample": False, "min_new_tokens": 5, "max_new_tokens": 5, "pad_token_id": 0}
    found = model.eval().generate(WORDS[:2], **options, return_dict_in_generate=True, output_scores=True, **search)
    return found.sequences, torch.stack(found.scores)


def assert_same_words(model: Any, other: Any) -> None:
    for search in SEARCHES.values():
        for one, two in zip(generated(model, **search), generated(other, **search), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("name", MODELS)
@PATHS
def test_what_a_trainer_has_saved_generates_the_same_and_trains_on_bit_for_bit(
    frames: str, name: str, tmp_path: Path
) -> None:
    model = made(name, frames)
    before = generated(model)[1]
    run = trainer(model, frames, tmp_path / "whole")
    run.train()
    assert not torch.equal(generated(model)[1], before)
    assert sr.orthogonality_error(model) < 1e-5
    run.save_model(str(tmp_path / "saved"))
    model.save_pretrained(tmp_path / "again")
    automatic = getattr(transformers, MODELS[name][1])
    for folder in (tmp_path / "saved", tmp_path / "again", tmp_path / "whole" / "checkpoint-4"):
        assert_same_words(model, sr.from_pretrained(automatic, folder))
    with sr.cached(model):
        within = generated(model)
    assert all(torch.equal(one, two) for one, two in zip(within, generated(model), strict=True))

    resumed = made(name, frames, seed=1)
    trainer(resumed, frames, tmp_path / "resumed").train(
        resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2")
    )
    for layer, weight in weights_of(model).items():
        assert torch.equal(weights_of(resumed)[layer], weight), layer
    assert_same_words(model, resumed)


@pytest.mark.parametrize("beams", [1, 2])
@PATHS
def test_predictions_by_generation_are_those_of_the_loaded_model(frames: str, beams: int, tmp_path: Path) -> None:
    model = made("T5", frames)
    model.save_pretrained(tmp_path / "saved")
    loaded = sr.from_pretrained(transformers.AutoModelForSeq2SeqLM, tmp_path / "saved")
    search = {"min_new_tokens": 5, "max_new_tokens": 5, "num_beams": beams}
    first, second = (
        trainer(own, frames, tmp_path / "run", predict_with_generate=True).predict(ROWS, **search)
        for own in (model, loaded)
    )
    assert first.predictions[:, 1:6].all()  # new words; the Trainer fills up with 0
    assert (first.predictions == second.predictions).all()
    assert first.metrics["test_loss"] == second.metrics["test_loss"]


def test_the_trainers_own_optimizer_on_riemannian_frames_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"sr\.RiemannianAdam.*sr\.project"):
        trainer(made("GPT-2", "riemannian"), "householder", tmp_path).train()
