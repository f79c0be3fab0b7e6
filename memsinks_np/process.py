"""What the process must do for NumPy to be fast: keep its memory, and leave the threads to us."""

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, HUGE = -1, -2, -3, 1 << 30  # mallopt(3)
HEAP = 1 << 26  # glibc serves threads from heaps of 64 MiB
TURN = 1e-4  # seconds
Run = Callable[..., Iterable[Any]]  # maps a function over a few jobs, in this thread or in several


@lru_cache
def keep_freed_memory() -> bool:
    """Ask glibc not to give large freed arrays back to the kernel; False, and no harm, where it is not glibc.

    NumPy allocates a new array for every temporary.  By default glibc maps each large one anew, and the kernel
    fills it with zeros, page by page, at first touch: half the time of a training step.  A thread that uses more than
    one heap would lose the last one whenever it is empty; asking for a whole heap of padding prevents that.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, HUGE) and mallopt(M_TRIM_THRESHOLD, HUGE) and mallopt(M_TOP_PAD, HEAP))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep freed memory, and let BLAS use one thread while this lasts: its own two are slower than two of ours.

    With one thread every product is computed in the same order, so results are the same to the last bit.
    """
    keep_freed_memory()
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


@contextmanager
def quick_turns() -> Iterator[None]:
    """Let a thread that waits for the interpreter ask for it after 0.1 ms, not 5, while this lasts.

    NumPy gives the interpreter away during each of its operations and needs it back for the next.  Of two threads
    that do this thousands of times a second, one often finds it taken again before it has woken up.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def several(threads: int) -> Iterator[Run]:
    """A `map` by so many threads, of which the calling one is the first: a thread that only waits has to be woken."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads - 1) as others:

        def run(function: Callable[[Any], Any], jobs: Iterable[Any]) -> list[Any]:
            first, *rest = jobs
            given = [(job, others.submit(function, job)) for job in rest]
            done = [function(first)]
            done += [function(job) if future.cancel() else future for job, future in given]  # what nobody has begun
            return [one.result() if isinstance(one, Future) else one for one in done]

        yield run
