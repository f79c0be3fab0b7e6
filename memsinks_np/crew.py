"""Two processes that train one arm in step: each computes a part of every batch, then updates some of the parameters.

Both run the same function, and need not be told anything: what an arm sees at a step is a pure function of its
configuration.  They differ in their rank alone, share the memory of the parameters, and exchange what each has found.

Why not two threads?  NumPy gives Python's interpreter away during each operation and needs it back for the next, some
three hundred times for half a batch, so each thread often waits for the other (measured in benchmarks/README.md).
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np

from memsinks_np.arrays import Array
from memsinks_np.process import one_blas_thread

SHORT = 1 << 14  # bytes; what a line holds that nobody reads is at least four times as much
LINE = 64  # bytes; every array begins at a multiple, as a processor's cache has it
SHARED = Path("/dev/shm")  # a folder in memory, on Linux


class PartnerDied(RuntimeError):
    """The other process of a training has ended before its time."""


class Crew:
    """A crew of one: it owns every job, shares nothing and hears nobody but itself."""

    rank, size = 0, 1

    def owns(self, job: int) -> bool:
        return job % self.size == self.rank

    def shared(self, array: Array) -> Array:
        """The array, where the whole crew sees it."""
        return array

    def exchange(self, mine: Any) -> list[Any]:
        """What every member hands in at this point, by rank; nobody goes on before all have."""
        return [mine]


ALONE = Crew()


class Pair(Crew):
    """One of two processes.  `memory` holds what they share, then what each hands to the other: two outboxes each.

    A member writes into its outboxes in turn: nobody comes to the next exchange but one before both have come to the
    next, so what was received lies there untouched until then.
    """

    size = 2

    def __init__(self, rank: int, line: Connection, memory: mmap, outbox: int) -> None:
        self.rank, self.line = rank, line
        self.memory = np.frombuffer(memory, np.uint8)
        self.free = 0
        own = len(self.memory) - 2 * outbox * (self.size - rank)
        self.outboxes = [(own, own + outbox), (own + outbox, own + 2 * outbox)]

    def shared(self, array: Array) -> Array:
        """A copy in shared memory.  Both ask for the same arrays in turn, so whoever comes late changes nothing."""
        start, self.free = self.free, aligned(self.free + array.nbytes)
        place = self.memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        place[...] = array
        return place

    def exchange(self, mine: Any) -> list[Any]:
        """As for every crew; arrays that come from the other are good until the next exchange."""
        packed = self.pack(mine)
        # a short message never has to wait until the other reads; of two long ones, one process reads first
        at_once = self.rank == 0 or len(packed[1]) < SHORT
        try:
            if at_once:
                self.line.send(packed)
            received = self.line.recv()
            if not at_once:
                self.line.send(packed)
        except (EOFError, ConnectionError):
            raise PartnerDied("the other process of a training has ended") from None
        theirs = self.unpack(*received)
        return [mine, theirs] if self.rank == 0 else [theirs, mine]

    def pack(self, mine: Any) -> tuple[list[tuple[int, int]], bytes]:
        """Where in the outbox the arrays of `mine` lie, and a message with all else; arrays that find no room, too."""
        places = []
        start, end = self.outboxes[0]
        self.outboxes.reverse()

        def put(buffer: pickle.PickleBuffer) -> bool:
            nonlocal start
            raw = buffer.raw()
            if start + raw.nbytes > end:
                return True
            places.append((start, start + raw.nbytes))
            self.memory[slice(*places[-1])] = raw
            start = aligned(start + raw.nbytes)
            return False

        return places, pickle.dumps(mine, protocol=5, buffer_callback=put)

    def unpack(self, places: list[tuple[int, int]], message: bytes) -> Any:
        return pickle.loads(message, buffers=[self.memory[slice(*place)] for place in places])


def aligned(size: int) -> int:
    return -(-size // LINE) * LINE


@contextmanager
def pair(shared: int, outbox: int, task: Callable[..., Any], *args: Any) -> Iterator[Pair]:
    """The first of two processes, while the second runs `task(*args, crew)`, a function at the top of a module.

    `shared` and `outbox` are bytes, for what both see and for what one hands to the other at a time.
    """
    size = aligned(shared) + 4 * aligned(outbox)
    folders = [folder for folder in (SHARED, Path(tempfile.gettempdir())) if folder.exists()]
    folders = [folder for folder in folders if disk_usage(folder).free > size]
    if not folders:
        raise MemoryError(f"no room for {size:,} bytes that two processes share; use one")
    here, there = Pipe()
    with tempfile.TemporaryFile(dir=folders[0]) as file, here:
        file.truncate(size)
        handles = there.fileno(), file.fileno()
        code = f"from memsinks_np.crew import follow; follow{handles}"
        where = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        # in a session of its own: Ctrl-C reaches the first process alone, and the second ends when the line does
        process = subprocess.Popen([sys.executable, "-c", code], env=where, pass_fds=handles, start_new_session=True)
        there.close()
        try:
            here.send((aligned(outbox), task, args))
            yield Pair(0, here, mmap(file.fileno(), size), aligned(outbox))
        finally:
            here.close()
            process.wait()


def follow(line: int, file: int) -> None:
    """The life of the second process: it ends with its task, or when the first one does."""
    with Connection(line) as there, suppress(EOFError, PartnerDied), one_blas_thread():
        outbox, task, args = there.recv()
        task(*args, Pair(1, there, mmap(file, os.fstat(file).st_size), outbox))
