"""The paper's three formal results, small enough to simulate (App. D, F, H).

1. Co-adaptation (App. F): general neurons learn to cancel a memory that they may not learn.
2. Accumulation (App. H): shared neurons forget a sequence between two showings, its sinks do not.
3. Entanglement (App. D): how much of the smallest update that stores a memory lies in features that
   other sequences use.

All vectors have unit length. Every draw is a hash (`ids.uniform`).
"""

from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.ids import Purpose, integers, uniform
from memsinks_np._internal.typing import Floats


def unit(x: Any) -> Floats:
    """Scale vectors along the last axis to length 1."""
    scaled: Floats = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled


def positive(n: int, d: int, *seed: int) -> Floats:  # -> (n,d)
    """Draw unit vectors with positive entries, as a model of activations."""
    return unit(uniform(Purpose.POSITIVE, *seed, integers(n)[:, None], integers(d)))


def anywhere(n: int, d: int, *seed: int) -> Floats:  # -> (n,d)
    """Draw unit vectors, uniform over all directions (normal entries, by Box and Muller 1958)."""
    rows, columns = integers(n)[:, None], integers(d)
    u, v = (uniform(Purpose.GAUSS, part, *seed, rows, columns) for part in (0, 1))
    return unit(np.sqrt(-2 * np.log(1 - u)) * np.cos(2 * np.pi * v))


# 1. Co-adaptation


def coadaptation(W_mem: Any, data: Any, labels: Any, x: Any, lr: float) -> Floats:
    # (D,D), (N,D), (N,D), (D,) -> (N+1,)
    """Return how far a model without its memory is from one that never had it, after each step.

    f(s) = (W_gen + W_mem) s learns the data by steps on the squared error, but only W_gen may move
    (paper, App. F). Cutting out the memory leaves W_gen; the same run without a memory gives
    W_never. The distance is ||(W_gen - W_never) x||.

    The labels cancel in the difference: E = W_gen - W_never + W_mem follows E <- E (I - lr s s^T),
    from W_mem to 0 on the span of the data. So the distance tends to ||W_mem x||, where the memory
    is cancelled completely.
    """
    W_gen, W_never = np.zeros_like(W_mem), np.zeros_like(W_mem)
    distance = [0.0]
    for s, y in zip(data, labels, strict=True):
        W_gen = W_gen - lr * np.outer((W_gen + W_mem) @ s - y, s)
        W_never = W_never - lr * np.outer(W_never @ s - y, s)
        distance.append(float(np.linalg.norm((W_gen - W_never) @ x)))
    return np.array(distance)


def coadaptation_bound(n: Any, lr: float, c: float) -> Any:
    """Return n lr (1 - lr)^n c^2, the lower bound of Theorem F.1 after n steps.

    c is the smallest product of two inputs. The bound peaks at n = -1/log(1 - lr), close to 1/lr,
    and then vanishes. As printed it has no factor ||W_mem||.
    """
    return n * lr * (1 - lr) ** n * c**2


# 2. Accumulation


class Bounds(NamedTuple):
    """The quantities of Theorem H.3, and the bounds that follow from them."""

    k: int  # steps that show the repeated sequence
    N: int  # all steps
    eps: float  # product of the repeated sequence's activations with another's
    c_min: float  # smallest and largest probability of the sequence's next word
    c_max: float

    def shared_upper(self, lr: float = 1.0) -> float:
        """Return the upper bound on what shared neurons add to the right word's logit.

        It is pushed up k times and down N - k times.
        """
        return lr * (self.k * (1 - self.c_min) - (self.N - self.k) * self.eps * self.c_min)

    def sink_lower(self, rho: Any, lr: float = 1.0) -> Any:
        """Return the lower bound on what the sinks add, if a fraction `rho` of others uses them."""
        return lr * (self.k * (1 - self.c_max) - (self.N - self.k) * rho * self.eps * self.c_max)

    def threshold(self) -> float:
        """Return the rho below which the sinks' bound is above that of the shared neurons.

        sink_lower > shared_upper, divided by lr, is
            k (c_max - c_min) + (N - k) rho eps c_max < (N - k) eps c_min
        and solving it for rho gives
            rho < c_min / c_max - k (c_max - c_min) / ((N - k) eps c_max).

        This is for one eps. If others differ, sink_lower needs the largest, eps_max, and
            rho < eps c_min / (eps_max c_max) - k (c_max - c_min) / ((N - k) eps_max c_max).
        """
        return self.c_min / self.c_max - self.printed_gap() / (self.eps * self.c_max)

    def printed_threshold(self) -> float:
        """Return the paper's threshold, too high: its second term lacks 1 / (eps c_max)."""
        return self.c_min / self.c_max - self.printed_gap()

    def printed_gap(self) -> float:
        """Return the second term of the paper's threshold."""
        return self.k / (self.N - self.k) * (self.c_max - self.c_min)


