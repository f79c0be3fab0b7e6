"""Keep freed memory in the process: half of a plain NumPy training step is spent getting pages back."""

import ctypes
from functools import lru_cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, HUGE = -1, -3, 1 << 30  # mallopt(3)


@lru_cache
def keep_freed_memory() -> bool:
    """Ask glibc not to give large freed arrays back to the kernel; False, and no harm, where it is not glibc.

    NumPy allocates a new array for every temporary.  By default glibc maps each large one anew, and the kernel
    fills it with zeros, page by page, at first touch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, HUGE) and mallopt(M_TRIM_THRESHOLD, HUGE))
