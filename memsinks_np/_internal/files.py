"""Write files completely or not at all, and lock folders that runs share."""

import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from memsinks_np.config import ConfigError

HAS_FCNTL = importlib.util.find_spec("fcntl") is not None  # not on Windows
fcntl: Any = importlib.import_module("fcntl") if HAS_FCNTL else None
# a file that is being written: its name, and the process that writes it
PARTIAL = re.compile(r".+\.(json|npz|csv|txt|svg|png|html)\.\d+\.part")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file completely or not at all: to a partial file that is flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_partial_files(folder: Path) -> None:
    """Remove partial files left by killed processes. Requires an exclusive lock."""
    for path in folder.iterdir():
        if PARTIAL.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


@contextmanager
def open_folder(folder: Path) -> Iterator[int | None]:
    """Open a folder for locking; yield None if the system has no such locks.

    The kernel releases a lock when its process ends, for whatever reason. (Windows has no such
    lock: two runs in one folder overwrite each other's results file by file.)
    """
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def take_lock(handle: int | None, folder: Path, wait: bool = False) -> None:
    """Lock a folder exclusively and remove partial files. BlockingIOError if it is in use."""
    if handle is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        remove_partial_files(folder)


def cannot_write(folder: Path, e: OSError) -> ConfigError:
    """Return the error for a folder inside --out that cannot be used."""
    return ConfigError(
        f"--out {folder.parent}: cannot write there ({e.strerror}); choose another folder"
    )


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder exclusively. Raises ConfigError if another process uses it."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            take_lock(stack.enter_context(open_folder(folder)), folder)
        except BlockingIOError:
            raise ConfigError(
                f"{folder} is in use by another run; wait until it ends, or choose another --out"
            ) from None
        except OSError as e:
            raise cannot_write(folder, e) from None
        yield


@contextmanager
def wait_for_lock(folder: Path) -> Iterator[None]:
    """Wait until all other processes have released a folder, then lock it exclusively."""
    with open_folder(folder) as handle:
        take_lock(handle, folder, wait=True)
        yield


@contextmanager
def shared_lock(folder: Path) -> Iterator[None]:
    """Hold a shared lock on a folder. The first process to hold it removes partial files.

    Raises ConfigError if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise cannot_write(folder, e) from None
    with open_folder(folder) as handle:
        with suppress(BlockingIOError):
            take_lock(handle, folder)
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
