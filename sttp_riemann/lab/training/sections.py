"""The sections of a recipe: every field with its type, range, default and meaning."""

# ruff: noqa: RUF009 - option() gives dataclass fields, each with a factory of its own
from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from sttp_riemann.errors import RecipeError
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab.training import fields as kinds
from sttp_riemann.lab.training.fields import FOLLOW, Row, option
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.gan_penalties import GRADIENT_PENALTIES
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.layers.recompute import Recompute
from sttp_riemann.model.reparameterize import Init
from sttp_riemann.optim.moments import MOMENTS
from sttp_riemann.trains.shape import KernelModes
from sttp_riemann.trains.spectrum import PENALTIES, BoundOf, SpectrumKind

Method = Literal["dense", "sn", "sr", "svdp", "sttp"]
Frames = Annotated[str, Row("a kind of frames", FRAMES)]
OptimizerName = Annotated[str, Row("an optimizer", OPTIMIZERS)]
Moment = Annotated[str, Row("a second moment", MOMENTS)]
Penalty = Literal["none"] | Annotated[str, Row("a penalty", PENALTIES)]
GanLoss = Annotated[str, Row("a loss of a GAN", LOSSES)]
Metric = Literal["is", "fid", "kid", "prc", "ppl", "modes"]
Extractor = Literal["inception-v3-compat", "digits", "stacked_digits", "fashion_mnist"]
RANK = "largest rank of a layer and of a tensor train bond, a fraction of the full one, or either by layer name"
BUDGET = "largest share of the network's dense numbers; ranks of layers follow from it, and rank is not used"
DATA = (
    "digits, stacked_digits:N, cifar10, fashion_mnist, stl10, fake, folder:PATH, text:FILE, arrays:FILE, or "
    "module:attribute of your own"
)
WEIGHTS = "start from these dense weights: .pth or .safetensors, or a run; with low rank and init 'dense', decomposed"
NETWORK = "a network of the package, torchvision:NAME, timm:NAME, or module:attribute of your own"
RECOMPUTE = "compute V^T x again in the backward: as far as memory needs it, always or never"
MEMORY = "share of the dense network's memory that recompute 'auto' keeps a training step within"
SPECTRA = "which spectra are compared: identity, learned, learned with D-optimal penalty"
PLAYER = "GAN: whose methods, spectra, ranks and paths are compared; the other network stays as it is"
GRADIENT_PENALTY = (
    "penalties on gradients of the discriminator by images, with their weights, as --gradient_penalty.r1 10: r1 on "
    "real images, r2 on generated ones, wgan_gp between them"
)
OF_VARIANTS = "fields of single variants that differ, by the variant's name, as {STTP-R r=64: {lr: 1e-4}}"
LOW_RANK = ("svdp", "sttp")
"""Methods that have frames."""
# A covariance needs two samples; neighbours are sought among three others
FEWEST_SAMPLES = {"fid": 2, "prc": 4}


@dataclass(frozen=True)
class Data:
    """Data and their augmentation."""

    name: str = option("digits", DATA, "page", qualified=True)
    root: kinds.FilePath | None = option(None, "folder with the data", matters=False, qualified=True)
    download: bool = option(False, "allow the data to be downloaded", matters=False)
    image_size: kinds.Side | None = option(None, "side of the images (default: as stored)", "page start")
    channels: kinds.Channels | None = option(None, "channels of the images (default: as stored)", "page start")
    augment: dict[str, dict[str, Any]] = option(
        {}, "transforms of torchvision v2 with their options", "classify regress"
    )
    mixup: kinds.Mixup = option(0.0, "mix pairs of examples; parameter of the Beta distribution (0: off)", "classify")
    label_smoothing: kinds.Fraction = option(0.0, "share of a label that is spread over all classes", "classify")


