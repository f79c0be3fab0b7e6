"""The paper's three formal results, small enough to simulate (App. D, F, H): each in a few lines of linear algebra.

1. Co-adaptation (App. F): general neurons learn to cancel a memory that they must not learn themselves.
2. Accumulation (App. H): what is shared is forgotten between two occurrences, what is rarely on is kept.
3. Entanglement (App. D): how much of the smallest update that stores a memory lies in features that others use.

All vectors have unit length.  Nothing here is trained by the package; the draws come from `ids.uniform`.
"""

from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.ids import uniform
from memsinks_np._internal.typing import Floats

POSITIVE, GAUSS, WORD, GATE = range(301, 305)  # salts: each kind of draw has its own


def unit(x: Any) -> Floats:
    """Vectors along the last axis, scaled to length 1."""
    scaled: Floats = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled


def positive(n: int, d: int, *seed: int) -> Floats:  # -> (n,d)
    """Unit vectors with positive entries, as activations are: any two of them have a positive product."""
    return unit(uniform(POSITIVE, *seed, np.arange(n)[:, None], np.arange(d)))


def anywhere(n: int, d: int, *seed: int) -> Floats:  # -> (n,d)
    """Unit vectors in any direction alike (normal entries, by Box and Muller 1958)."""
    u, v = (uniform(GAUSS, part, *seed, np.arange(n)[:, None], np.arange(d)) for part in (0, 1))
    return unit(np.sqrt(-2 * np.log(1 - u)) * np.cos(2 * np.pi * v))


# 1. Co-adaptation


def coadaptation(W_mem: Any, data: Any, labels: Any, x: Any, lr: float) -> Floats:
    # (D,D), (N,D), (N,D), (D,) -> (N+1,)
    """How far a model whose memory was cut out is from one that never had it, after each step (paper, App. F).

    f(s) = (W_gen + W_mem) s learns the data by steps on the squared error, but only W_gen may move.  Cutting out the
    memory leaves W_gen; the same run without a memory gives W_never.  Returned: ||(W_gen - W_never) x||.

    The labels drop out of the difference: E = W_gen - W_never + W_mem follows E <- E (I - lr s s^T), from W_mem to 0
    on all that the data span.  So the distance tends to ||W_mem x||, where the memory is cancelled completely.
    """
    W_gen, W_never = np.zeros_like(W_mem), np.zeros_like(W_mem)
    distance = [0.0]
    for s, y in zip(data, labels, strict=True):
        W_gen = W_gen - lr * np.outer((W_gen + W_mem) @ s - y, s)
        W_never = W_never - lr * np.outer(W_never @ s - y, s)
        distance.append(float(np.linalg.norm((W_gen - W_never) @ x)))
    return np.array(distance)


def coadaptation_bound(n: Any, lr: float, c: float) -> Any:
    """n lr (1 - lr)^n c^2: the lower bound of Theorem F.1 after n steps, c the smallest product of two inputs.

    It peaks at n = -1/log(1 - lr), close to 1/lr, and then vanishes.  As printed it has no factor ||W_mem||.
    """
    return n * lr * (1 - lr) ** n * c**2


# 2. Accumulation


class Bounds(NamedTuple):
    """What Theorem H.3 is about: k of N steps show the repeated sequence, the others resemble it by `eps`.

    c_min and c_max enclose the probability that the model gives to the sequence's next word.
    """

    k: int
    N: int
    eps: float
    c_min: float
    c_max: float

    def shared_upper(self, lr: float = 1.0) -> float:
        """The most that shared neurons can give to the right word's logit: pushed up k times, down N - k times."""
        return lr * (self.k * (1 - self.c_min) - (self.N - self.k) * self.eps * self.c_min)

    def sink_lower(self, rho: Any, lr: float = 1.0) -> Any:
        """The least that sinks give to it, which are on in a share `rho` of the other sequences."""
        return lr * (self.k * (1 - self.c_max) - (self.N - self.k) * rho * self.eps * self.c_max)

    def threshold(self) -> float:
        """The rho below which the sinks' bound lies above that of the shared neurons.

        sink_lower > shared_upper, divided by lr, is
            k (c_max - c_min) + (N - k) rho eps c_max < (N - k) eps c_min
        and solving it for rho gives
            rho < c_min / c_max - k (c_max - c_min) / ((N - k) eps c_max).
        """
        return self.c_min / self.c_max - self.printed_gap() / (self.eps * self.c_max)

    def printed_threshold(self) -> float:
        """The same as the paper prints it: without 1 / (eps c_max) in the second term, so it is too generous."""
        return self.c_min / self.c_max - self.printed_gap()

    def printed_gap(self) -> float:
        return self.k / (self.N - self.k) * (self.c_max - self.c_min)


