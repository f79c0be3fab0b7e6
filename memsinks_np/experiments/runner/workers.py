"""Call a function many times: in processes on this machine, or on a dask cluster."""

import concurrent.futures
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from typing import Any

from memsinks_np.config import ConfigError

POLL = 0.2  # seconds
PATIENCE = 60  # seconds without any worker on the cluster
END_SIGNALS = [getattr(signal, s) for s in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, s)]
SAVED = "finished runs are saved, run the same command again"
LOST = {  # errors of dask
    "KilledWorker": "a worker of the cluster was killed",
    "CancelledError": "the scheduler was killed or cannot be reached",
}


class WorkerDied(RuntimeError):
    """Raised when a worker was killed or could not start."""


def n_cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


send_news: Callable[[Any], Any] = lambda news: None  # in a worker: about the call, to the parent


def serve(connection: Any, function: Callable[..., Any]) -> None:
    """Answer calls in a worker until the parent closes the connection or ends."""
    global send_news
    send_news = lambda news: connection.send(("news", news))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # not blocked on Windows
    watch = threading.Thread(target=end_with_parent, daemon=True)
    with suppress(EOFError, ConnectionError):
        while True:
            arguments = connection.recv()
            try:
                if not watch.ident:
                    watch.start()
                message = ("result", function(*arguments))
            except Exception as e:
                e.add_note(f"In a worker:\n{traceback.format_exc()}")
                message = ("error", e)
            connection.send(message)


def end_with_parent() -> None:
    """End this worker when its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back signals while a process starts: an interrupt in the middle would lose track of it.

    The process inherits the mask, so that Ctrl-C on a terminal reaches only the parent.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # otherwise the first start would, and unblock SIGINT
    held: list[int] = []
    before = {s: signal.signal(s, lambda s, frame: held.append(s)) for s in END_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for s, handler in before.items():
            signal.signal(s, handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def safe_path() -> Iterator[None]:
    """Let processes that start now import nothing from the working directory by themselves.

    They get the search path of this process, but only after their first imports.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


class Here:
    """This process, for functions that a worker could not import: those of a notebook."""

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def run(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        on_news: Callable[[int, Any], Any],
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the call, its result), one after the other. There is no news."""
        for i, arguments in enumerate(calls):
            yield i, function(*arguments)


def is_importable(function: Callable[..., Any]) -> bool:
    """Return whether a new process can import a function: not if it was typed into a notebook."""
    function = function.func if isinstance(function, partial) else function
    return function.__module__ != "__main__" or hasattr(sys.modules["__main__"], "__file__")


class Processes:
    """Worker processes on this machine. Leaving the context ends them: at once after an error."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.context = multiprocessing.get_context("spawn")
        self.workers: dict[Any, Any] = {}  # connection -> process

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        for connection, process in self.workers.items():
            connection.close()
            if error:
                process.kill()
        end = time.monotonic() + (1 if error else 5)
        for process in self.workers.values():
            process.join(max(0, end - time.monotonic()))
            process.kill()

    def run(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        on_news: Callable[[int, Any], Any],
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the call, its result) as calls finish. Call once.

        `on_news` gets the index of a call and what the call passed to `send_news`. Raises
        WorkerDied, and any exception of a call.
        """
        left, running = iter(enumerate(calls)), {}

        def send(connection: Any) -> None:
            for i, arguments in islice(left, 1):
                connection.send(arguments)
                running[connection] = i

        try:
            for _ in range(min(self.n, len(calls))):
                connection = self.start(function)
                send(connection)
            while running:
                ready: list[Any] = list(wait(list(running), POLL))
                for connection in ready:
                    kind, value = connection.recv()
                    if kind == "error":
                        raise value
                    if kind == "news":
                        on_news(running[connection], value)
                        continue
                    i = running.pop(connection)
                    send(connection)
                    yield i, value
        except (EOFError, ConnectionError):
            raise WorkerDied(self.how_it_died(connection)) from None

    def start(self, function: Callable[..., Any]) -> Any:
        """Start a worker and return the connection to it."""
        with safe_path(), signals_held():
            ours, theirs = self.context.Pipe()
            process = self.context.Process(target=serve, args=(theirs, function), daemon=True)
            process.start()
            self.workers[ours] = process
            theirs.close()
        return ours

    def how_it_died(self, connection: Any) -> str:
        """Return why a worker ended, and what to do."""
        process = self.workers[connection]
        process.join(1)
        if (process.exitcode or 0) < 0:
            return f"a worker was killed (signal {-process.exitcode}; out of memory?); {SAVED}"
        return (
            f"a worker could not start (exit code {process.exitcode}); a script that calls main "
            'needs if __name__ == "__main__":'
        )


class Cluster:
    """The workers of a dask cluster. They need this package and the same folders."""

    def __init__(self, scheduler: str) -> None:
        try:
            from distributed import Client
        except ImportError as e:
            reason = f"--scheduler needs dask ({e}); python -m pip install -e '.[cluster]'"
            raise ConfigError(reason) from None
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # errors are raised
        try:
            self.client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as e:
            reason = f"no answer ({type(e).__name__}); start `dask scheduler`"
            raise ConfigError(f"--scheduler {scheduler}: {reason}") from None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: Any) -> None:
        self.client.close()

    def run(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        on_news: Callable[[int, Any], Any],
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the call, its result) as calls finish. There is no news.

        Raises WorkerDied if a call kills its workers or none is left, and any exception of a call.
        """
        submit = self.client.get_executor(pure=False, retries=0).submit
        index = {submit(function, *arguments): i for i, arguments in enumerate(calls)}
        left, waited = set(index), 0
        while left:
            done, left = concurrent.futures.wait(left, 1, concurrent.futures.FIRST_COMPLETED)
            waited = 0 if self.client.scheduler_info()["workers"] else waited + 1
            if waited > PATIENCE:
                reason = f"the cluster has had no worker for {PATIENCE} s"
                raise WorkerDied(f"{reason}; workers end if they lack memsinks_np; {SAVED}")
            for future in done:
                try:
                    result = future.result()
                except Exception as e:
                    if type(e).__name__ in LOST:
                        raise WorkerDied(f"{LOST[type(e).__name__]}; {SAVED}") from None
                    if "deserialization of the task graph" in str(e):
                        reason = "the scheduler lacks memsinks_np; install it there, too"
                        raise ConfigError(reason) from None
                    raise
                yield index[future], result