@dataclass(frozen=True)
class Network:
    """A network and how its weights are represented."""

    name: str = option("digits_resnet", NETWORK, "page start", qualified=True)
    options: dict[str, Any] = option({}, "its options, as --network_options.width 32", "page start", qualified=True)
    method: Method = option("sttp", "how weights are represented", "run", follows=True)
    frames: Frames = option("riemannian", "how orthonormal frames are stored", "run low_rank", follows=True)
    rank: kinds.Rank | dict[str, kinds.Rank] = option(64, RANK, "low_rank", follows=True)
    budget: kinds.Part | None = option(None, BUDGET, "low_rank", follows=True)
    spectrum: SpectrumKind = option("learned", "singular values of a layer", "low_rank", follows=True)
    bound_of: BoundOf = option(
        "matrix", "what is at most 1: singular values of the matrix, or the operator's norm", "low_rank", follows=True
    )
    init: Init = option("orthogonal", "initialization of frames", "low_rank start", follows=True)
    weights: kinds.FilePath | None = option(None, WEIGHTS, "start")
    exclude: list[str] = option([], "layers that stay dense", "held")
    kernel_modes: KernelModes = option(
        "flat", "kernel positions: one mode, or each side factorized", "low_rank", follows=True
    )
    pivots: bool = option(
        True, "any rows may lead Householder frames, not only the first", "low_rank chart", follows=True
    )
    recompute: Recompute = option("auto", RECOMPUTE, matters=False, follows=True)
    memory: kinds.Positive = option(1.0, MEMORY, matters=False, follows=True)
    penalty: Penalty = option("none", "spectral penalty of low-rank methods", "low_rank", follows=True)
    penalty_weight: kinds.Weight = option(1.0, "weight of the spectral penalty", "low_rank")

    @property
    def low_rank(self) -> bool:
        """Whether weights are reparameterized."""
        return self.method in LOW_RANK

    @property
    def riemannian(self) -> bool:
        """Whether it trains points of the Stiefel manifold."""
        return self.low_rank and FRAMES[self.frames].direct

    @property
    def has_gauge(self) -> bool:
        """Whether fixing the gauge does something: to Riemannian frames, and to the rows that lead others."""
        return self.low_rank and (self.riemannian or self.pivots)

    def check(self, whose: str = "") -> None:
        """Refuse fields that contradict each other; the message says what to change."""
        require(
            self.penalty == "none" or self.spectrum != "identity",
            f"{whose}penalty {self.penalty!r} has nothing to act on with an identity spectrum: "
            f"set {whose}spectrum to 'learned'",
        )
        require(
            self.bound_of == "matrix" or self.spectrum != "free",
            f"{whose}bound_of 'operator' bounds nothing with a free spectrum: set {whose}spectrum to 'learned'",
        )
        require(
            self.memory == 1.0 or self.recompute == "auto",
            f"{whose}recompute {self.recompute!r} does not depend on memory: set {whose}recompute to 'auto'",
        )
        require(
            self.weights is None or not self.low_rank or self.init == "dense",
            f"{whose}init {self.init!r} draws other weights than those of {whose}weights: set {whose}init to 'dense'",
        )


def generator() -> Network:
    """Defaults of a GAN's generator: dense; if low-rank, with the discriminator's settings."""
    following: dict[str, Any] = {field.name: FOLLOW for field in fields(Network) if field.metadata["follows"]}
    return Network(**{**following, "name": "sngan32_generator", "method": "dense"})


@dataclass(frozen=True)
class Adversary:
    """How a GAN's networks compete."""

    loss: GanLoss = option("hinge", "what both networks minimize", "gan", qualified=True)
    discriminator_steps: kinds.Few = option(5, "steps of the discriminator per step of the generator", "gan")
    discriminator_lr: kinds.LearningRate | None = option(
        None, "learning rate of the discriminator (default: lr)", "gan"
    )
    conditional: bool = option(False, "both networks know the class of an image", "gan page")
    gradient_penalty: dict[str, kinds.Positive] = option({}, GRADIENT_PENALTY, "gan")

    def check(self, precision: str) -> None:
        """Refuse penalties that do not exist, or whose gradients a precision cannot hold."""
        for name in self.gradient_penalty:
            known = ", ".join(GRADIENT_PENALTIES)
            require(name in GRADIENT_PENALTIES, f"gradient_penalty has weights of {known}, not of {shown(name)}")
        require(
            precision != "fp16" or not self.gradient_penalty,
            "gradient_penalty takes gradients that fp16 cannot hold: set precision to 'bf16' or 'float32'",
        )


@dataclass(frozen=True)
class Distillation:
    """A trained classifier to learn from."""

    teacher: kinds.FilePath | None = option(None, "checkpoint to learn from, in addition to the labels", "classify")
    distill: kinds.Share = option(0.5, "share of the loss that is the distance to the teacher", "classify")
    temperature: kinds.Temperature = option(4.0, "divisor of both networks' class scores", "classify")