COUNTEREXAMPLE = Bounds(k=10, N=1000, eps=0.1, c_min=0.01, c_max=0.02)


class Accumulation(NamedTuple):
    """A run of the one-layer model, and the quantities in the bounds of Theorem H.3."""

    shared: Floats  # (N,) the shared neurons' part of the right word's logit, after each step
    sink: Floats  # (N,) the sinks' part
    k: int  # steps that showed the repeated sequence
    n_active: int  # steps of other sequences that activated its sinks
    c: tuple[float, float]  # smallest and largest probability of the right word, over all steps
    eps_shared: float  # smallest product of its shared activations with another's
    eps_sink: tuple[float, float]  # smallest and largest product of its sink activations


def accumulation(
    rho: float, steps: int, period: int, lr: float, width: int, n_words: int, seed: int
) -> Accumulation:
    """Train one layer by cross-entropy, batch 1, from zero.

    One sequence is shown every `period` steps. logits = W_shared z_shared + gate W_sink z_sink; the
    gate is 1 for this sequence (next word 0), and 1 with probability `rho` for any other (next word
    1, 2, ...). Our simplification of App. H: both activations have length 1.
    """
    z_shared, z_sink = positive(steps, width, seed, 0), positive(steps, width, seed, 1)
    step = integers(steps)
    word = 1 + (uniform(Purpose.WORD, seed, step) * (n_words - 1)).astype(np.int64)
    gate = (uniform(Purpose.GATE, seed, step) < rho).astype(float)
    again = step % period == 0
    z_shared[again], z_sink[again], word[again], gate[again] = z_shared[0], z_sink[0], 0, 1.0
    W_shared, W_sink = np.zeros((n_words, width)), np.zeros((n_words, width))
    shared, sink, right = [], [], []
    for a, b, w in zip(z_shared, gate[:, None] * z_sink, word, strict=True):
        p = np.exp(W_shared @ a + W_sink @ b)
        p /= p.sum()
        right.append(p[0])
        dlogits = p - np.eye(n_words)[w]
        W_shared -= lr * np.outer(dlogits, a)
        W_sink -= lr * np.outer(dlogits, b)
        shared.append(W_shared[0] @ z_shared[0])
        sink.append(W_sink[0] @ z_sink[0])
    eps_shared = z_shared[~again] @ z_shared[0]
    eps_sink = (z_sink @ z_sink[0])[~again & (gate > 0)]
    return Accumulation(
        np.array(shared),
        np.array(sink),
        int(again.sum()),
        len(eps_sink),
        (min(right), max(right)),
        eps_shared.min(),
        (eps_sink.min(initial=1.0), eps_sink.max(initial=0.0)),
    )


# 3. Entanglement


def semantic_fraction(semantic: Any, others: Any, noise: float = 1.0) -> float:
    # (D,), (N,D) -> fraction
    """Return the fraction of the min-norm update that lies in semantic features (App. D).

    The update stores one sequence and leaves N others as they are. A sequence's features are its
    semantic part and a private direction of length `noise` (1 for the repeated sequence). The
    smallest such change of a linear map is Delta r^T / ||r||^2, where r is the component of its
    features outside the span of the others'.
    """
    N, D = others.shape
    features = np.concatenate([others, noise * np.eye(N), np.zeros((N, 1))], axis=1)
    own_features = np.concatenate([semantic, np.zeros(N), [1.0]])
    spanned, *_ = np.linalg.lstsq(features.T, own_features, rcond=None)
    r = own_features - spanned @ features
    return float((r[:D] ** 2).sum() / (r**2).sum())
