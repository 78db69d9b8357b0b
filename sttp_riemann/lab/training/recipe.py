"""The recipe: everything that a run is made of, typed and validated."""

# ruff: noqa: RUF009 - option() gives dataclass fields, each with a factory of its own
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_type_hints

from sttp_riemann.errors import RecipeError
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab.training.checks import LOW_RANK, check_combinations, check_ranges
from sttp_riemann.lab.training.typecheck import coerce, shown

Method = Literal["dense", "sn", "sr", "svdp", "sttp"]
# The paper's names of a spectrum: what follows STTP- or SVDP-
LETTERS = {"C": ("identity", "none"), "L": ("learned", "none"), "R": ("learned", "d_optimal")}
Frames = str  # a key of `sttp_riemann.frames.FRAMES`


def option(default: Any, help: str, matters: bool = True) -> Any:
    """Describe a field of the recipe.

    Parameters
    ----------
    default : Any
        Its value where the recipe is silent; a list or dict is copied for each recipe.
    help : str
        What the command line's help says of it.
    matters : bool
        Whether a run begun with another value is another run, so that it must not be gone on with.

    Returns
    -------
    dataclasses.Field
        With `help` and `matters` in its metadata.
    """
    metadata = {"help": help, "matters": matters}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, how, and what to compare.

    Every field has a default, and each is an option of the command line. Validated when made.

    Raises
    ------
    RecipeError
        A field has the wrong type or a value out of range, or two fields contradict each other.

    Notes
    -----
    ``sttp-riemann recipes`` lists the recipes that the package ships, and ``sttp-riemann train --help`` every field
    with its meaning and default.

    Examples
    --------
    >>> from sttp_riemann.lab.training.recipe import Recipe
    >>> recipe = Recipe(method="sttp", frames="riemannian", rank=8)
    >>> recipe.label, recipe.riemannian
    ('sttp-riemannian', True)
    >>> Recipe(rank=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sttp_riemann.errors.RecipeError: rank must be ...
    """

    name: str = option("study", "title of the study, and its folder under runs/", matters=False)
    summary: str = option("", "one line on what the study is", matters=False)
    output: str | None = option(None, "folder to write to (default: runs/NAME)", matters=False)

    task: Literal["classify", "gan"] = option("classify", "what is trained")
    data: str = option("digits", "digits, cifar10, stl10, fake or folder:PATH")
    data_root: str | None = option(None, "folder with the data", matters=False)
    download: bool = option(False, "allow the data to be downloaded", matters=False)
    image_size: int | None = option(None, "side of the images that the network sees (default: as they are)")
    channels: int | None = option(None, "channels of the images that the network sees (default: as they are)")
    network: str = option("digits_resnet", "name of the network")
    network_options: dict[str, Any] = option({}, "options of the network, such as --network_options.width 32")
    conditional: bool = option(False, "gan: both networks know the class of an image")
    generator: str = option("sngan32_generator", "gan: name of the generator; network is the discriminator")
    generator_options: dict[str, Any] = option({}, "gan: options of the generator")

    methods: list[Method] = option(["dense", "svdp", "sttp"], "which methods are compared", matters=False)
    paths: list[Frames] = option(["riemannian", "householder"], "which frames are compared", matters=False)
    spectra: list[Literal["C", "L", "R"]] = option(
        [], "which spectra are compared: identity, learned, learned with D-optimal penalty", matters=False
    )
    ranks: dict[str, Any] = option(
        {}, "which ranks are compared, by method, such as --ranks.sttp '[4, 8, 16]' (default: rank)", matters=False
    )
    seeds: list[int] = option([0, 1, 2], "one run a seed", matters=False)

    method: Method = option("sttp", "how weights are represented")
    frames: Frames = option("riemannian", "how orthonormal frames are kept: riemannian or householder")
    seed: int = option(0, "seed of weights, data order and noise")
    rank: int | float | dict[str, Any] = option(
        64, "largest rank of a layer and of a tensor train bond, a fraction of the full one, or either by layer name"
    )
    budget: float | None = option(
        None, "largest share of the network's dense numbers; ranks of layers follow from it, and rank is not used"
    )
    spectrum: Literal["identity", "learned", "free"] = option("learned", "singular values of a layer")
    init: Literal["noisy_identity", "orthogonal", "identity", "dense"] = option("noisy_identity", "where frames start")
    exclude: list[str] = option([], "layers that stay dense")
    kernel_modes: Literal["flat", "prime"] = option("flat", "kernel positions as one mode of the train, or factorized")
    recompute: Literal["auto", "always", "never"] = option(
        "auto", "compute V^T x again in the backward, for memory: where it is large, always or never", matters=False
    )
    penalty: str = option("none", "spectral penalty of low-rank methods: none, d_optimal or divergence")
    penalty_weight: float = option(1.0, "weight of the spectral penalty")
    generator_method: Literal["dense", "follow", "svdp", "sttp"] = option(
        "dense", "gan: method of the generator; follow takes the discriminator's where that is low-rank"
    )
    generator_frames: Frames | None = option(None, "gan: frames of the generator (default: the discriminator's)")
    generator_rank: int | None = option(None, "gan: rank of the generator (default: the discriminator's)")
    generator_spectrum: Literal["identity", "learned", "free"] | None = option(
        None, "gan: spectrum of the generator (default: the discriminator's)"
    )
    generator_exclude: list[str] = option([], "gan: layers of the generator that stay dense")
    generator_penalty: str | None = option(
        None, "gan: spectral penalty of the generator (default: the discriminator's)"
    )
    generator_penalty_weight: float = option(0.75, "gan: weight of the generator's spectral penalty")

    optimizer: str = option("adam", "optimizer, adam or sgd; its Riemannian kin on Riemannian frames")
    lr: float = option(1e-3, "learning rate")
    decay: Literal["linear", "cosine", "steps", "none"] = option("linear", "learning rate over steps")
    milestones: list[float] = option([0.3, 0.6, 0.8], "decay 'steps': fractions of the run after which lr falls")
    decay_factor: float = option(0.2, "decay 'steps': what lr is multiplied with at each milestone")
    betas: list[float] = option([0.9, 0.999], "Adam: decay of both moments")
    momentum: float = option(0.9, "SGD: momentum")
    nesterov: bool = option(False, "SGD: Nesterov's momentum")
    weight_decay: float = option(0.0, "weight decay")
    clip: float | None = option(None, "largest norm of the gradient (Riemannian on Riemannian frames)")
    skip_bad_steps: int = option(
        0, "steps of the whole run whose loss or gradient is not finite that may be left out (0: end)", matters=False
    )
    gauge_fix_every: int = option(0, "steps between gauge fixings of Riemannian frames (0: never)")
    label_smoothing: float = option(0.0, "share of each label that is spread over all classes")
    mixup: float = option(0.0, "mix pairs of examples; parameter of the Beta distribution of the shares (0: off)")
    teacher: str | None = option(None, "checkpoint of a classifier to learn from, beside the labels (distillation)")
    distill: float = option(0.5, "share of the loss that is the distance to the teacher; not used without one")
    temperature: float = option(4.0, "distillation: what both networks' class scores are divided by")
    augment: dict[str, Any] = option({}, "transforms of torchvision v2 with their options, applied in order")
    ema: float = option(0.0, "decay of a running average of the network, which is then what is evaluated (0: off)")

    gan_loss: Literal["hinge", "non_saturating", "wasserstein", "wasserstein_hinge"] = option(
        "hinge", "gan: what both networks minimize"
    )
    discriminator_steps: int = option(5, "gan: steps of the discriminator a step of the generator")
    metrics: list[Literal["is", "fid", "kid", "prc", "ppl"]] = option(
        ["is", "fid", "kid"], "gan: what torch-fidelity measures at each evaluation"
    )
    extractor: Literal["inception-v3-compat", "digits"] = option(
        "inception-v3-compat", "gan: network that the metrics look through"
    )
    extractor_weights: str | None = option(None, "gan: file with the Inception network's weights", matters=False)
    metric_samples: int = option(50000, "gan: images that are made to be measured")
    is_splits: int = option(10, "gan: parts of the samples that Inception score averages over")
    kid_subsets: int = option(100, "gan: subsets that KID averages over")
    kid_subset_size: int = option(1000, "gan: images in each of them")
    operator_norms: bool = option(False, "gan: record the spectral norm of convolutions as operators, too")
    paper: dict[str, Any] = option({}, "the paper's figures, by method and metric, for the report", matters=False)

    steps: int = option(1000, "optimizer steps; gan: of the generator")
    validation: float = option(
        0.0, "share of the training images that is held out, for whatever is chosen; test images are seen at the end"
    )
    batch_size: int = option(128, "examples a step, all processes and parts together")
    accumulate: int = option(1, "parts that a step's batch is computed in, to save memory")
    evaluate_every: int = option(100, "steps between evaluations")
    evaluate_batch_size: int = option(500, "examples at a time while evaluating", matters=False)
    patience: int = option(0, "evaluations without a better score after which a run ends (0: never); needs validation")
    checkpoint_every: int = option(500, "steps between checkpoints (0: only at the end)", matters=False)
    keep: int = option(1, "how many of the last checkpoints are kept", matters=False)
    keep_best: bool = option(False, "also keep the checkpoint of the best evaluation; needs validation", matters=False)
    tensorboard: bool = option(False, "write the history for tensorboard, too", matters=False)
    precision: Literal["float32", "bf16", "fp16"] = option("float32", "arithmetic of the network; frames stay float32")
    device: Literal["auto", "cpu"] = option("auto", "auto takes an accelerator where there is one")
    threads: int | None = option(None, "processor threads to compute with (default: as many as torch takes)")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = coerce(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        check_ranges(self)
        check_combinations(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Recipe with these fields, the others at their defaults.

        Parameters
        ----------
        fields : mapping
            Field name to value, as YAML or the command line gives it.

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
        >>> Recipe.from_dict({"lr": 1, "rank": 8}).lr
        1.0
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = get_close_matches(name, known) if isinstance(name, str) else []
                hint = f", did you mean {' or '.join(near)}?" if near else ""
                raise RecipeError(f"unknown recipe field {shown(name)}{hint}; sttp-riemann train --help lists them")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Every field, as plain values.

        Returns
        -------
        dict
            What `from_dict` takes.
        """
        return dataclasses.asdict(self)

    def what_matters(self) -> dict[str, Any]:
        """Give the fields that make this run the run it is; see `option`.

        Returns
        -------
        dict
            Field name to value; a run begun with other ones is another run.
        """
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["matters"]}

    def for_run(
        self, method: Method, frames: Frames, seed: int, letter: str | None = None, rank: int | float | None = None
    ) -> Recipe:
        """Give the recipe of one run of a comparison.

        Parameters
        ----------
        method : {"dense", "sn", "sr", "svdp", "sttp"}
            How weights are held.
        frames : {"riemannian", "householder"}
            Of low-rank methods.
        seed : int
            Of the run.
        letter : {"C", "L", "R"}, optional
            The spectrum, by the paper's name; the recipe's own by default.
        rank : int or float, optional
            The recipe's own by default.

        Returns
        -------
        Recipe
            One that says what a single run is.

        Raises
        ------
        RecipeError
            The recipe is not valid with these.
        """
        changes: dict[str, Any] = {"method": method, "frames": frames, "seed": seed}
        if letter is not None and method in LOW_RANK:
            changes["spectrum"], changes["penalty"] = LETTERS[letter]
        if rank is not None:
            changes["rank"] = rank
        return dataclasses.replace(self, **changes)

    @property
    def riemannian(self) -> bool:
        """Whether the run trains points of the Stiefel manifold."""
        return self.low_rank and FRAMES[self.frames].direct

    @property
    def low_rank(self) -> bool:
        """Whether weights are reparameterized."""
        return self.method in LOW_RANK

    @property
    def rank_unused(self) -> bool:
        """Whether `ranks` says the rank of every method that is compared."""
        low_rank = [method for method in self.methods if method in LOW_RANK]
        return bool(low_rank) and all(method in self.ranks for method in low_rank)

    @property
    def label(self) -> str:
        """Name of the run's variant, the same for all seeds; it tells the rank where several are compared."""
        if not self.low_rank:
            return self.method
        rank = f"-rank{self.rank}" if self.method in self.ranks else ""
        if self.task == "classify":
            return f"{self.method}-{self.frames}{rank}"
        letters = {meaning: letter.lower() for letter, meaning in LETTERS.items()}
        return f"{self.method}-{letters.get((self.spectrum, self.penalty), 'other')}-{self.frames}{rank}"
