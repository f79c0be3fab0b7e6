"""Array namespaces, and transfer between host and device. The only file that imports cupy.

Tokens, IDs, masks and initial weights are drawn by NumPy on the host and moved to the device here,
so that a seed means the same everywhere. A namespace `xp` is a module: numpy, or cupy on a CUDA
device.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

from memsinks_np.config import ConfigError, require

BACKENDS = ("numpy", "cupy")


def namespace(name: str) -> ModuleType:
    """Return the array namespace of that name. Raises ConfigError if it is not available."""
    require(name in BACKENDS, f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if name == "numpy":
        return np
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise ConfigError(
            'backend cupy is not installed; python -m pip install -e ".[gpu]", or use numpy'
        ) from None
    available = cupy.is_available()  # cupy imports without a device
    require(available, "backend cupy finds no CUDA device here; use numpy")
    return cupy


def namespace_of(array: Any) -> ModuleType:
    """Return the namespace that an array belongs to."""
    return sys.modules[type(array).__module__.partition(".")[0]]


def to_device(xp: ModuleType, tree: Any) -> Any:
    """Move the NumPy arrays in nested dicts and tuples into `xp`. Other values stay as they are."""
    if isinstance(tree, np.ndarray):
        return tree if xp is np else xp.asarray(tree)
    if isinstance(tree, dict):
        return {key: to_device(xp, value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        moved = [to_device(xp, value) for value in tree]
        return type(tree)(*moved) if hasattr(tree, "_fields") else tuple(moved)
    return tree


def to_host(tree: Any) -> Any:
    """Return an array, or nested dicts of arrays, as NumPy arrays."""
    if isinstance(tree, dict):
        return {key: to_host(value) for key, value in tree.items()}
    xp = namespace_of(tree)
    return tree if xp is np else xp.asnumpy(tree)
