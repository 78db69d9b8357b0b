"""Models of transformers, saved by save_pretrained, come back with the same outputs; nothing is downloaded."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sttp_riemann as sr
from sttp_riemann.errors import LONGEST, CheckpointError
from tests.workflows.common import PATHS

transformers = pytest.importorskip("transformers")
TOKENS = torch.arange(8)[None]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}


def bert(kind: str = "BertModel") -> Any:
    return getattr(transformers, kind)(transformers.BertConfig(**SMALL, max_position_embeddings=16)).eval()


def gpt2() -> Any:
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 32, "n_positions": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()


def llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, tie_word_embeddings=True)).eval()


def mixtral() -> Any:
    sizes = SMALL | {"num_key_value_heads": 1, "num_local_experts": 2, "num_experts_per_tok": 1}
    config = transformers.MixtralConfig(**sizes, max_position_embeddings=16, tie_word_embeddings=True)
    return transformers.MixtralForCausalLM(config).eval()


def t5() -> Any:
    sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0)).eval()


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "base": (bert, "AutoModel"),
    "bfloat16": (lambda: bert().bfloat16(), "AutoModel"),
    "float64": (lambda: bert().double(), "AutoModel"),
    "tied head": (lambda: bert("BertForMaskedLM"), "AutoModelForMaskedLM"),
    "classifier": (lambda: bert("BertForSequenceClassification"), "AutoModelForSequenceClassification"),
    "gpt2": (gpt2, "AutoModelForCausalLM"),
    "llama": (llama, "AutoModelForCausalLM"),
    "mixtral": (mixtral, "AutoModelForCausalLM"),
}


def spectral(model: Any, frames: str = "riemannian", **options: Any) -> Any:
    return sr.reparameterize(model, **({"budget": 0.95, "init": "dense", "frames": frames} | options))


@torch.no_grad()
def outputs(model: Any) -> Tensor:
    return model(TOKENS)[0]


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("shard", ["5KB", "1GB"])
@pytest.mark.parametrize("name", MODELS)
@PATHS
def test_the_saved_model_comes_back_by_its_class_and_by_an_automatic_one(
    frames: str, name: str, shard: str, tmp_path: Path
) -> None:
    make, auto = MODELS[name]
    model = spectral(make(), frames)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "5KB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [sr.from_pretrained(cls, tmp_path) for cls in (type(model), getattr(transformers, auto))]
        found.append(sr.load(tmp_path, make()))
    for own in found:
        assert type(own) is type(model)
        assert torch.equal(outputs(own), outputs(model))
        assert all(
            torch.equal(a, b) for a, b in zip(own.state_dict().values(), model.state_dict().values(), strict=True)
        )
        tied = model.get_output_embeddings() is not None
        assert not tied or own.get_output_embeddings().left is own.get_input_embeddings().left
        layers = sr.singular_values(model)
        assert [own.get_submodule(n).options for n in layers] == [model.get_submodule(n).options for n in layers]


@pytest.mark.parametrize("name", ["gpt2", "tied head"])
def test_tied_weights_that_became_cores_are_not_reported_as_a_damaged_file(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, auto = MODELS[name]
    spectral(make()).save_pretrained(tmp_path)
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(caplog.handler)
    try:
        sr.from_pretrained(getattr(transformers, auto), tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.text


def test_layers_of_gpt2_are_reached() -> None:
    assert spectral(gpt2()).transformer.h[0].attn.c_attn.rank > 0


@pytest.mark.parametrize("shard", ["5KB", "1GB"])
def test_experts_of_which_some_stay_dense_come_back(shard: str, tmp_path: Path) -> None:
    model = spectral(mixtral(), exclude="*gate_up.1")
    model.save_pretrained(tmp_path / "first", max_shard_size=shard)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sr.from_pretrained(transformers.AutoModelForCausalLM, tmp_path / "first")
        found.save_pretrained(tmp_path / "second")
        for folder in ("first", "second"):
            loaded = (sr.load(tmp_path / folder, mixtral()), sr.from_pretrained(type(model), tmp_path / folder))
            assert all(torch.equal(outputs(own), outputs(model)) for own in loaded)
    with pytest.warns(UserWarning, match="1 names are not used: lm_head$"):
        base = sr.from_pretrained(transformers.AutoModel, tmp_path / "first")
    assert torch.equal(outputs(base), outputs(model.model))


def test_another_number_of_experts_is_refused_by_layer(tmp_path: Path) -> None:
    spectral(mixtral(), exclude="*gate*").save_pretrained(tmp_path)
    reconfigured(tmp_path, num_local_experts=1)
    match = r"layer 'layers\.0\.mlp\.experts\.down\.1' is in the file, and the model has no such layer"
    refused(tmp_path, match, transformers.MixtralModel, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("make", [t5, gpt2, llama])
def test_shared_weights_are_no_sign_of_damage(make: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spectral(make()).save_pretrained(tmp_path)
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(caplog.handler)
    try:
        sr.from_pretrained(type(make()), tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert "corrupted" not in caplog.text


def test_transformers_tells_nothing_of_layers_that_are_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = transformers.BertModel(transformers.BertConfig(**SMALL | {"num_hidden_layers": 12}))
    spectral(model, exclude="embeddings").save_pretrained(tmp_path)
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(caplog.handler)
    try:
        sr.from_pretrained(transformers.AutoModel, tmp_path)
        assert "spectrum" not in caplog.text
        transformers.AutoModel.from_pretrained(tmp_path)
        assert "spectrum" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


@PATHS
def test_what_came_back_trains_and_is_saved_again(frames: str, tmp_path: Path) -> None:
    spectral(llama(), frames).save_pretrained(tmp_path / "first")
    model = sr.from_pretrained(transformers.AutoModelForCausalLM, tmp_path / "first")
    optimizer, before = sr.RiemannianAdam(model.parameters(), lr=1e-2), outputs(model)
    model(TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    assert not torch.equal(outputs(model), before)
    assert sr.orthogonality_error(model) < 1e-5
    model.save_pretrained(tmp_path / "second")
    again = sr.from_pretrained(transformers.AutoModelForCausalLM, tmp_path / "second")
    assert torch.equal(outputs(again), outputs(model))


@PATHS
def test_save_writes_a_folder_or_one_file(frames: str, tmp_path: Path) -> None:
    model = spectral(bert("BertForMaskedLM"), frames)
    sr.save(model, tmp_path / "bert-1.5")
    sr.save(model, tmp_path / "bert.safetensors")
    found = sr.from_pretrained(transformers.AutoModelForMaskedLM, tmp_path / "bert-1.5")
    assert torch.equal(outputs(found), outputs(model))
    assert torch.equal(outputs(sr.load(tmp_path / "bert.safetensors", bert("BertForMaskedLM"))), outputs(model))


def test_a_base_model_is_taken_out_of_one_with_a_head(tmp_path: Path) -> None:
    model = spectral(bert("BertForSequenceClassification"))
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="2 names are not used: classifier, classifier.bias"):
        found = sr.from_pretrained(transformers.AutoModel, tmp_path)
    assert torch.equal(outputs(found), outputs(model.bert))


def test_a_head_is_put_on_a_base_model(tmp_path: Path) -> None:
    model = spectral(bert())
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="drawn at random: classifier.bias, classifier.weight"):
        found = sr.from_pretrained(transformers.AutoModelForSequenceClassification, tmp_path)
    assert torch.equal(outputs(found.bert), outputs(model))


def test_a_dtype_that_is_asked_for_is_given(tmp_path: Path) -> None:
    model = spectral(bert())
    model.save_pretrained(tmp_path)
    found = sr.from_pretrained(transformers.AutoModel, tmp_path, dtype=torch.bfloat16)
    assert torch.equal(outputs(found), outputs(model.bfloat16()))


def test_a_checkpoint_of_the_trainer_is_loaded(tmp_path: Path) -> None:
    model = spectral(llama(), "householder")
    arguments = transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    transformers.Trainer(model, arguments).save_model(str(tmp_path / "saved"))
    found = sr.from_pretrained(transformers.LlamaForCausalLM, tmp_path / "saved")
    assert torch.equal(outputs(found), outputs(model))


def refused(path: Path, match: str, cls: Any = transformers.BertModel, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        sr.from_pretrained(cls, path, **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= LONGEST


def test_folders_that_are_no_reparameterized_model_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "there is no folder")
    refused(tmp_path, "neither model.safetensors nor")
    bert().save_pretrained(tmp_path)
    refused(tmp_path, "has no reparameterized layer")


def reconfigured(folder: Path, **changes: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_configuration_of_other_sizes_is_refused_by_layer(tmp_path: Path) -> None:
    spectral(bert()).save_pretrained(tmp_path)
    reconfigured(tmp_path, vocab_size=48)
    refused(tmp_path, r"layer 'embeddings.word_embeddings' does not fit: modes are .* in the file and")


def test_what_transformers_refuses_comes_with_its_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spectral(bert()).save_pretrained(tmp_path)
    reconfigured(tmp_path, intermediate_size=48)
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(caplog.handler)
    try:
        with pytest.raises(RuntimeError):
            sr.from_pretrained(transformers.BertModel, tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert "intermediate.dense.bias" in caplog.text


@pytest.mark.parametrize("missing", ["query.left.0", "query.spectrum"])
def test_a_missing_core_is_refused_by_name(missing: str, tmp_path: Path) -> None:
    spectral(bert()).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(missing)}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    refused(tmp_path, missing)


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "{",
        '{"weight_map": 3}',
        '{"weight_map": {"a": "../b.safetensors"}}',
        '{"weight_map": {"a": "gone"}}',
        "1" * 9999,
    ],
)
def test_a_list_of_files_that_is_made_up_is_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    refused(tmp_path, str(tmp_path))


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    spectral(bert()).save_pretrained(tmp_path, max_shard_size="5KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(tmp_path, "truncated")


@pytest.mark.parametrize(
    ("cls", "options", "kind"),
    [
        ("bert", {}, TypeError),
        (int, {}, TypeError),
        (transformers.BertModel, {"variant": "fp16"}, ValueError),
        (transformers.BertModel, {"output_loading_info": True}, ValueError),
    ],
)
def test_arguments_are_refused_by_name(cls: Any, options: Any, kind: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(kind, match="from_pretrained"):
        sr.from_pretrained(cls, tmp_path, **options)


def test_adapters_without_what_they_adapt_are_no_saved_model(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(spectral(bert()), peft.LoraConfig(r=2, target_modules=["query"]))
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        sr.save(model, tmp_path / "adapters")


def test_the_library_does_not_import_transformers() -> None:
    told = "import sys, sttp_riemann as sr; sr.from_pretrained; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", told], check=True)