@dataclass(frozen=True)
class Optimizer:
    """What a step does with a gradient."""

    name: OptimizerName = option("adam", "optimizer; its Riemannian version on Riemannian frames", qualified=True)
    lr: kinds.LearningRate = option(1e-3, "learning rate")
    betas: list[kinds.Fraction] = option([0.9, 0.999], "Adam: decay of both moments")
    momentum: kinds.Fraction = option(0.9, "SGD: momentum")
    nesterov: bool = option(False, "SGD: Nesterov's momentum")
    moment: Moment = option("cores", "Adam on Riemannian frames: matrix, polar or cores", "low_rank direct")
    weight_decay: kinds.Decay = option(0.0, "weight decay")
    decoupled_weight_decay: bool = option(False, "Adam: weight decay apart from the gradient, as in AdamW")
    max_angle: kinds.Angle | None = option(
        None, "largest angle in radians of a step of Riemannian frames", "low_rank direct"
    )
    clip: kinds.Positive | None = option(None, "largest norm of the gradient (Riemannian on Riemannian frames)")
    gauge_fix_every: kinds.Every = option(0, "steps between gauge fixings of frames (0: never)", "low_rank")
    skip_bad_steps: kinds.Every = option(
        0, "maximum number of steps without a finite gradient that a run skips", matters=False
    )
    ema: kinds.Fraction = option(0.0, "decay of a running average of the network, which is then evaluated (0: off)")

    def check(self) -> None:
        """Refuse fields that contradict each other; the message says what to change."""
        require(len(self.betas) == 2, f"betas must be two numbers, not {shown(self.betas)}")
        require(
            not self.nesterov or (self.name == "sgd" and self.momentum > 0),
            "nesterov needs optimizer 'sgd' and a momentum above 0",
        )
        for name, given in (
            ("moment", self.moment != "cores"),
            ("decoupled_weight_decay", self.decoupled_weight_decay),
        ):
            require(not given or self.name != "sgd", f"{name} needs optimizer 'adam', not 'sgd'")


@dataclass(frozen=True)
class Schedule:
    """Length of a run, and its learning rate over time."""

    steps: kinds.Steps = option(1000, "optimizer steps; for a GAN, of the generator", "start")
    batch_size: kinds.Count = option(128, "examples per step, all processes and parts together")
    accumulate: kinds.Count = option(1, "parts that a step's batch is computed in, to save memory")
    decay: Literal["linear", "cosine", "steps", "none"] = option("linear", "learning rate over steps")
    milestones: list[kinds.Inside] = option([0.3, 0.6, 0.8], "decay 'steps': parts of the run after which lr falls")
    decay_factor: kinds.Part = option(0.2, "decay 'steps': factor of lr at each milestone")
    patience: kinds.Every = option(0, "evaluations without a better score that end a run (0: never)")

    def check(self) -> None:
        """Refuse fields that contradict each other; the message says what to change."""
        require(
            self.batch_size % self.accumulate == 0,
            f"batch_size {self.batch_size} cannot be computed in {self.accumulate} equal parts: change accumulate",
        )
        require(
            self.milestones == sorted(self.milestones), f"milestones must be ascending, not {shown(self.milestones)}"
        )


@dataclass(frozen=True)
class Evaluation:
    """Measurements during training."""

    evaluate_every: kinds.Steps = option(100, "steps between evaluations", "start")
    validation: kinds.Fraction = option(0.0, "share of training examples held out for choices", "classify regress page")
    evaluate_batch_size: kinds.Count = option(500, "examples at a time while evaluating", matters=False)
    metrics: list[Metric] = option(["is", "fid", "kid"], "metrics that torch-fidelity measures each time", "gan page")
    extractor: Extractor = option("inception-v3-compat", "network whose features metrics use", "gan page")
    extractor_weights: kinds.FilePath | None = option(None, "file with Inception's weights", "gan", matters=False)
    metric_samples: kinds.Many = option(50000, "generated images to measure", "gan page")
    is_splits: kinds.Many = option(10, "parts of the samples that Inception score averages over", "gan page")
    kid_subsets: kinds.Count = option(100, "subsets that KID averages over", "gan page")
    kid_subset_size: kinds.Many = option(1000, "images in each of them", "gan page")
    operator_norms: bool = option(False, "record the spectral norm of convolutions as operators, too", "gan")

    def check(self, data: str) -> None:
        """Refuse fields that contradict each other, or metrics of other data; the message says what to change."""
        unique("metrics", self.metrics)
        ours = self.extractor == "stacked_digits"
        require(
            ours or "modes" not in self.metrics,
            f"metric 'modes' needs extractor 'stacked_digits', not {self.extractor!r}: set it, or leave modes out",
        )
        require(
            not ours or data.partition(":")[0] == "stacked_digits",
            f"extractor 'stacked_digits' is for data 'stacked_digits', not {shown(data)}: choose another extractor",
        )
        for metric, name in (("kid", "kid_subset_size"), ("is", "is_splits")):
            require(
                metric not in self.metrics or getattr(self, name) <= self.metric_samples,
                f"{name} {getattr(self, name)} is more than metric_samples {self.metric_samples}: lower it",
            )
        require("kid" not in self.metrics or self.kid_subset_size >= 2, "kid_subset_size must be at least 2, not 1")
        for metric in self.metrics:
            fewest = FEWEST_SAMPLES.get(metric, 1)
            require(
                self.metric_samples >= fewest,
                f"metric_samples must be at least {fewest} for {metric!r}, not {self.metric_samples}",
            )


