"""Configurations: frozen dataclasses that reject invalid settings with a one-line reason."""

import math
from dataclasses import dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

MAX_SIZE = 1 << 24  # of one dimension
MAX_NUMBERS = 1 << 32  # parameters of a model, or stored tokens of a corpus
DOCUMENTS_PER_SINK = 2  # A n / S of a pool for n documents


class ConfigError(ValueError):
    """Raised for an invalid setting or input. The message is one line: the value and a remedy."""


def require(ok: bool, message: str) -> None:
    """Raise ConfigError(message) unless `ok`."""
    if not ok:
        raise ConfigError(message)


def has_type(value: Any, kind: Any) -> bool:
    """Return whether a value has the annotated type.

    An int is not a bool and fits int64; a float is finite.
    """
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is UnionType:
        return any(has_type(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        same_length = isinstance(value, tuple) and len(value) == len(kinds)
        return same_length and all(map(has_type, value, kinds))
    if kind in (int, float):
        int_like = isinstance(value, int) and not isinstance(value, bool)
        if int_like:
            return bool(-(1 << 63) <= value < 1 << 63)
        return kind is float and isinstance(value, float) and math.isfinite(value)
    return bool(isinstance(value, kind))


types_of = lru_cache(get_type_hints)


def check_types(config: Any) -> None:
    """Raise ConfigError unless every field has the type of its annotation."""
    for name, kind in types_of(config.__class__).items():
        value = getattr(config, name)
        if not has_type(value, kind):
            remedy = {int: "a Python int below 2**63", float: "a finite Python number"}.get(kind)
            if get_origin(kind) is Literal:
                remedy = f"one of {', '.join(get_args(kind))}"
            raise ConfigError(f"{name}={shorten(value)} cannot be used; give {remedy or kind}")


def shorten(value: Any) -> str:
    """Return repr(value) on one line, at most 60 characters long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_sizes(config: Any, smallest: int, *names: str) -> None:
    """Raise ConfigError unless each of these fields is between `smallest` and MAX_SIZE."""
    for name in names:
        value = getattr(config, name)
        require(value >= smallest, f"{name}={value} is too small; choose at least {smallest}")
        require(value <= MAX_SIZE, f"{name}={value} is too large; choose at most {MAX_SIZE}")


def check_fraction(config: Any, *names: str) -> None:
    """Raise ConfigError unless each of these fields is between 0 and 1."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value <= 1, f"{name}={value} is not a fraction; choose a number from 0 to 1")


def check_seed(seed: int) -> None:
    """Raise ConfigError for a negative seed."""
    require(seed >= 0, f"seed={seed} is negative; choose 0 or more")


def check_rates(lr: float | None, weight_decay: float | None) -> None:
    """Raise ConfigError for a learning rate or a weight decay that cannot be used."""
    require(lr is None or lr > 0, f"lr={lr} is not positive; try 3e-3")
    decay = weight_decay
    require(decay is None or decay >= 0, f"weight_decay={decay} is negative; try 0.1")


@dataclass(frozen=True, kw_only=True)
class SinkConfig:
    """The sink pool and the rule that maps a sequence ID to its sinks (paper, section 5)."""

    n_sink: int = 2048  # S, sinks in the pool
    n_active: int = 32  # A, active per sequence; "bernoulli" and "released" use p instead
    scheme: Literal["stratified", "disjoint", "bernoulli", "released"] = "stratified"
    p: float = 0.3  # "bernoulli", "released": probability that a sink is active for a sequence
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_sink")
        check_seed(self.seed)
        S, A = self.n_sink, self.n_active
        if self.is_random:
            require(0 < self.p <= 1, f"p={self.p} is not a probability above 0; choose 0 < p <= 1")
        else:
            require(A > 0, f"n_active={A} is not positive; use at least one sink per sequence")
            require(A <= S, f"n_active={A} exceeds n_sink={S}; lower it or enlarge the pool")
            require(
                S % A == 0, f"n_active={A} does not divide n_sink={S}; try n_sink={A * (S // A)}"
            )

    @classmethod
    def for_documents(cls, n: int, *, n_active: int = 32, **settings: Any) -> "SinkConfig":
        """Return a pool for n repeated documents: two of them have each sink, on average.

        A rule of thumb, S = A n / 2 (DOCUMENTS_PER_SINK); `overlap` in docs/experiments.md says how
        it was found. `settings` are further fields.
        """
        require(n > 0, f"n={n} documents; give at least 1")
        return cls(n_sink=n_active * -(-n // DOCUMENTS_PER_SINK), n_active=n_active, **settings)

    @property
    def is_random(self) -> bool:
        """Whether each sink is active with probability p. It can only be expressed as a mask."""
        return self.scheme in ("bernoulli", "released")

    @property
    def density(self) -> float:
        """The active fraction of the pool: exact, or expected if sinks are drawn at random."""
        return self.p if self.is_random else self.n_active / self.n_sink


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the transformer. Each MLP has `n_shared` neurons plus the pool of `sinks`."""

    n_vocab: int  # V
    n_ctx: int = 32  # T, the longest sequence
    d_model: int = 64  # C
    n_heads: int = 4  # H
    n_layers: int = 2  # L
    n_shared: int = 128  # G, MLP neurons that every sequence uses
    sinks: SinkConfig | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_vocab", "n_ctx", "d_model", "n_heads", "n_layers", "n_shared")
        C, H = self.d_model, self.n_heads
        d_model = H * max(1, C // H)
        require(C % H == 0, f"n_heads={H} does not divide d_model={C}; try d_model={d_model}")
        require(
            self.n_params <= MAX_NUMBERS,
            f"d_model={C} and the other sizes make {self.n_params:.1e} parameters; "
            "choose smaller ones",
        )

    @property
    def n_params(self) -> int:
        """Numbers in the matrices, which are nearly all parameters."""
        neurons = self.n_shared + (self.sinks.n_sink if self.sinks else 0)
        per_layer = 4 * self.d_model + 2 * neurons
        return self.d_model * (self.n_vocab + self.n_ctx + self.n_layers * per_layer)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A built-in corpus or text, and how often its sequences are shown."""

    corpus: str = "stories"  # toy language, "domains" (two of them), "pydoc", or a UTF-8 file
    n_ctx: int = 32  # T: a sequence has T+1 tokens, of which the first is only input
    batch_size: int = 32  # B
    repeat_fraction: float = 0.25  # of a batch
    n_repeated: int = 64  # natural sequences that are shown repeatedly
    n_canaries: int = 0  # further repeated sequences, of uniformly random tokens
    n_heldout: int = 256  # never trained on
    id_noise: float = 0.0  # d, probability of a wrong ID for a repeated sequence (paper, 5.3)
    show_every_n_passes: int = 1  # each repeated sequence is shown in one of n passes
    shuffled: bool = True  # reorder the repeated sequences in every pass
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(
            self, 1, "n_ctx", "batch_size", "n_repeated", "n_heldout", "show_every_n_passes"
        )
        check_sizes(self, 0, "n_canaries")
        check_seed(self.seed)
        n_sequences = self.batch_size + self.n_repeated + self.n_canaries + self.n_heldout
        tokens = n_sequences * (self.n_ctx + 1)
        require(
            tokens <= MAX_NUMBERS,
            f"n_ctx={self.n_ctx} and the other sizes make {tokens:.1e} tokens; choose smaller ones",
        )
        check_fraction(self, "repeat_fraction", "id_noise")
        require(
            self.n_repeated_per_batch < self.batch_size or self.corpus == "own data",
            f"repeat_fraction={self.repeat_fraction} leaves no once-seen sequence in a batch of "
            f"{self.batch_size}; lower it",
        )

    @property
    def n_repeated_per_batch(self) -> int:
        """Repeated sequences in every batch."""
        return round(self.repeat_fraction * self.batch_size)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimizer and its schedule."""

    steps: int = 1500
    lr: float = 3e-3  # peak; warm-up is linear, then cosine decay to lr/10
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.1  # on matrices only
    clip: float = 1.0  # global norm of the gradient
    optimizer: Literal["lazy_adamw", "adamw", "sgd"] = "lazy_adamw"
    eval_every: int = 50
    log_first_sequence: bool = False  # record the first repeated sequence's loss after every step
    seed: int = 0  # of the initial weights
    backend: Literal["numpy", "cupy"] = "numpy"

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "steps", "eval_every")
        check_sizes(self, 0, "warmup")
        check_seed(self.seed)
        check_rates(self.lr, self.weight_decay)
        for name, good in (("clip", "1.0"), ("eps", "1e-8")):
            value = getattr(self, name)
            require(value > 0, f"{name}={value} is not positive; try {good}")
        betas = self.betas
        in_range = all(0 <= b < 1 for b in betas)
        require(in_range, f"betas={betas} are not both from 0 to below 1; try (0.9, 0.99)")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to train: which data it sees, which sinks are active, where gradients may go."""

    name: str
    n_shared: int  # G, MLP neurons that every sequence uses
    sinks: SinkConfig | None = None
    max_showings: int | None = None  # of each repeated sequence; 0: never; None: all
    random_sinks: bool = False  # True: draw new sinks each time that a sequence is shown (control)
    routing: Literal["free", "gradient_masking", "sgtm", "sgtm_joint"] = "free"  # microbatches
    filtered: bool = False  # True: drop sequences that are labelled as repeated
    labelled: float = 1.0  # fraction of sequences with a label: repeated, or seen once
    missed: float = 0.0  # fraction of repeated sequences whose label is wrong
    false_alarms: float = 0.0  # fraction of once-seen sequences whose label is wrong
    loss_mask: Literal["all", "goldfish"] = "all"  # which tokens have a loss; see train.counted
    lr: float | None = None  # instead of the learning rate that the methods have in common
    weight_decay: float | None = None  # instead of the weight decay in common

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "n_shared")
        check_fraction(self, "labelled", "missed", "false_alarms")
        require(
            self.max_showings is None or self.max_showings >= 0,
            f"max_showings={self.max_showings} is negative; choose 0 or more, or None",
        )
        require(
            self.routing == "free" or self.sinks is not None,
            f"routing={self.routing!r} needs sinks; give the method a SinkConfig",
        )
        check_rates(self.lr, self.weight_decay)

    @property
    def has_own_sinks(self) -> bool:
        """Whether each sequence has sinks of its own, which can be deleted."""
        return self.sinks is not None and not self.random_sinks and self.routing == "free"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all methods of a comparison have in common."""

    data: DataConfig
    train: TrainConfig
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        check_sizes(self, 1, "d_model", "n_heads", "n_layers")

    def model(self, method: Method, n_vocab: int) -> ModelConfig:
        """Return the transformer's configuration for a method."""
        return ModelConfig(
            n_vocab=n_vocab,
            n_ctx=self.data.n_ctx,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            n_shared=method.n_shared,
            sinks=method.sinks,
        )


def require_sinks(owner: Method | ModelConfig) -> SinkConfig:
    """Return the sink pool of a method or a model. Raises ConfigError if it has none."""
    if owner.sinks is None:
        raise ConfigError(f"{owner} has no sinks; give it a SinkConfig")
    return owner.sinks
