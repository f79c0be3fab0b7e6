"""Trained arms on disk: .npz without pickle, written whole or not at all, found again by what made them."""

import dataclasses
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np import __version__
from memsinks_np.config import Arm, ConfigError, Settings
from memsinks_np.data import read_text
from memsinks_np.train import Trained

TRAINING = [
    "config",
    "ids",
    "language",
    "data",
    "ops",
    "sinks",
    "model",
    "optim",
    "metrics",
    "backend",
    "process",
    "train",
]


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


def describe(arm: Arm, settings: Settings) -> dict[str, Any]:
    """Everything that a training depends on, as JSON can hold it: the configuration, the text and the code."""
    code = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in TRAINING]
    text = b"" if settings.data.corpus in ("stories", "worlds") else read_text(settings.data.corpus).encode()
    made = {
        "arm": dataclasses.asdict(arm),
        "settings": dataclasses.asdict(settings),
        "version": __version__,
        "code": hashlib.sha256(b"".join(code)).hexdigest()[:16],
        "text": hashlib.sha256(text).hexdigest()[:16],
    }
    return json.loads(json.dumps(made))


def cache_path(folder: Path, made: dict[str, Any]) -> Path:
    """Where an arm lies: the hash of what made it (its name does not count)."""
    unnamed = made | {"arm": {k: v for k, v in made["arm"].items() if k != "name"}}
    return folder / f"{hashlib.sha256(json.dumps(unnamed, sort_keys=True).encode()).hexdigest()[:20]}.npz"


def save(path: Path, trained: Trained, made: dict[str, Any]) -> None:
    """Write an arm: its parameters, its history, what made it."""
    file = io.BytesIO()
    np.savez(file, made=json.dumps(made), history=json.dumps(trained.history), **trained.params)
    write_whole(path, file.getvalue())


def load(path: Path) -> Trained:
    """Read an arm.  Nothing is unpickled; a file that is not one of ours raises ConfigError."""
    try:
        with path.open("rb") as whole, np.load(whole, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        del arrays["made"]
        history = json.loads(str(arrays.pop("history")))
    except Exception as e:  # whatever a damaged or hostile file leads the reader to
        raise ConfigError(
            f"{path} is not a trained arm ({type(e).__name__}); delete it and it is trained again"
        ) from None
    return Trained(arrays, history)