@dataclass(frozen=True)
class Checkpoints:
    """What a run writes during training."""

    checkpoint_every: kinds.Every = option(500, "steps between checkpoints (0: only at the end)", matters=False)
    keep: kinds.Count = option(1, "number of latest checkpoints to keep", matters=False)
    keep_best: bool = option(False, "also keep the checkpoint of the best evaluation", matters=False)
    tensorboard: bool = option(False, "write the history for tensorboard, too", matters=False)


@dataclass(frozen=True)
class Machine:
    """Where a run computes."""

    precision: Literal["float32", "bf16", "fp16"] = option("float32", "precision of the network; frames stay float32")
    device: Literal["auto", "cpu"] = option("auto", "auto uses an accelerator if there is one")
    threads: kinds.Threads | None = option(None, "CPU threads (default: torch's)")

    def check(self) -> None:
        """Refuse fields that contradict each other; the message says what to change."""
        require(
            self.precision != "fp16" or self.device == "auto",
            "precision 'fp16' needs an accelerator: set device to 'auto', or precision to 'bf16' or 'float32'",
        )


@dataclass(frozen=True)
class Study:
    """What is compared."""

    methods: list[Method] = option(["dense", "svdp", "sttp"], "which methods are compared", "study", False)
    paths: list[Frames] = option(["riemannian", "householder"], "which frames are compared", "study", False)
    spectra: list[Literal["C", "L", "R"]] = option([], SPECTRA, "study gan", False)
    ranks: dict[str, list[kinds.Rank]] = option(
        {}, "by method, as --ranks.sttp '[4, 8]' (default: rank)", "study", False
    )
    seeds: list[kinds.Seed] = option([0, 1, 2], "one run per seed", "study", False)
    player: Literal["discriminator", "generator"] = option("discriminator", PLAYER, "study gan page", False)
    variants: dict[str, dict[str, Any]] = option({}, OF_VARIANTS, "study", False)
    paper: dict[str, Any] = option({}, "the paper's figures, by the variant's name and metric", "study", False)

    @property
    def rank_unused(self) -> bool:
        """Whether `ranks` says the rank of every method that is compared."""
        low_rank = [method for method in self.methods if method in LOW_RANK]
        return bool(low_rank) and all(method in self.ranks for method in low_rank)

    def check(self) -> None:
        """Refuse fields that contradict each other; the message says what to change."""
        for name in ("methods", "paths", "seeds", "spectra"):
            unique(name, getattr(self, name))
            require(bool(getattr(self, name)) or name == "spectra", f"{name} must not be empty")
        for method, ranks in self.ranks.items():
            require(method in LOW_RANK, f"ranks are of {' and '.join(LOW_RANK)}, not of {shown(method)}")
            require(bool(ranks), f"ranks of {method!r} must be a list that is not empty, such as [4, 8, 16]")
            unique(f"ranks of {method!r}", ranks)
        for method in self.methods if self.player == "generator" else ():
            require(
                method in LOW_RANK,
                f"methods of player 'generator' are {' and '.join(LOW_RANK)}, not {method!r}: set methods to them",
            )


def unique(name: str, values: list[Any]) -> None:
    """Refuse a list that has a value twice."""
    require(len(set(values)) == len(values), f"{name} names the same one twice: {shown(values)}")


def require(holds: bool, message: str) -> None:
    """Refuse what does not hold."""
    if not holds:
        raise RecipeError(message)
