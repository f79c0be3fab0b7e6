"""Run functions in processes of this machine, or on the workers of a dask cluster."""

import concurrent.futures as futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from memsinks_np.config import ConfigError

Submit = Callable[..., futures.Future[Any]]


def n_cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


steps_done: Any = None  # a counter shared by the workers of this machine


def start_worker(counter: Any) -> None:
    """Prepare a worker: share the counter, leave Ctrl-C to the parent, end when the parent does."""
    global steps_done
    steps_done = counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def count_step(step: int, loss: float) -> None:
    """Count a training step for the parent's progress bar."""
    if steps_done is not None:
        with steps_done.get_lock():
            steps_done.value += 1


def end_with_parent() -> None:
    """End this worker when its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def processes(n: int, counter: Any) -> Iterator[Submit]:
    """Run tasks in n processes. An exception ends them in the middle of their work."""
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(n, context, start_worker, (counter,))
    try:
        yield pool.submit
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown()


@contextmanager
def cluster(scheduler: str) -> Iterator[Submit]:
    """Run tasks on a dask cluster. Its workers need this package and the same cache folder."""
    try:
        from distributed import Client
    except ImportError:
        reason = "--scheduler needs dask; python -m pip install -e '.[cluster]'"
        raise ConfigError(reason) from None
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as e:
        reason = f"--scheduler {scheduler}: no answer ({type(e).__name__}); start `dask scheduler`"
        raise ConfigError(reason) from None
    with client:
        yield client.get_executor(pure=False, retries=0).submit


def as_completed(
    running: Iterable[futures.Future[Any]], counter: Any, bar: tqdm
) -> Iterator[futures.Future[Any]]:
    """Yield futures as they finish, and advance the bar by the counter."""
    left = set(running)
    while left:
        done, left = futures.wait(left, timeout=0.2, return_when=futures.FIRST_COMPLETED)
        bar.update(counter.value - bar.n)
        yield from done
