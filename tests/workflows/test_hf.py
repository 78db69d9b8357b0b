"""Trainers and adapters of Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from tests.workflows.common import KINDS, PATHS, inputs, moved, of_kind, spectral, weights_of

ROWS = 32


class Classifier(nn.Module):
    """As transformers' models are called: a loss and logits by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(24, 48), nn.Linear(48, 4)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.b(self.a(x).tanh())
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rows(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.x = inputs(ROWS)
        self.labels = self.x[:, :4].argmax(1)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.labels[index]}


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes transformers.Trainer at its defaults."""
    import transformers

    def make(model: nn.Module, steps: int = 6, folder: str = "run", **options: Any) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / folder),
            max_steps=steps,
            save_steps=3,
            learning_rate=1e-2,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        return transformers.Trainer(model, arguments, train_dataset=Rows(), **options)

    return make


def classifier(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return of_kind(kind, Classifier())


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def ours(model: nn.Module, kind: str) -> dict[str, Any]:
    """The optimizer that the guide says to give to a trainer."""
    return {"optimizers": (sr.RiemannianAdam(model.parameters(), lr=1e-2), None)} if kind == "riemannian" else {}


@KINDS
def test_trainer_at_its_defaults_trains_saves_and_resumes(kind: str, trainer: Any, tmp_path: Path) -> None:
    whole = classifier(kind)
    before = weights_of(whole)
    straight = trainer(whole, 6, "whole", **ours(whole, kind))
    straight.train()
    assert moved(before, weights_of(whole)) == {"a", "b"}
    assert min(losses_of(straight)[-2:]) < losses_of(straight)[0]

    resumed = classifier(kind)
    again = trainer(resumed, 6, "resumed", **ours(resumed, kind))
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(resumed)[name], weight, rtol=1e-5, atol=1e-6)
    if kind == "riemannian":
        assert sr.orthogonality_error(whole) < 1e-5


@PATHS
def test_what_trainer_saved_is_what_was_in_memory(frames: str, trainer: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_model

    model = classifier(frames)
    run = trainer(model, 6, **ours(model, frames))
    run.train()
    run.save_model(str(tmp_path / "saved"))
    loaded = classifier(frames)
    load_model(loaded, tmp_path / "saved" / "model.safetensors")
    batch = {"x": inputs(), "labels": torch.zeros(8, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch)["logits"], model(**batch)["logits"])


def test_trainers_own_optimizer_on_riemannian_frames_is_warned_of(trainer: Any) -> None:
    with pytest.warns(UserWarning, match=r"sr\.project"):
        trainer(classifier("riemannian"), 6).train()


TOKENS = torch.arange(16).view(2, 8)


def language_model() -> Any:
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=32, tie_word_embeddings=True, **sizes))


@PATHS
def test_a_small_transformer_trains_generates_and_is_saved(frames: str, tmp_path: Path) -> None:
    model = spectral(language_model(), frames, rank=4)
    assert model.lm_head.left is model.model.embed_tokens.left  # tied
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(TOKENS, labels=TOKENS).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.eval()
    assert model.generate(TOKENS, max_new_tokens=2, do_sample=False, pad_token_id=0).shape == (2, 10)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = spectral(language_model(), frames, rank=4, seed=1).eval()
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(fresh(TOKENS).logits, model(TOKENS).logits)


@pytest.mark.filterwarnings("ignore:.*resiz")
@PATHS
def test_resizing_spectral_embeddings_is_refused_or_done(frames: str) -> None:
    """resize_token_embeddings writes rows of a new embedding from the old one; nothing may vanish."""
    model = spectral(language_model(), frames, rank=4).eval()
    rows = model.get_input_embeddings().weight.detach().clone()
    try:
        model.resize_token_embeddings(40)
    except (RuntimeError, TypeError, ValueError) as error:
        assert re.search("set_weight|decompress|shape", str(error))  # noqa: PT017 - either of the two is right
    else:
        torch.testing.assert_close(model.get_input_embeddings().weight[:32].detach(), rows)
        assert model(TOKENS).logits.shape == (2, 8, 40)
        assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(24, 48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


def adapted(frames: str) -> Any:
    """A spectral model with trained adapters of peft."""
    import peft

    model = spectral(Plain(), frames)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["a", "b"]))
    optimizer = torch.optim.Adam([p for p in wrapped.parameters() if p.requires_grad], lr=5e-2)
    for _ in range(5):
        optimizer.zero_grad()
        (wrapped(inputs()) - 1).square().mean().backward()
        optimizer.step()
    return wrapped


@PATHS
def test_adapters_of_peft_train_beside_frozen_spectral_layers(frames: str) -> None:
    wrapped = adapted(frames)
    learned = {name for name, p in wrapped.named_parameters() if p.grad is not None}
    assert learned
    assert all("lora_" in name for name in learned)
    tuned = wrapped(inputs())
    with wrapped.disable_adapter():
        base = wrapped(inputs())
    assert (tuned - base).abs().max() > 0.1


@PATHS
def test_merging_an_adapter_into_a_spectral_layer_is_refused(frames: str) -> None:
    wrapped = adapted(frames)
    tuned = wrapped(inputs()).detach()
    with pytest.raises(RuntimeError, match=r"sr\.set_weight"):
        wrapped.merge_and_unload()
    torch.testing.assert_close(wrapped(inputs()).detach(), tuned)


@PATHS
def test_after_decompress_an_adapter_is_merged(frames: str) -> None:
    import peft

    dense = sr.decompress(spectral(Plain(), frames))
    wrapped = peft.get_peft_model(dense, peft.LoraConfig(r=2, target_modules=["a"], init_lora_weights=False))
    tuned = wrapped(inputs()).detach()
    torch.testing.assert_close(wrapped.merge_and_unload()(inputs()).detach(), tuned, rtol=1e-4, atol=1e-5)