COUNTEREXAMPLE = Bounds(k=10, N=1000, eps=0.1, c_min=0.01, c_max=0.02)


class Accumulation(NamedTuple):
    """A run of the one-layer model, and what the bounds of Theorem H.3 need to know about it."""

    shared: Floats  # (N,) what the shared neurons give to the right word's logit, after each step
    sink: Floats  # (N,) what the sinks give to it
    k: int  # steps that showed the repeated sequence
    n_on: int  # steps of other sequences that had its sinks on
    c: tuple[
        float, float
    ]  # the smallest and the largest probability of the right word that a step met
    eps_shared: float  # the smallest product of its shared activations with another's
    eps_sink: tuple[
        float, float
    ]  # the smallest and the largest product of its sink activations with another's


def accumulation(
    rho: float, steps: int, period: int, lr: float, width: int, n_words: int, seed: int
) -> Accumulation:
    """One layer trained by cross-entropy, batch 1, from zero: one sequence returns every `period` steps (App. H).

    logits = W_shared z_shared + gate W_sink z_sink; the gate is 1 for the repeated sequence (next word 0) and 1
    with chance `rho` for any other (next word 1, 2, ...).  Our simplification: both activations have length 1.
    """
    z_shared, z_sink = positive(steps, width, seed, 0), positive(steps, width, seed, 1)
    word = 1 + (uniform(WORD, seed, np.arange(steps)) * (n_words - 1)).astype(int)
    gate = (uniform(GATE, seed, np.arange(steps)) < rho).astype(float)
    again = np.arange(steps) % period == 0
    z_shared[again], z_sink[again], word[again], gate[again] = z_shared[0], z_sink[0], 0, 1.0
    W_shared, W_sink = np.zeros((n_words, width)), np.zeros((n_words, width))
    shared, sink, met = [], [], []
    for a, b, w in zip(z_shared, gate[:, None] * z_sink, word, strict=True):
        p = np.exp(W_shared @ a + W_sink @ b)
        p /= p.sum()
        met.append(p[0])
        dlogits = p - np.eye(n_words)[w]
        W_shared -= lr * np.outer(dlogits, a)
        W_sink -= lr * np.outer(dlogits, b)
        shared.append(W_shared[0] @ z_shared[0])
        sink.append(W_sink[0] @ z_sink[0])
    alike_shared, alike_sink = (
        z_shared[~again] @ z_shared[0],
        (z_sink @ z_sink[0])[~again & (gate > 0)],
    )
    return Accumulation(
        np.array(shared),
        np.array(sink),
        int(again.sum()),
        len(alike_sink),
        (min(met), max(met)),
        alike_shared.min(),
        (alike_sink.min(initial=1.0), alike_sink.max(initial=0.0)),
    )


# 3. Entanglement


def semantic_share(
    semantic: Any, others: Any, noise: float = 1.0
) -> float:  # (D,), (N,D) -> share of the update
    """The share of the min-norm update in semantic features, when one sequence is stored beside N others (App. D).

    A sequence's features are its semantic part and a private direction of length `noise`, which no other has (the
    repeated one: length 1).  The smallest change of a linear map that stores it and leaves the others as they are
    is Delta r^T / ||r||^2, where r is what is left of its features outside the span of theirs.
    """
    N, D = others.shape
    features = np.concatenate([others, noise * np.eye(N), np.zeros((N, 1))], axis=1)
    mine = np.concatenate([semantic, np.zeros(N), [1.0]])
    spanned, *_ = np.linalg.lstsq(features.T, mine, rcond=None)
    r = mine - spanned @ features
    return float((r[:D] ** 2).sum() / (r**2).sum())
