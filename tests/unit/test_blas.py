"""Process settings for speed: freed memory stays, in every thread; BLAS has one thread."""

import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from memsinks_np._internal.blas import keep_freed_memory, one_blas_thread

COUNT_FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from memsinks_np._internal.blas import keep_freed_memory

def count():
    for _ in range(3):
        allocate()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        allocate()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def allocate():  # 160 MB in pieces, more than two heaps of a thread
    [np.ones(1 << 18, np.float32) for _ in range(160)]

if "keep" in sys.argv:
    keep_freed_memory()
with ThreadPoolExecutor(1) as pool:
    print(pool.submit(count).result() if "thread" in sys.argv else count())
"""


def page_faults(*args):
    command = [sys.executable, "-c", COUNT_FAULTS, *args]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not keep_freed_memory(), reason="needs glibc")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_freed_memory_stays_in_the_process(where):
    assert page_faults(where) > 10_000  # of 120,000 pages that are touched
    assert page_faults(where, "keep") < 100


@pytest.mark.skipif(sys.platform == "darwin", reason="Accelerate cannot be limited")
def test_blas_is_found_and_has_one_thread():
    """threadpoolctl before 3.5 does not find the OpenBLAS in NumPy's wheels."""
    with one_blas_thread():
        libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    assert libraries
    assert {lib["num_threads"] for lib in libraries} == {1}
