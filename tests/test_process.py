"""What the process does for speed: freed memory stays, in the main thread and in others."""

import subprocess
import sys
import threading

import pytest

from memsinks_np.process import keep_freed_memory, several

FAULTS = """
import resource, sys, threading
import numpy as np
from memsinks_np.process import keep_freed_memory

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
    found = subprocess.run([sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="glibc alone can be asked")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_freed_memory_stays_in_the_process(where):
    assert faults(where) > 10_000  # of 120,000 pages that are touched
    assert faults(where, "keep") < 100


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_several_threads_return_what_one_returns_in_order_and_the_caller_is_one_of_them(threads):
    seen, meet = set(), threading.Barrier(threads, timeout=30)

    def work(job):
        if job < threads:
            meet.wait()  # passes when as many jobs are under way at once
        seen.add(threading.get_ident())
        return job * job

    with several(threads) as run:
        assert list(run(work, range(20))) == [n * n for n in range(20)]
        assert list(run(work, [30])) == [900]
    assert threading.get_ident() in seen
    assert len(seen) <= threads


@pytest.mark.parametrize("bad", [0, 4])
def test_what_goes_wrong_in_any_thread_reaches_the_caller(bad):
    def work(job):
        if job == bad:
            raise ZeroDivisionError(job)
        return job

    with several(2) as run, pytest.raises(ZeroDivisionError):
        list(run(work, range(5)))


def test_the_caller_does_what_nobody_has_begun_before_it_waits():
    """The other thread is busy with job 1 until job 2 is done, so only the caller can do that."""
    begun, done = threading.Event(), threading.Event()

    def work(job):
        if job == 0:
            return begun.wait(30)
        if job == 1:
            begun.set()
            return done.wait(30)
        return done.set()

    with several(2) as run:
        assert list(run(work, range(3))) == [True, True, None]
