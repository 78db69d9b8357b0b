"""What distinguishes the runs of a study, taken from their recipes and never from a name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from sttp_riemann.frames import FRAMES
from sttp_riemann.lab.training.fields import FOLLOW
from sttp_riemann.lab.training.recipe import FIELDS, LETTERS, Recipe
from sttp_riemann.lab.training.sections import Method, Network

# Fields that have names of their own in a variant: of the network that is compared, and of the run
OF_NETWORK = ("method", "frames", "spectrum", "penalty", "rank", "budget", "init")
OF_RUN = ("optimizer", "lr", "seed")
ATTRIBUTES = ("rank", "optimizer", "rate", "start")


def bearing(recipe: Recipe) -> dict[str, Any]:
    """Give the fields that affect a run: none that are about low-rank weights or frames that its networks lack."""
    fields, network = recipe.what_matters(), recipe.network
    networks = [network, *([recipe.of_generator().network] if recipe.task == "gan" else [])]
    direct = {FRAMES[n.frames].direct for n in networks if n.low_rank}
    idle = {scope for scope, kind in {"direct": True, "chart": False}.items() if kind not in direct}
    if not direct:
        # Nor does it make a difference which of a dense network's layers stay dense
        idle |= {"low_rank", "held"} if network.method == "dense" else {"low_rank"}
    return {name: value for name, value in fields.items() if not idle & FIELDS[name].scope}


def named(recipe: Recipe) -> set[str]:
    """Give the fields that have names of their own in a recipe's variant."""
    if recipe.study.player == "discriminator":
        return {*OF_NETWORK, *OF_RUN}
    # What a generator follows is told as its own
    followed = {name for name in OF_NETWORK if getattr(recipe.generator, name) == FOLLOW}
    return {*(f"generator_{name}" for name in OF_NETWORK), *followed, *OF_RUN}


@dataclass(frozen=True)
class Variant:
    """What sets a run apart from others of its study.

    Attributes
    ----------
    method : str
        ``dense``, ``sn``, ``sr``, ``svdp`` or ``sttp``.
    path : str
        Riemannian or Householder frames; empty, like `spectrum`, `rank` and `start`, for a method that has none.
    spectrum : str
        The paper's letter ``C``, ``L`` or ``R``, or the fields ``spectrum`` and ``penalty`` where it has none.
    rank : str
        ``8``, ``0.25``, ``budget 0.1``, or ranks by layer as JSON.
    optimizer : str
        Its name.
    rate : float
        Learning rate.
    start : str
        Where frames start.
    seed : int
        Of the run.
    swept : tuple
        Further fields in which runs of the study differ, each with the run's value as JSON.
    player : str
        ``generator`` where all this is of a GAN's generator.
    """

    method: str
    path: str = ""
    spectrum: str = ""
    rank: str = ""
    optimizer: str = ""
    rate: float = 0.0
    start: str = ""
    seed: int = 0
    swept: tuple[tuple[str, str], ...] = ()
    player: str = ""

    @classmethod
    def of(cls, recipe: Recipe, swept: Iterable[str] = ()) -> Variant:
        """Give the variant of a recipe.

        Parameters
        ----------
        recipe : Recipe
            Of the run.
        swept : iterable of str
            Further fields in which runs of the study differ.
        """
        network, rest = recipe.compared, bearing(recipe)
        found = cls(network.method, optimizer=recipe.optimizer.name, rate=recipe.optimizer.lr, seed=recipe.seed)
        found = replace(found, swept=tuple((name, json.dumps(rest[name])) for name in swept if name in rest))
        if recipe.study.player == "generator":
            found = replace(found, player="generator")
        if not network.low_rank:
            return found
        letters = {meaning: letter for letter, meaning in LETTERS.items()}
        kind = (network.spectrum, network.penalty)
        spectrum = letters.get(kind, "-".join(part for part in kind if part != "none"))
        return replace(found, path=network.frames, spectrum=spectrum, rank=_rank(network), start=network.init)

    def title(self, shown: Collection[str]) -> str:
        """Name for a reader: ``STTP-R riemannian r=8``, after a ``G`` where it is of a generator.

        Parameters
        ----------
        shown : collection of str
            Attributes to show beside method, path and `swept`; see `differing`.
        """
        if self.method == "dense":
            name = "dense"
        else:
            name = self.method.upper() + (f"-{self.spectrum}" if self.spectrum and "spectrum" in shown else "")
        parts = ["G" if self.player else "", name, self.path]
        told = {"rank": f"r={self.rank}", "optimizer": self.optimizer, "rate": f"lr={self.rate}", "start": self.start}
        parts += [text for attribute, text in told.items() if attribute in shown and getattr(self, attribute)]
        parts += [f"{field}={_bare(value)}" for field, value in self.swept]
        return " ".join(part for part in parts if part)

    @property
    def paper_names(self) -> tuple[str, str]:
        """Names in the paper and in recipes, whatever its frames: ``STTP-R r=8``, and ``STTP-R``."""
        bare = replace(self, path="", swept=())
        return bare.title(("spectrum", "rank")), bare.title(("spectrum",))

    @property
    def place(self) -> tuple[Any, ...]:
        """Where its runs come in a study."""
        path = [*FRAMES].index(self.path) if self.path else 0
        try:
            rank = float(self.rank or 0)
        except ValueError:
            rank = 0.0
        letters = (*LETTERS, self.spectrum) if self.spectrum else ("",)
        start = (rank, self.rank, self.optimizer, self.start, self.swept, self.rate, self.seed)
        return get_args(Method).index(self.method), letters.index(self.spectrum), path, *start


def differing(variants: Sequence[Variant]) -> set[str]:
    """List the attributes that differ between variants of one method and so belong into titles."""
    names = (*ATTRIBUTES, "spectrum")
    methods = {variant.method for variant in variants}
    return {
        name
        for name in names
        for method in methods
        if len({getattr(variant, name) for variant in variants if variant.method == method}) > 1
    }


def swept_fields(recipes: Sequence[Recipe]) -> list[str]:
    """List the fields without a name of their own in which runs differ, without those that a run lacks."""
    values: dict[str, set[str]] = {}
    for recipe in recipes:
        for name, value in bearing(recipe).items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    told = set.intersection(*map(named, recipes))
    return [name for name, found in values.items() if len(found) > 1 and name not in told]


def folder_name(recipe: Recipe) -> str:
    """Name the folder of a recipe's runs, one for all seeds, whatever else is compared; nothing is read from it.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.variant import folder_name
    >>> from sttp_riemann.lab.training.recipe import Recipe
    >>> folder_name(Recipe().changed(method="sttp", rank=8)).rpartition("-")[0]
    'sttp-riemannian-r8-lr0.001'
    """
    variant, fields = Variant.of(recipe), bearing(recipe)
    del fields["seed"]
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
    rank = f"r{variant.rank}" if variant.rank.replace(".", "").isdigit() else ""
    return "-".join(part for part in (variant.method, variant.path, rank, f"lr{variant.rate}", digest) if part)


def _rank(network: Network) -> str:
    return json.dumps(network.rank) if network.budget is None else f"budget {network.budget}"


def as_columns(variant: Variant) -> dict[str, Any]:
    """Give a variant as the first columns of a table's row."""
    columns = dataclasses.asdict(variant)
    columns = {name: value for name, value in columns.items() if name not in ("swept", "player")}
    return {**columns, **{name: _bare(value) for name, value in variant.swept}}


def _bare(value: str) -> str:
    # Figures would read dollars as mathematics
    return value.strip('"').replace("$", "＄")
