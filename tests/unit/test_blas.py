"""What the process does for speed: freed memory stays, in the main thread and in others; BLAS has one thread."""

import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from memsinks_np._internal.blas import keep_freed_memory, one_blas_thread

FAULTS = """
import resource, sys, threading
import numpy as np
from memsinks_np._internal.blas import keep_freed_memory

def rounds(n):
    for _ in range(n):
        [np.ones(1 << 18, np.float32) for _ in range(160)]  # 160 MB in pieces, more than two heaps of a thread

def count():
    rounds(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    rounds(3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if "keep" in sys.argv:
    keep_freed_memory()
if "thread" in sys.argv:
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
else:
    count()
"""


def faults(*how):
    found = subprocess.run(
        [sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="glibc alone can be asked")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_freed_memory_stays_in_the_process(where):
    assert faults(where) > 10_000  # of 120,000 pages that are touched
    assert faults(where, "keep") < 100


@pytest.mark.skipif(sys.platform == "darwin", reason="nobody can limit Accelerate")
def test_blas_is_found_and_has_one_thread():
    """threadpoolctl before 3.5 does not see the OpenBLAS in NumPy's own wheels, and limits nothing without a word."""
    with one_blas_thread():
        threads = [
            library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
        ]
    assert threads
    assert set(threads) == {1}
