"""Process settings for fast NumPy: keep freed memory, and use one BLAS thread."""

import ctypes
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, HUGE = -1, -2, -3, 1 << 30  # mallopt(3)
HEAP = 1 << 26  # glibc serves threads from heaps of 64 MiB


@lru_cache
def keep_freed_memory() -> bool:
    """Ask glibc not to return large freed arrays to the kernel. Return False without glibc.

    NumPy allocates a new array for every temporary. By default glibc maps each large one anew, and
    the kernel fills it with zeros, page by page, at first touch: half the time of a training step.
    A thread that uses more than one heap would lose the last one whenever it is empty; a heap of
    padding prevents that.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {M_MMAP_THRESHOLD: HUGE, M_TRIM_THRESHOLD: HUGE, M_TOP_PAD: HEAP}
    return all(mallopt(key, value) for key, value in settings.items())


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep freed memory, and limit BLAS to one thread: training uses one process per core.

    With one thread every product is computed in the same order, so results are the same to the
    last bit.
    """
    keep_freed_memory()
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits
