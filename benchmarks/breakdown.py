"""Where the time of our step goes: each op's share, and its distance from its matrix products."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from timeit import timeit
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from benchmarks.floor import multiply, products
from benchmarks.peers import ours
from memsinks_np import model, ops, optim, sinks, train
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.tables import number, table
from memsinks_np.model import init_params

REST = "everything else"


class OpRow(NamedTuple):
    """One op of a step; forward and backward together."""

    op: str
    ms: float
    share: float  # of the step
    floor_ms: float | None  # its matrix products alone


class Timer:
    """Seconds of the processor by name. A call inside another counts for its own name only."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self.seconds: Counter[str] = Counter()
        self.inner = 0.0  # seconds of the timed calls inside the current one

    def wrap(self, name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that also counts its seconds under name(arguments)."""

        def timed(*args: Any, **options: Any) -> Any:
            start, before, self.inner = self.clock(), self.inner, 0.0
            result = function(*args, **options)
            seconds = self.clock() - start
            self.seconds[name(*args)] += seconds - self.inner
            self.inner = before + seconds
            return result

        return timed


def op_name(function: str, n_vocab: int) -> Callable[..., str]:
    """Return what an op is called in the table, by its arguments: the head is a linear op too."""
    op = function.removesuffix("_forward").removesuffix("_backward")

    def name(*args: Any) -> str:
        if op != "linear":
            return op
        W = args[2] if function.endswith("_forward") else args[2][1]
        return "head" if W.shape[1] == n_vocab else op

    return name


@contextmanager
def timed_ops(timer: Timer, n_vocab: int) -> Iterator[None]:
    """Time the ops that model.py calls, and the parts of a step outside the model."""
    outside = [(train, "make_batch"), (train, "merge"), (optim, "clip_scale"), (optim, "update")]
    inside = [
        (model, name)
        for name, f in vars(model).items()
        if getattr(f, "__module__", "") in (ops.__name__, sinks.__name__) and "_" in name
    ]
    with ExitStack() as stack:
        for module, name in [*inside, *outside]:
            timed = timer.wrap(op_name(name, n_vocab), getattr(module, name))
            stack.enter_context(patch.object(module, name, timed))
        yield


def op_rows(shape: Any, seconds: float) -> list[OpRow]:
    """Measure the ops of our step for about `seconds`, and their matrix products in between."""
    cfg = shape.model()
    by_op = products(cfg, shape.B, shape.n_active)
    floors: dict[str, list[float]] = {op: [] for op in by_op}
    times: list[Counter[str]] = []
    with one_blas_thread():
        step = ours(cfg, init_params(cfg), shape.tokens(), shape.active(), masked=False).step
        step()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 2:
            timer = Timer()
            for op, batch in by_op.items():
                alone = timeit(lambda batch=batch: multiply(batch), timer=timer.clock, number=1)
                floors[op].append(alone)
            with timed_ops(timer, cfg.n_vocab):
                timer.wrap(lambda: REST, step)()
            times.append(timer.seconds)
    median = {op: float(np.median([t[op] for t in times])) for op in times[0]}
    total = sum(median.values())
    rows = []
    for op, t in median.items():
        floor = 1e3 * float(np.median(floors[op])) if op in floors else None
        rows.append(OpRow(op, 1e3 * t, t / total, floor))
    return sorted(rows, key=lambda row: -row.ms)


def tabulate_ops(rows: list[OpRow]) -> str:
    """Return the ops, slowest first, and the whole step."""
    floor = sum(row.floor_ms or 0 for row in rows)
    whole = OpRow("the step", sum(row.ms for row in rows), 1.0, floor)
    lines = [
        [
            row.op,
            number(row.ms, 2),
            f"{row.share:.0%}",
            number(row.floor_ms, 2),
            number(row.ms / row.floor_ms if row.floor_ms else None, 1),
        ]
        for row in [*rows, whole]
    ]
    return table(["op", "ms", "of the step", "its products, ms", "/ products"], lines)
