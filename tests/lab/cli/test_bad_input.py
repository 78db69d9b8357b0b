"""Recipes and command lines that make no sense, drawn at random over every field and option: one line each."""

from __future__ import annotations

import random
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml

from sttp_riemann.lab import plugins
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import FIELDS, SECTIONS, nest
from tests.conftest import TINY
from tests.lab.training.conftest import TINY_GAN

LONGEST_LINE = 300
WILD_NUMBERS = [0, -1, 2, 2**31, 2**31 - 1, 2**53, 2**63, 2**64, 10**30, 10**4000, -(2**63), 1e-300, 1e300, -0.0, 0.5]
WILD_NUMBERS += [float("nan"), float("inf"), -float("inf"), 1e-45, 65537]
WILD_TEXT = [
    "",
    " ",
    "x" * 300,
    "é" * 200,
    "../../x",
    "a/b",
    "\0",
    "\ud800",
    "null",
    "1e400",
    "0x10",
    "1_0",
    "{",
    "[",
    "*",
]
WILD_TEXT += [
    "!!python/object:os.system",
    "%s%n",
    "\n\n",
    "\x1b[31m",
    "folder:/",
    "folder:",
    "torchvision:",
    "timm:",
    "arrays:",
    "arrays:none.npz",
    "os:system",
    "no_module_of_mine:x",
    "true",
    "-1",
]
NAMES = [
    "sngan8_generator",
    "sngan8_discriminator",
    "sngan32_generator",
    "digits_resnet",
    "cifar_resnet",
    "wide_resnet",
]
NAMES += ["torchvision:resnet18", "torchvision:nothing", "fake", "digits", "cifar10", "stl10-unlabeled", "none.pth"]
TRANSFORMS = [
    "RandomCrop",
    "RandomHorizontalFlip",
    "Resize",
    "Normalize",
    "Compose",
    "ToDtype",
    "Lambda",
    "Pad",
    "MixUp",
]
OPTIONS = [
    "size",
    "padding",
    "p",
    "width",
    "depth",
    "latent_dim",
    "widen_factor",
    "sttp",
    "svdp",
    "conv1",
    "*",
    "num_classes",
]
TEXTS = [
    "optimizer: {lr: !!float x}",
    "optimizer: {lr: !!int ''}",
    "network: {rank: !!python/object/apply:os.system ['true']}",
    "name: !!binary 'x'",
    "when: 2026-99-99",
    "study: {seeds: !!set {1, 2}}",
    "data: {augment: {[1, 2]: {}}}",
    "? {a: 1}\n: 2",
    "optimizer: {lr: 1, lr: 2}",
    "optimizer: {lr: 1}\noptimizer: {lr: 2}",
    "lr: 1\nrank: 3",
    "a: &a [*a]",
    "data: {augment: &a {b: *a}}",
    "extends: digits\nextends: [1]",
    "extends: {digits: 1}",
    "extends: recipe.yaml",
    "extends: ../recipe.yml",
    "extends: " + "x" * 400 + ".yaml",
    "optimizer: {lr: " + "9" * 5000 + "}",
    "network: {rank: " + "[" * 1500,
    "network: {rank: " + "{a: " * 1500,
    "network: {rank: '" + "[" * 1500 + "'}",
    "network: {options: '{a: &a [1], b: *a}'}",
    "- 1",
    "",
    "%YAML 9.9\n---\na: 1",
    "a: 1\n---\nb: 2",
    "<<: 5",
    "\t: x",
    "optimizer: {lr: 1:30:00}",
    "network: {options: {width: 60000, depth: 900}}",
]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k0: 1, k1: 1}\n" + "".join(
    f"{b}: &{b}\n  <<: [{', '.join([f'*{a}'] * 10)}]\n  {b}k: 1\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BYTES = [b"\xff\xfe", b"lr: \xe9\n", b"\x00", b"\xef\xbb\xbflr: 1", b"name: \xed\xa0\x80", bytes(range(256))]


