"""The table of the zoo, counted from its results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

HEAD = """# A zoo of ordinary models

What happens to models of torchvision, timm, transformers and diffusers, without a change of their code: which share of
their numbers `sr.reparameterize` reaches, whether they train, and which verbs keep what they have to keep. The script
in `examples/zoo` makes this page; all weights are random, and nothing is downloaded.
"""
READING = """## How to read it

**Reached** is the share of a model's numbers that are entries of reparameterized weights:
`sr.compression(model).reached`. All parameters and floating-point buffers count, shared ones once. Tables of words, and
of positions where they are embedding layers, count as reached; position tables that are plain parameters, biases,
scales of norms and batch statistics do not. It is counted on a model of the published size, on the meta device, so that
a table of words has its real part; *small* says where that could not be built. For transformers the published size is
that of the defaults of the configuration. **Left** is what else there is, from 0.1 % of the numbers on:

| reason | what it is |
|---|---|
{reasons}

**Verbs** run on a small model of the same class, at rank {rank}: all of them on STTP with Householder frames, those
marked in the table below on SVDP with Riemannian frames, too, and `convert_frames` leads from each path to the other.
Copies, states and files have to give the same outputs bit for bit. What moves numbers around, such as a gauge or
another kind of frame, may move them by 0.1 % of the distance to the outputs of the same model with other random
weights: rounding moves weights by some millionths, which normalizations in a deep model enlarge, while a wrong weight
moves outputs by about the whole distance. The column counts what was run on a model: everything, or a shorter choice
by `--verbs`. **Step** is one step in training mode, by `sr.RiemannianAdam` or, on
Householder frames, by Adam.

{verbs}
"""
PARTS = {
    "torchvision": "Models of torchvision",
    "timm": "Models of timm",
    "transformers": "Models of transformers",
    "diffusers": "Models of diffusers",
}
NAMED = ("GPT-2", "BERT", "Llama", "Mixtral", "ViT", "T5", "Whisper")
"""Of transformers, whose share the summary tells."""
SHOWN = 0.001


def report(
    results: Sequence[dict[str, Any]],
    rank: int,
    verbs: dict[str, str],
    both: Collection[str],
    reasons: dict[str, str],
) -> str:
    """The page.

    Parameters
    ----------
    results : sequence of dict
        Of `measure`, one a model; of a model that is not measured yet, its package and name.
    rank : int
        Of the layers.
    verbs : dict
        What each verb has to keep.
    both : collection of str
        Verbs that run in both variants.
    reasons : dict
        Why numbers are left, in words.

    Returns
    -------
    str
        Markdown.
    """
    lines = [HEAD, *_summary(results), ""]
    for package, title in PARTS.items():
        own = [each for each in results if each["package"] == package]
        version = next((each["version"] for each in own if "version" in each), "")
        lines += [f"## {title} {version}".rstrip(), "", *_table(own), ""] if own else []
    told = "\n".join(f"| {reason} | {text} |" for reason, text in reasons.items() if reason != "adapted")
    texts = "\n".join(
        [
            "| verb | SVDP, too | what has to hold |",
            "|---|---|---|",
            *(f"| {v} | {'yes' if v in both else ''} | {t} |" for v, t in verbs.items()),
        ]
    )
    return "\n".join([*lines, READING.format(reasons=told, rank=rank, verbs=texts)])


def _summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """Counts over all packages, and the share of the models that are named."""
    lines = [
        "| | models | measured, and dense ones train | of these, the step works | of these, every verb works |",
        "|---|---:|---:|---:|---:|",
    ]
    for package in (*PARTS, None):
        own = [each for each in results if package in (None, each["package"])]
        trained = [each for each in own if each.get("dense", "") is None]
        counts = len(own), len(trained), sum(map(steps, trained)), sum(not failures(each) for each in trained)
        lines.append(f"| {package or 'all'} | " + " | ".join(map(str, counts)) + " |")
    named = [each for each in results if "reached" in each and each["model"] in NAMED]
    shares = ", ".join(f"{each['model']} {_share(each)} %" for each in named)
    return [*lines, "", f"Reached, of the published sizes: {shares}."]


def _table(results: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| model | numbers | reached (%) | left | verbs | step |", "|---|---:|---:|---|---:|---|"]
    notes = []
    for own in results:
        if "version" not in own and "crash" not in own:
            lines.append(f"| {own['model']} | | | | not measured yet | |")
            continue
        if "crash" in own:
            lines.append(f"| {own['model']} | | | | {own['crash']} | |")
            continue
        bad = failures(own)
        passed = sum(len(variant["passed"]) for variant in own["variants"].values())
        verbs = own["dense"] or f"{passed} of {passed + len(bad)}"
        known = ", ".join(path.rpartition(".")[2] for path in own["register"])
        size = f"{own.get('numbers', 0):,}" + ("" if own["size"] == "published" else f" ({own['size']})")
        step = "" if own["dense"] else "yes" if steps(own) else "no"
        lines.append(f"| {own['model']} | {size} | {_share(own)} | {_left(own)} | {verbs} | {step} |")
        notes += [f"- {own['model']}: `sr.register_layer` for {known}"] if known else []
        notes += [f"- {own['model']}, {variant}, {verb}: {text}" for variant, verb, text in bad]
    return [*lines, "", *notes] if notes else lines


def failures(own: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Variant, verb and first line of the error, of all that failed."""
    return [(name, *each) for name, variant in own["variants"].items() for each in variant["failed"].items()]


def steps(own: dict[str, Any]) -> bool:
    """Whether the training step works in every variant."""
    return all("step" in variant["passed"] for variant in own["variants"].values())


def _share(own: dict[str, Any]) -> str:
    return f"{100 * own['reached'] / own['numbers']:.2f}" if "reached" in own else own["unreached"]


def _left(own: dict[str, Any]) -> str:
    """Reasons, the largest first, with classes."""
    rows = sorted(own.get("left", ()), key=lambda row: -row["numbers"])
    texts = []
    for row in rows:
        share = row["numbers"] / own["numbers"]
        kinds = "" if row["reason"] == "vectors" else f" ({', '.join(row['kinds'][:3])})"
        texts += [f"{100 * share:.2f} {row['reason']}{kinds}"] if share >= SHOWN else []
    return "; ".join(texts)
