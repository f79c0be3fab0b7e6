"""The floor: only the matrix products of one training step, into preallocated arrays."""

import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from memsinks_np.config import ModelConfig

Product = tuple[Any, Any, Any]  # left, right, output


def products(cfg: ModelConfig, B: int, A: int) -> dict[str, list[Product]]:
    """Return the products of forward and backward by the op that computes them."""
    rng = np.random.default_rng(0)
    V, T, C, H, G, L = cfg.n_vocab, cfg.n_ctx, cfg.d_model, cfg.n_heads, cfg.n_shared, cfg.n_layers
    K, N = C // H, B * T

    def product(lead: tuple[int, ...], i: int, j: int, k: int) -> Product:
        shapes = [(*lead, i, j), (*lead, j, k), (*lead, i, k)]
        left, right, out = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return left, right, out

    def both(lead: tuple[int, ...], i: int, j: int, k: int) -> list[Product]:
        # y = x W, dx = dy W^T, dW = x^T dy
        return [product(lead, i, j, k), product(lead, i, k, j), product(lead, j, i, k)]

    return {
        "linear": (both((), N, C, 3 * C) + both((), N, C, C)) * L,  # W_QKV, W_O
        "attention": (both((B, H), T, K, T) + both((B, H), T, T, K)) * L,  # scores, values
        "mlp": (both((), N, C, G) + both((), N, G, C)) * L,
        "sink": (both((B,), T, C, A) + both((B,), T, A, C)) * L,
        "head": both((), N, C, V),
    }


def multiply(batch: list[Product]) -> None:
    """Compute products into their outputs."""
    for x, y, out in batch:
        np.matmul(x, y, out=out)


def multiply_adds(batch: list[Product]) -> int:
    """Return the number of multiplications in products, each with its addition."""
    return sum(out.size * x.shape[-1] for x, _, out in batch)


def flat(by_op: dict[str, list[Product]]) -> list[Product]:
    """Return the products of all ops."""
    return [product for batch in by_op.values() for product in batch]


def floor_step(
    cfg: ModelConfig, B: int, A: int, pool: ThreadPoolExecutor | None
) -> Callable[[], None]:
    """Return a function that computes all products of a step, on one thread or two.

    With two threads, each computes half a batch, or BLAS uses both: whichever is faster here. This
    is decided in advance, since BLAS threads keep spinning and slow down whatever runs next.
    """
    whole = flat(products(cfg, B, A))
    if pool is None:
        return lambda: multiply(whole)
    halves = [flat(products(cfg, B // 2, A)), flat(products(cfg, B - B // 2, A))]

    def half_each() -> None:
        list(pool.map(multiply, halves))

    def blas_threads() -> None:
        with threadpool_limits(2, user_api="blas"):
            multiply(whole)

    return min(
        (half_each, blas_threads), key=lambda step: min(timeit.repeat(step, number=1, repeat=20))
    )
