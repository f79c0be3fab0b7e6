"""Trained arms on disk: .npz without pickle, written whole or not at all, found again by what made them."""

import dataclasses
import hashlib
import importlib.util
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np import __version__
from memsinks_np.arrays import Params
from memsinks_np.config import Arm, ConfigError, Settings, require
from memsinks_np.data import TOLD
from memsinks_np.sources import source
from memsinks_np.text import read_text
from memsinks_np.train import Trained

fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None  # not on Windows

MADE_LETTERS, ROW_LETTERS = 1 << 16, 1 << 10  # the most that a file of ours says of its making, and of a step
# a file of ours before it is whole: its name, and who writes it
PART = re.compile(r".+\.(json|npz|csv|txt|svg|png|html)\.\d+\.part")


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there whole or not at all: beside its place, flushed, then renamed."""
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


def sweep(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing.  Only for who alone works in the folder."""
    for path in folder.iterdir():
        if PART.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


@contextmanager
def lock_of(folder: Path) -> Iterator[int | None]:
    """What the locks of a folder hang on; None where the system has none.

    The kernel forgets a lock together with the process, however that ended.  (Windows knows no such lock: two runs
    in one folder replace each other's results there, file by file, and nothing is swept.)
    """
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def take_lock(handle: int | None, folder: Path, wait: bool = False) -> None:
    """Become the only one in a folder, and sweep it; BlockingIOError where others are there, unless to `wait`."""
    if handle is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        sweep(folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Work in a folder that no other process works in; ConfigError where one does, or where there can be none."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            take_lock(stack.enter_context(lock_of(folder)), folder)
        except BlockingIOError:
            raise ConfigError(
                f"{folder} is in use by another run; wait until it ends, or choose another --out"
            ) from None
        except OSError as e:
            raise ConfigError(
                f"--out {folder.parent}: cannot write there ({e.strerror}); choose another folder"
            ) from None
        yield


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Work in a folder after all others who are there have left it."""
    with lock_of(folder) as handle:
        take_lock(handle, folder, wait=True)
        yield


@contextmanager
def together(folder: Path) -> Iterator[None]:
    """Work in a folder beside others; who finds nobody there sweeps it first."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock_of(folder) as handle:
        with suppress(BlockingIOError):
            take_lock(handle, folder)
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def describe(arm: Arm, settings: Settings) -> dict[str, Any]:
    """Everything that a training depends on, as JSON can hold it: the configuration, the text and the code."""
    text = b"" if settings.data.corpus in TOLD else read_text(settings.data.corpus).encode()
    made = {
        "arm": dataclasses.asdict(arm),
        "settings": dataclasses.asdict(settings),
        "version": __version__,
        "code": source("memsinks_np.train")[:16],
        "text": hashlib.sha256(text).hexdigest()[:16],
    }
    described: dict[str, Any] = json.loads(json.dumps(made))
    return described


def cache_path(folder: Path, made: dict[str, Any]) -> Path:
    """Where an arm lies: the hash of what made it (its name does not count)."""
    return folder / f"{hashlib.sha256(json.dumps(unnamed(made), sort_keys=True).encode()).hexdigest()[:20]}.npz"


def unnamed(made: dict[str, Any]) -> dict[str, Any]:
    """What made an arm, but for its name."""
    return made | {"arm": {k: v for k, v in made["arm"].items() if k != "name"}}


def save(path: Path, trained: Trained, made: dict[str, Any]) -> None:
    """Write an arm: its parameters, its history, what made it."""
    file = io.BytesIO()
    np.savez(file, made=json.dumps(made), history=json.dumps(trained.history), **trained.params)
    write_whole(path, file.getvalue())


def load(path: Path, made: dict[str, Any], like: Params) -> Trained:
    """Read the arm that `made` describes, with parameters named, shaped and typed as those of `like`.

    Nothing is unpickled, and no array is read before its header has been compared with what is expected, so a
    hostile file costs no more memory than an honest one.  Anything else raises ConfigError.
    """
    letters = {"made": MADE_LETTERS, "history": ROW_LETTERS * (made["settings"]["train"]["steps"] + 2)}
    most = sum(w.nbytes for w in like.values()) + 4 * sum(letters.values()) + 1000 * (len(like) + 2)
    try:
        require(path.is_file() and path.stat().st_size <= most, f"not a file, or one of more than {most} bytes")
        with zipfile.ZipFile(path) as file:
            names = sorted(f"{name}.npy" for name in [*like, *letters])
            require(sorted(file.namelist()) == names, "it holds other arrays")
            arrays = {name: read_array(file, name, like.get(name), letters.get(name, 0)) for name in [*letters, *like]}
        require(unnamed(json.loads(str(arrays.pop("made")))) == unnamed(made), "something else has made it")
        history = json.loads(str(arrays.pop("history")))
        require(isinstance(history, list) and all(isinstance(row, dict) for row in history), "its history is no list")
    except Exception as e:  # whatever a damaged or hostile file leads the readers to
        reason = str(e) if isinstance(e, ConfigError) else type(e).__name__
        raise ConfigError(f"{path} is not a trained arm ({reason}); delete it and it is trained again") from None
    return Trained(arrays, history)


def read_array(file: zipfile.ZipFile, name: str, like: Any, letters: int) -> NDArray[Any]:
    """One array, after its header was found to declare what `like` has, or a text of at most so many letters."""
    entry = file.getinfo(f"{name}.npy")
    with file.open(entry) as stream:
        require(np.lib.format.read_magic(stream) == (1, 0), f"{name} is of another .npy version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if like is None:
            ok = shape == () and dtype.kind == "U" and dtype.itemsize <= 4 * letters
        else:
            ok = shape == like.shape and dtype == like.dtype
        require(ok, f"{name} has shape {shape} and type {dtype}")
        whole = stream.tell() + math.prod(shape) * dtype.itemsize
    require(entry.compress_size == entry.file_size == whole, f"{name} is not stored as it is")
    with file.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
