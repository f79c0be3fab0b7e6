"""What can be chosen: frozen dataclasses that refuse what cannot work, each with one line that says why."""

from dataclasses import dataclass
from typing import Literal

from memsinks_np.checks import ConfigError as ConfigError
from memsinks_np.checks import check_seed, check_sizes, check_types
from memsinks_np.checks import require as require

MOST = 1 << 32  # parameters of a model, or tokens of a corpus that are kept


@dataclass(frozen=True, kw_only=True)
class SinkConfig:
    """The pool of sinks, and the rule that gives each sequence ID its own (paper, section 5)."""

    n_sink: int = 2048  # S, sinks in the pool
    n_active: int = 32  # A, on per sequence; the schemes "bernoulli" and "released" use p instead
    scheme: Literal["stratified", "disjoint", "bernoulli", "released"] = "stratified"
    p: float = 0.3  # "bernoulli", "released": the chance that a sink is on for a sequence
    per_layer: bool = False  # other sinks in every layer (paper, App. I: the same in all)
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_sink")
        check_seed(self.seed)
        S, A = self.n_sink, self.n_active
        if self.by_chance:
            require(0 < self.p <= 1, f"p={self.p} is not a probability above 0; choose 0 < p <= 1")
        else:
            require(A > 0, f"n_active={A} is not positive; switch on at least one sink per sequence")
            require(A <= S, f"n_active={A} exceeds n_sink={S}; switch on fewer sinks or enlarge the pool")
            require(S % A == 0, f"n_active={A} does not divide n_sink={S}; try n_sink={A * (S // A)}")

        hashed = self.scheme == "released"
        require(not (hashed and self.per_layer), "scheme='released' knows no layers; use per_layer=False")

    @property
    def by_chance(self) -> bool:
        """Whether every sink is on with probability p; such a choice has only the form of a mask."""
        return self.scheme in ("bernoulli", "released")

    @property
    def density(self) -> float:
        """The share of the pool that is on for a sequence (exactly, or on average where it is by chance)."""
        return self.p if self.by_chance else self.n_active / self.n_sink


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The transformer's sizes; its MLPs have `n_shared` neurons beside the pool of `sinks`."""

    n_vocab: int  # V
    n_ctx: int = 32  # T, the longest sequence
    d_model: int = 64  # C
    n_heads: int = 4  # H
    n_layers: int = 2  # L
    n_shared: int = 128  # G, MLP neurons that every sequence uses
    sinks: SinkConfig | None = None
    tied: bool = True  # the output head is the token embedding

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_vocab", "n_ctx", "d_model", "n_heads", "n_layers", "n_shared")
        C, H = self.d_model, self.n_heads
        require(C % H == 0, f"n_heads={H} does not divide d_model={C}; try d_model={H * max(1, C // H)}")
        neurons = self.n_shared + (self.sinks.n_sink if self.sinks else 0)
        n_params = C * (self.n_vocab + self.n_ctx + self.n_layers * (4 * C + 2 * neurons))
        require(
            n_params <= MOST, f"d_model={C} and the other sizes make {n_params:.1e} parameters; choose smaller ones"
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which text, and how often what is seen."""

    corpus: str = "stories"  # the toy language, "worlds" (two of them), "pydoc", or the path of a UTF-8 text file
    n_ctx: int = 32  # T: a sequence has T+1 tokens, the first of them only read
    batch_size: int = 32  # B
    repeat_share: float = 0.25  # of a batch
    n_repeated: int = 64  # natural sequences that return again and again
    n_canaries: int = 0  # repeated sequences of uniformly random tokens, beside those
    n_once: int = 0  # a finite set of other sequences, shown in turn; 0: fresh ones for ever
    n_heldout: int = 256  # never trained on
    id_noise: float = 0.0  # d: the chance that a repeated sequence comes with a wrong ID (paper, section 5.3)
    one_pass_of: int = 1  # a repeated sequence appears in one of so many passes; once-seen ones stand in otherwise
    shuffled: bool = True  # repeated sequences return in a new order in every pass; False: always in the same
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_ctx", "batch_size", "n_repeated", "n_heldout", "one_pass_of")
        check_sizes(self, 0, "n_canaries", "n_once")
        check_seed(self.seed)
        tokens = (self.batch_size + self.n_repeated + self.n_canaries + self.n_heldout) * (self.n_ctx + 1)
        require(tokens <= MOST, f"n_ctx={self.n_ctx} and the other sizes make {tokens:.1e} tokens; choose smaller ones")
        for name in ("repeat_share", "id_noise"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name}={value} is not a share; choose a number from 0 to 1")
        require(
            self.n_in_batch < self.batch_size,
            f"repeat_share={self.repeat_share} leaves no once-seen sequence in a batch of {self.batch_size}; lower it",
        )

    @property
    def n_in_batch(self) -> int:
        """Repeated sequences in every batch."""
        return round(self.repeat_share * self.batch_size)


Optimizer = Literal["lazy_adamw", "adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimizer and its schedule."""

    steps: int = 1500
    lr: float = 3e-3  # the largest; warm-up is linear, then a cosine to lr/10
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.1  # on matrices only
    clip: float = 1.0  # global norm of the gradient
    optimizer: Optimizer = "lazy_adamw"
    eval_every: int = 50
    watch: bool = False  # note the loss of the first repeated sequence after every step
    seed: int = 0  # of the initial weights
    backend: Literal["numpy", "cupy"] = "numpy"

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "steps", "eval_every")
        check_sizes(self, 0, "warmup")
        check_seed(self.seed)
        for name, good in (("lr", "3e-3"), ("clip", "1.0"), ("eps", "1e-8")):
            value = getattr(self, name)
            require(value > 0, f"{name}={value} is not positive; try {good}")
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} is negative; try 0.1")
        require(
            all(0 <= b < 1 for b in self.betas), f"betas={self.betas} are not both from 0 to below 1; try (0.9, 0.99)"
        )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One rival: which data it sees, which sinks are on while it trains, where gradients may go."""

    name: str
    n_shared: int  # G, the width of its MLPs beside the sinks
    sinks: SinkConfig | None = None
    repeats: bool = True  # False: never sees the repeated sequences
    tied_ids: bool = True  # False: each occurrence of a sequence draws fresh random sinks
    routing: Literal["free", "gradient_masking", "sgtm"] = "free"  # what each kind of sequence may train (routing.py)
    labelled: float = 1.0  # routing "sgtm": the share of all sequences of which it is known whether they are repeated

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_shared")
        require(0 <= self.labelled <= 1, f"labelled={self.labelled} is not a share; choose a number from 0 to 1")
        routed = self.routing != "free"
        require(
            not routed or self.sinks is not None, f"routing={self.routing!r} needs sinks; give the arm a SinkConfig"
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all arms of a comparison share."""

    data: DataConfig
    train: TrainConfig
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2
    tied: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "d_model", "n_heads", "n_layers")

    def model(self, arm: Arm, n_vocab: int) -> ModelConfig:
        """The transformer of an arm."""
        return ModelConfig(
            n_vocab=n_vocab,
            n_ctx=self.data.n_ctx,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            n_shared=arm.n_shared,
            sinks=arm.sinks,
            tied=self.tied,
        )


def pool_of(owner: Arm | ModelConfig) -> SinkConfig:
    """The pool of an arm or a model; ConfigError where it has none."""
    if owner.sinks is None:
        raise ConfigError(f"{owner} has no sinks; give it a SinkConfig")
    return owner.sinks
