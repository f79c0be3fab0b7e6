"""Who computes the runs of a grid: processes of this machine, or the workers of a dask cluster."""

import concurrent.futures as futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from memsinks_np.config import ConfigError


def n_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


steps_done: Any = None  # a counter that the workers of this machine share


def start_worker(counter: Any) -> None:
    global steps_done
    steps_done = counter
    threading.Thread(target=end_with_parent, daemon=True).start()


def count_step() -> None:
    """Note a training step for the bar of the process that waits."""
    if steps_done is not None:
        with steps_done.get_lock():
            steps_done.value += 1


def end_with_parent() -> None:
    """End this worker when the process that started it is gone: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this process was started by another
    parent.join()
    os._exit(1)


def leave_interrupts_to_parent() -> None:
    """Keep Ctrl-C, which a terminal sends to every process, from this thread and the processes that it starts."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C in: what ends others comes to its own end.  (Only the main thread is ever interrupted.)"""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


@contextmanager
def processes(n: int, counter: Any) -> Iterator[Callable[..., futures.Future[Any]]]:
    """One process for each of n threads (0: one per core): one that is killed costs the run that it was busy with.

    An exception ends them in the middle of their work; however it is left, no process and no thread goes on after it.
    """
    context, pools = multiprocessing.get_context("spawn"), {}
    threads = futures.ThreadPoolExecutor(n or n_cores(), initializer=leave_interrupts_to_parent)
    starting, ended = threading.Lock(), threading.Event()  # so that none starts unseen while all are ended

    def call(*task: Any) -> Any:
        me = threading.get_ident()
        try:
            with starting:
                if ended.is_set():
                    raise futures.CancelledError
                if me not in pools:
                    pools[me] = futures.ProcessPoolExecutor(1, context, start_worker, (counter,))
                future = pools[me].submit(*task)
            return future.result()
        except BrokenProcessPool:
            pools.pop(me).shutdown()
            raise

    def leave() -> None:
        threads.shutdown(cancel_futures=True)
        for pool in pools.values():
            pool.shutdown()

    try:
        yield lambda *task: threads.submit(call, *task)
    except BaseException:
        with uninterrupted():
            with starting:
                ended.set()
            for pool in list(pools.values()):
                for process in list(pool._processes.values()):  # they would finish their arms first
                    process.terminate()
            leave()
        raise
    leave()


@contextmanager
def cluster(scheduler: str) -> Iterator[Callable[..., futures.Future[Any]]]:
    """The workers of a running dask cluster; they need this package and the same cache folder."""
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("--scheduler needs dask; python -m pip install -e '.[cluster]'") from None
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as e:
        raise ConfigError(f"--scheduler {scheduler}: no answer ({type(e).__name__}); is `dask scheduler` up?") from None
    with client:
        yield client.get_executor(pure=False, retries=0).submit


def watched(running: Iterable[futures.Future[Any]], counter: Any, bar: tqdm) -> Iterator[futures.Future[Any]]:
    """Futures as they finish, while the bar follows the counter."""
    left = set(running)
    while left:
        done, left = futures.wait(left, timeout=0.2, return_when=futures.FIRST_COMPLETED)
        bar.update(counter.value - bar.n)
        yield from done
