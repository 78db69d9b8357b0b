"""The recipe: every setting of a run, typed and validated."""

# ruff: noqa: RUF009 - option() gives dataclass fields, each with a factory of its own
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_type_hints

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training import sections
from sttp_riemann.lab.training.fields import FOLLOW, Field, FilePath, FolderName, Seed, TaskName, fields_of, option
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.lab.training.sections import Frames, Method, Network, require

# The paper's names of spectra, as in STTP-C or SVDP-L
LETTERS = {"C": ("identity", "none"), "L": ("learned", "none"), "R": ("learned", "d_optimal")}


def _section(make: Any, scope: str = "") -> Any:
    """Describe a section; a scope applies to all its fields, whose short names then begin with the section's."""
    return dataclasses.field(default_factory=make, metadata={"scope": scope} if scope else {})


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, how, and what to compare.

    Every field has a default and is an option of the command line. Validated on construction.

    Raises
    ------
    RecipeError
        A field has the wrong type or a value out of range, or two fields contradict each other.

    Notes
    -----
    ``sttp-riemann recipes`` lists the recipes that the package ships, and ``sttp-riemann train --help`` every field
    with its meaning.

    Examples
    --------
    >>> from sttp_riemann.lab.training.recipe import Recipe
    >>> recipe = Recipe.from_dict({"network": {"method": "sttp", "frames": "riemannian", "rank": 8}})
    >>> recipe.label, recipe.network.riemannian
    ('sttp-riemannian', True)
    >>> recipe.changed(rank=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sttp_riemann.errors.RecipeError: rank must be ...
    """

    name: FolderName = option("study", "title of the study, and its folder under runs/", "start", matters=False)
    summary: str = option("", "one line on what the study is", "start", matters=False)
    output: FilePath | None = option(None, "folder to write to (default: runs/NAME)", matters=False)
    task: TaskName = option("classify", "what is trained", "page start")
    seed: Seed = option(0, "seed of weights, data order and noise", "run")

    data: sections.Data = _section(sections.Data)
    network: Network = _section(Network)
    generator: Network = _section(sections.generator, "gan")
    gan: sections.Adversary = _section(sections.Adversary)
    distillation: sections.Distillation = _section(sections.Distillation)
    optimizer: sections.Optimizer = _section(sections.Optimizer)
    schedule: sections.Schedule = _section(sections.Schedule)
    evaluation: sections.Evaluation = _section(sections.Evaluation)
    checkpoints: sections.Checkpoints = _section(sections.Checkpoints)
    machine: sections.Machine = _section(sections.Machine)
    study: sections.Study = _section(sections.Study)

    def __post_init__(self) -> None:
        checked = nest({name: field.check(_at(self, field)) for name, field in FIELDS.items()})
        for name, value in checked.items():
            object.__setattr__(self, name, SECTIONS[name](**value) if name in SECTIONS else value)
        self._check_scope()
        for section in (self.network, self.optimizer, self.schedule, self.machine, self.study):
            section.check()
        if self.task == "gan":
            self.gan.check(self.machine.precision)
            self.evaluation.check(self.data.name)
            self._check_generator()

    def _check_scope(self) -> None:
        for name, field in FIELDS.items():
            if not field.is_for(self.task) and _at(self, field) != field.default:
                others = " or ".join(map(repr, field.tasks))
                raise RecipeError(f"{name} is for task {others}, and this is {self.task!r}: leave it out")
        for method in (self.network.method, *self.study.methods) if self.task != "gan" else ():
            require(method not in ("sn", "sr"), f"method {method!r} is a discriminator's: set task to 'gan'")
        chosen = self.schedule.patience > 0 or self.checkpoints.keep_best
        require(
            self.task == "gan" or self.evaluation.validation > 0 or not chosen,
            "patience and keep_best must not choose by the test examples: set validation to a share such as 0.1",
        )
        require(
            self.network.budget is None or not self.study.ranks,
            "ranks and budget both say the rank: leave one of them out",
        )

    def _check_generator(self) -> None:
        network = self._generator_network()
        require(
            self.generator.method not in ("sn", "sr"),
            f"generator_method {self.generator.method!r} is a discriminator's: set it to 'dense', 'svdp' or 'sttp'",
        )
        require(
            network.budget is None or self.generator.rank == FOLLOW,
            "generator_rank and budget both say the generator's rank: leave one of them out",
        )
        if network.method != "dense":
            network.check("generator_")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Recipe with the given fields, the others at their defaults.

        Parameters
        ----------
        fields : mapping
            Fields by section, as in YAML.

        Returns
        -------
        Recipe
            Validated.

        Raises
        ------
        RecipeError
            A field is unknown, or the recipe is not valid.

        Examples
        --------
        >>> from sttp_riemann.lab.training.recipe import Recipe
        >>> Recipe.from_dict({"optimizer": {"lr": 1}, "network": {"rank": 8}}).optimizer.lr
        1.0
        """
        return cls(**nest({name: field.default for name, field in FIELDS.items()} | flatten(fields)))

    def changed(self, **fields: Any) -> Recipe:
        """Copy of this recipe with some fields changed.

        Parameters
        ----------
        **fields : Any
            By their names on the command line: ``lr=1e-3``, ``generator_rank=8``.

        Returns
        -------
        Recipe
            Validated.

        Raises
        ------
        RecipeError
            A field is unknown, or the changed recipe is not valid.
        """
        return self.from_dict(nest(self.flat() | fields))

    @classmethod
    def recorded(cls, fields: Mapping[str, Any]) -> Recipe:
        """Read the recipe of a run; fields of other tasks, whose defaults may have been others then, are left out.

        Takes what `to_dict` gives; raises as `from_dict` does.
        """
        flat = flatten(fields)
        task = flat.get("task", FIELDS["task"].default)
        return cls.from_dict(nest({name: v for name, v in flat.items() if FIELDS[name].is_for(task)}))

    def to_dict(self) -> dict[str, Any]:
        """Every field, as plain values.

        Returns
        -------
        dict
            What `from_dict` takes.
        """
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """Every field by its name on the command line, as `changed` takes them."""
        return {name: _at(self, field) for name, field in FIELDS.items()}

    def what_matters(self) -> dict[str, Any]:
        """Fields of its task that a resumed run may not change, by their names on the command line; see `option`."""
        matters = {n for n, f in FIELDS.items() if f.metadata["matters"] and f.is_for(self.task)}
        return {name: value for name, value in self.flat().items() if name in matters}

    def for_run(
        self, method: Method, frames: Frames, seed: int, letter: str | None = None, rank: int | float | None = None
    ) -> Recipe:
        """Recipe of one run of a comparison.

        Parameters
        ----------
        method : {"dense", "sn", "sr", "svdp", "sttp"}
            How weights are represented; like `letter` and `rank` of the network that is compared.
        frames : {"riemannian", "householder"}
            How frames of low-rank methods are stored, in both networks of a GAN where the generator is compared.
        seed : int
            Seed of the run.
        letter : {"C", "L", "R"}, optional
            The paper's name of a spectrum; the recipe's own by default.
        rank : int or float, optional
            The recipe's own by default.

        Returns
        -------
        Recipe
            Recipe of a single run.

        Raises
        ------
        RecipeError
            The recipe is not valid with these.
        """
        own = "generator_" if self.study.player == "generator" else ""
        changes: dict[str, Any] = {f"{own}method": method, "frames": frames, "seed": seed}
        if own:
            changes[f"{own}frames"] = FOLLOW
        if letter is not None and method in sections.LOW_RANK:
            changes[f"{own}spectrum"], changes[f"{own}penalty"] = LETTERS[letter]
        if rank is not None:
            changes[f"{own}rank"] = rank
        return self.changed(**changes)

    def of_discriminator(self) -> Recipe:
        """Recipe of a GAN's discriminator alone; only the generator is averaged."""
        return self.changed(ema=0.0)

    def of_generator(self) -> Recipe:
        """Recipe of a GAN's generator alone; unset fields are the discriminator's."""
        return dataclasses.replace(self, network=self._generator_network())

    def _generator_network(self) -> Network:
        given = {name: value for name, value in vars(self.generator).items() if value != FOLLOW}
        network = dataclasses.replace(self.network, **given)
        follows = self.generator.method == FOLLOW and not self.network.low_rank
        return dataclasses.replace(network, method="dense") if follows else network

    @property
    def compared(self) -> Network:
        """The network whose variants a study compares, its unset fields filled in."""
        return self._generator_network() if self.study.player == "generator" else self.network

    @property
    def label(self) -> str:
        """Name of the run's variant, the same for all seeds, with the rank if several are compared."""
        network = self.compared
        if not network.low_rank:
            return network.method
        rank = f"-rank{network.rank}" if network.method in self.study.ranks else ""
        if self.task != "gan":
            return f"{network.method}-{network.frames}{rank}"
        letters = {meaning: letter.lower() for letter, meaning in LETTERS.items()}
        letter = letters.get((network.spectrum, network.penalty), "other")
        whose = "generator-" if self.study.player == "generator" else ""
        return f"{whose}{network.method}-{letter}-{network.frames}{rank}"


FIELDS = {field.short: field for field in fields_of(Recipe)}
"""Every field of a recipe by its name on the command line."""
SECTIONS: dict[str, Any] = {
    name: hint for name, hint in get_type_hints(Recipe).items() if dataclasses.is_dataclass(hint)
}
"""The class of each section."""


def nest(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Put fields into their sections.

    Parameters
    ----------
    fields : mapping
        By their names on the command line.

    Returns
    -------
    dict
        What `Recipe.from_dict` takes.

    Raises
    ------
    RecipeError
        A field is unknown.
    """
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise RecipeError(f"unknown recipe field {shown(name)}{_near(name, FIELDS)}")
        *section, last = FIELDS[name].path
        (nested.setdefault(section[0], {}) if section else nested)[last] = value
    return nested


def flatten(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Take fields out of their sections.

    Parameters
    ----------
    fields : mapping
        By section, some of them.

    Returns
    -------
    dict
        By their names on the command line.

    Raises
    ------
    RecipeError
        A section or a field is unknown.
    """
    names = {field.path: name for name, field in FIELDS.items()}
    flat = {}
    for outer, value in fields.items():
        if outer in SECTIONS and not isinstance(value, Mapping):
            inner = [path[1] for path in names if path[0] == outer]
            raise RecipeError(f"{outer} is a section, as {outer}: {{{inner[0]}: ...}}, not {shown(value)}")
        for path, given in [((outer, k), v) for k, v in value.items()] if outer in SECTIONS else [((outer,), value)]:
            if path not in names:
                raise RecipeError(_unknown(path, names))
            flat[names[path]] = given
    return flat


def _unknown(path: tuple[Any, ...], names: Mapping[tuple[str, ...], str]) -> str:
    name = path[-1]
    if isinstance(name, str) and name in FIELDS:
        *section, last = FIELDS[name].path
        place = f"{section[0]}: {{{last}: ...}}" if section else f"{last}: ..."
        return f"a recipe has {shown(name)} elsewhere, as {place}"
    known = [p[-1] for p in names if p[:-1] == path[:-1]] + ([*SECTIONS] if len(path) == 1 else [])
    where = f"section {path[0]} has no field" if len(path) > 1 else "unknown recipe field"
    return f"{where} {shown(name)}{_near(name, known)}"


def _near(name: Any, known: Any) -> str:
    near = get_close_matches(name, known) if isinstance(name, str) else []
    hint = f", did you mean {' or '.join(near)}?" if near else ""
    return f"{hint}; sttp-riemann train --help lists them"


def _at(recipe: Recipe, field: Field) -> Any:
    value: Any = recipe
    for name in field.path:
        # A section that is not checked yet may be a mapping
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value
