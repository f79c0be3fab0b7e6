"""Parameters and JSON metadata in one .npz file: no pickle, headers checked before data is read."""

import io
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.files import write_atomic
from memsinks_np._internal.typing import Params
from memsinks_np.config import ConfigError, require

META = "meta"  # entry with JSON as bytes
MAX_META = 1 << 26  # bytes


def save(path: Path, params: Params, meta: dict[str, Any]) -> None:
    """Write parameters and metadata, completely or not at all."""
    encoded = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **{META: encoded}, **params)  # type: ignore[arg-type]
    write_atomic(path, file.getvalue())


def read_meta(path: Path) -> dict[str, Any]:
    """Return the metadata of a file. Raises ConfigError if it is damaged."""
    with _opened(path) as file:
        shape, dtype = _header(file, META)
        ok = len(shape) == 1 and shape[0] <= MAX_META and dtype == np.uint8
        require(ok, f"{META} has shape {shape} and type {dtype}")
        meta = json.loads(_data(file, META).tobytes())
        require(isinstance(meta, dict), f"{META} is not a dictionary")
        result: dict[str, Any] = meta
    return result


def load(path: Path, like: Params) -> Params:
    """Return the parameters of a file, named, shaped and typed as those of `like`.

    No array is read before its header matches, so a malicious file takes no more memory than a
    valid one. Raises ConfigError for anything else.
    """
    with _opened(path) as file:
        names = sorted(f"{name}.npy" for name in [*like, META])
        require(sorted(file.namelist()) == names, "it holds other arrays")
        for name, w in like.items():
            shape, dtype = _header(file, name)
            ok = shape == w.shape and dtype == w.dtype
            require(ok, f"{name} has shape {shape} and type {dtype}")
        return {name: _data(file, name) for name in like}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a file. Raises ConfigError for any error that a damaged file causes."""
    try:
        require(path.is_file(), "it is not a file")
        with zipfile.ZipFile(path) as file:
            yield file
    except Exception as e:
        reason = str(e) if isinstance(e, ConfigError) else type(e).__name__
        raise ConfigError(f"{path} is not a saved model ({reason})") from None


def _header(file: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type that an entry declares, which must be stored uncompressed."""
    entry = file.getinfo(f"{name}.npy")
    with file.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        require(version == (1, 0), f"{name} has another .npy version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    stored = entry.compress_size == entry.file_size == size and not dtype.hasobject
    require(stored, f"{name} is compressed or cut off")
    return shape, dtype


def _data(file: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with file.open(f"{name}.npy") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array
