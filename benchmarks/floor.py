"""The floor: the matrix products of one training step and nothing else, into outputs that are already there."""

import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from memsinks_np.config import ModelConfig


def products(cfg: ModelConfig, B: int, A: int) -> list[tuple[Any, Any, Any]]:
    """[(left, right, output)] of forward and backward: projections, attention, MLP, sinks and head."""
    rng = np.random.default_rng(0)
    V, T, C, H, G, L = cfg.n_vocab, cfg.n_ctx, cfg.d_model, cfg.n_heads, cfg.n_shared, cfg.n_layers
    K, N = C // H, B * T

    def array(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    def linear(
        n: int, a: int, b: int
    ) -> list[tuple[Any, ...]]:  # y = x W, dx = dy W^T, dW = x^T dy
        return [(array(n, a), array(a, b)), (array(n, b), array(b, a)), (array(a, n), array(n, b))]

    def batched(lead: tuple[int, ...], i: int, j: int, k: int) -> list[tuple[Any, ...]]:
        return [
            (array(*lead, i, j), array(*lead, j, k)),
            (array(*lead, i, k), array(*lead, k, j)),
            (array(*lead, j, i), array(*lead, i, k)),
        ]

    block = linear(N, C, 3 * C) + linear(N, C, C)  # W_QKV, W_O
    block += batched((B, H), T, K, T) + batched((B, H), T, T, K)  # scores, values
    block += linear(N, C, G) + linear(N, G, C)  # MLP
    block += batched((B,), T, C, A) + batched((B,), T, A, C)  # sinks
    pairs = block * L + linear(N, C, V)  # head
    return [(x, y, np.empty((*x.shape[:-1], y.shape[-1]), np.float32)) for x, y in pairs]


def floor_step(
    cfg: ModelConfig, B: int, A: int, threads: int, stack: ExitStack
) -> Callable[[], None]:
    """All products of a step, on two threads in the faster of two ways: half a batch each, or BLAS with two threads.

    The way is chosen beforehand, since threads of BLAS spin on after their work and would slow down what comes next.
    """

    def multiply(pairs: list[tuple[Any, Any, Any]]) -> None:
        for x, y, out in pairs:
            np.matmul(x, y, out=out)

    whole = products(cfg, B, A)
    if threads == 1:
        return lambda: multiply(whole)
    pool = stack.enter_context(ThreadPoolExecutor(threads))
    halves = [products(cfg, B // 2, A), products(cfg, B - B // 2, A)]

    def half_each() -> None:
        list(pool.map(multiply, halves))

    def blas_threads() -> None:
        with threadpool_limits(threads, user_api="blas"):
            multiply(whole)

    return min(
        (half_each, blas_threads), key=lambda way: min(timeit.repeat(way, number=1, repeat=20))
    )