class StartedError(Exception):
    """A recipe that passed all checks and would now be trained."""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call the command line; give the fault that it tells of, or None for a recipe that passes its checks."""

    def started(*given: Any, **options: Any) -> None:
        raise StartedError

    monkeypatch.setattr(Trainer, "run", started)
    # Other tests would compute with as many
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    # Its thread would go on writing
    monkeypatch.setattr("sttp_riemann.lab.training.loop.open_logbook", lambda *given: nullcontext())
    for place in ("studies.compare.spread", "bench.run.progress", "compression.represent"):
        monkeypatch.setattr(f"sttp_riemann.lab.{place}", started)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_imported", [])

    def call(*arguments: str) -> str | None:
        before = _files(tmp_path)
        capsys.readouterr()
        try:
            status = cli.main(arguments)
        except (StartedError, SystemExit):
            shutil.rmtree("runs", ignore_errors=True)
            return None
        out, err = capsys.readouterr()
        if status == 0:
            return None
        assert status == 2, err
        assert err.startswith("sttp-riemann: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert len(err) <= LONGEST_LINE + 1
        assert err[:-1].isprintable()
        assert out == ""
        assert _files(tmp_path) == before
        return err

    return call


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def _any_value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(9 if depth < 2 else 5)
    if kind < 2:
        return draw.choice(WILD_NUMBERS)
    if kind < 4:
        return draw.choice(WILD_TEXT + NAMES)
    if kind == 4:
        return draw.choice([None, True, False])
    if kind < 7:
        return [_any_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    keys: list[Any] = [*OPTIONS, *TRANSFORMS, 1, None, 2.5, True]
    return {draw.choice(keys): _any_value(draw, depth + 1) for _ in range(draw.randrange(4))}


def _value_for(hint: Any, draw: random.Random) -> Any:
    """Draw a value of a field's type, near or beyond its bounds; or any value at all."""
    if draw.random() < 0.3:
        return _any_value(draw)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _value_for(inner[0], draw)
    if origin is Literal:
        return draw.choice([*inner, "nothing"])
    if origin is list:
        return [_value_for(inner[0], draw) for _ in range(draw.randrange(4))]
    if inner and origin is not dict:
        return _value_for(draw.choice(inner), draw)
    if hint is bool:
        return draw.choice([True, False])
    if hint in (int, float):
        return draw.choice([hint(draw.choice([0, 1, 2, 3, 4, 5, 16])), *WILD_NUMBERS[:4], draw.choice(WILD_NUMBERS)])
    if hint is str:
        return draw.choice(WILD_TEXT + NAMES)
    if hint is type(None):
        return None
    names = draw.sample([*OPTIONS, *TRANSFORMS], draw.randrange(3))
    return {name: draw.choice([{}, 4, {draw.choice(OPTIONS): _any_value(draw, 2)}, _any_value(draw)]) for name in names}


def _recipe_file(draw: random.Random, path: Path) -> None:
    """Write a recipe of a small run with some fields changed, or text that is hardly a recipe."""
    kind = draw.random()
    if kind < 0.15:
        path.write_text(draw.choice([*TEXTS, BOMB, MERGES]), "utf-8")
        return
    fields: dict[str, Any] = {**draw.choice([TINY, TINY, TINY_GAN])}
    for name in draw.sample([*FIELDS], draw.randint(1, 3)):
        fields[name] = _value_for(FIELDS[name].hint, draw)
    nested = nest(fields)
    if draw.random() < 0.05:
        place = draw.choice([nested, nested["optimizer"]])
        place[draw.choice([1, None, "", "lrr", "lr", "x" * 400])] = 1
    if draw.random() < 0.05:
        nested[draw.choice([*SECTIONS])] = _any_value(draw)
    content = bytearray(yaml.dump(nested).encode("utf-8", "surrogatepass"))
    if kind < 0.3:
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.choice(b"\0\xff:[]{}&*!|>'\"%@`\n\t-?, 9e")
    path.write_bytes(draw.choice(BYTES) if kind > 0.97 else bytes(content))


def _command_line(draw: random.Random, recipe: str) -> list[str]:
    command = draw.choice(
        ["train", "train", "train", "compare", "ablate", "compress", "report", "inspect", "export", "bench"]
    )
    first = {"train": [recipe], "compare": ["--recipe", recipe], "ablate": ["--recipe", recipe]}
    arguments = [command, *first.get(command, [_text(_any_value(draw))])]
    for _ in range(draw.randint(1, 3)):
        own = [
            "workers",
            "epochs",
            "calibrate",
            "weights",
            "rates",
            "margin",
            "sweep",
            "drift_steps",
            "repetitions",
            "budget",
            "to",
        ]
        name = draw.choice([*FIELDS, *own])
        value = _value_for(FIELDS[name].hint if name in FIELDS else int | float | str, draw)
        many = isinstance(value, list) and draw.random() < 0.7
        option = f"--{name}.{draw.choice(OPTIONS)}" if draw.random() < 0.1 else f"--{name}"
        arguments += [option, *(map(_text, value) if many else [_text(value)])]
    return arguments


def _text(value: Any) -> str:
    return value if isinstance(value, str) else yaml.dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _cases(run: Any, folder: Path, first: int, count: int) -> None:
    refused = 0
    small = folder / "small.yaml"
    small.write_text(yaml.safe_dump(nest({**TINY, "methods": ["dense", "sttp"]})))
    for seed in range(first, first + count):
        draw = random.Random(seed)
        if draw.random() < 0.6:
            _recipe_file(draw, folder / "recipe.yaml")
            arguments = ["train", "recipe.yaml"]
        else:
            arguments = _command_line(draw, "small.yaml")
        try:
            refused += run(*arguments) is not None
        except BaseException as error:
            error.add_note(f"seed {seed}: {[text[:200] for text in arguments]}")
            raise
    assert refused > count / 2


def test_no_recipe_and_no_command_line_leaves_a_traceback_or_a_file(run, tmp_path):
    _cases(run, tmp_path, 0, 150)


@pytest.mark.slow
def test_none_of_three_thousand_recipes_and_command_lines_leaves_a_traceback_or_a_file(run, tmp_path):
    _cases(run, tmp_path, 1000, 3000)
