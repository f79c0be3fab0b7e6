"""Cache trained models and results under a hash of everything that they depend on."""

import dis
import hashlib
import inspect
import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.files import write_atomic
from memsinks_np.config import ConfigError, Method, Settings, require
from memsinks_np.data.corpus import TOY_LANGUAGES, Corpus, load_corpus
from memsinks_np.data.text import read_text
from memsinks_np.export import npz
from memsinks_np.metrics import HistoryRow, to_history
from memsinks_np.model import init_params
from memsinks_np.train import train
from memsinks_np.trained import Model

PACKAGE = Path(__file__).parents[2]


class Job(NamedTuple):
    """Train a method under settings (which hold the seed), then measure the model."""

    method: Method
    settings: Settings
    measure: Callable[..., Any]  # model -> JSON data: a module-level function, or a partial of one

    def __str__(self) -> str:
        return f"{self.method.name.replace('_', ' ')} seed {self.settings.train.seed}"


def source_hash() -> str:
    """Return a hash of the package's source and NumPy's version: older results are not reused."""
    digest = hashlib.sha256(np.__version__.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


SOURCE_HASH = source_hash()  # taken at import: this process does not run later edits


def text_hash(corpus: str) -> str:
    """Return a hash of a corpus's text; of a toy language, its name."""
    text = corpus if corpus in TOY_LANGUAGES else read_text(corpus)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(job: Job) -> dict[str, Any]:
    """Return everything that a trained model depends on; the method's name is not part of it."""
    made: dict[str, Any] = {
        "method": asdict(job.method),
        "settings": asdict(job.settings),
        "source": SOURCE_HASH,
        "text": text_hash(job.settings.data.corpus),
    }
    del made["method"]["name"], made["settings"]["data"]["corpus"]  # the text counts, not its path
    result: dict[str, Any] = json.loads(json.dumps(made))
    return result


def key_of(value: Any) -> str:
    """Return a short hash of JSON data and dataclasses."""
    text = json.dumps(value, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def model_path(cache: Path | str, made: dict[str, Any]) -> Path:
    """Return where the model with this fingerprint is stored."""
    return Path(cache) / f"{key_of(made)}.npz"


def result_path(cache: Path, job: Job, made: dict[str, Any]) -> Path:
    """Return where the result of the job's measurement is stored.

    Raises ConfigError if the measurement depends on anything that a key cannot hold.
    """
    measure = job.measure if isinstance(job.measure, partial) else partial(job.measure)
    name = f"{measure.func.__module__}.{measure.func.__qualname__}"
    what = [name, measure.args, measure.keywords]
    if not name.startswith("memsinks_np."):  # its source is not part of `made`
        what.append(identity(measure.func))
    try:
        key = key_of(what)
    except TypeError as e:
        reason = f"{name} depends on a value that no cache key can hold ({e}); use numbers and text"
        raise ConfigError(reason) from None
    return model_path(cache, made).with_suffix(f".{key[:12]}.json")


def identity(value: Any, callers: tuple[Any, ...] = ()) -> Any:
    """Return data for a key: of a function and the functions of its module that it calls, all.

    These are the source and the values of defaults and of variables from outside. Everything else
    that can be called, and a module, has its name. Raises ConfigError if a source is unknown.
    """
    elsewhere = bool(callers) and getattr(value, "__module__", "") != callers[0].__module__
    if not inspect.isfunction(value) or elsewhere or value in callers:
        named = callable(value) or inspect.ismodule(value)
        return getattr(value, "__name__", value) if named else value
    try:
        source = inspect.getsource(value)
    except OSError:
        reason = f"the source of {value.__name__} is unknown; define it in a file or a notebook"
        raise ConfigError(reason) from None
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    outside = {name: cell.cell_contents for name, cell in cells}
    outside |= {n: value.__globals__.get(n) for n in global_names(value.__code__)}
    used = {name: identity(outside[name], (*callers, value)) for name in outside}
    return [source, value.__defaults__, value.__kwdefaults__, used]


def global_names(code: CodeType) -> set[str]:
    """Return the global variables that a function's code reads, also in functions inside it."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    return names.union(*(global_names(c) for c in code.co_consts if inspect.iscode(c)))


def load_result(path: Path) -> Any:
    """Return a stored result. Raises ConfigError if the file is damaged."""
    try:
        return json.loads(path.read_text())["result"]
    except Exception as e:  # a damaged file can raise anything
        reason = f"{path} is not a result ({type(e).__name__}); delete it and run again"
        raise ConfigError(reason) from None


def save_result(path: Path, result: Any) -> None:
    """Store a result as JSON. Raises ConfigError if it is not JSON data."""
    try:
        text = json.dumps({"result": result})
    except TypeError as e:
        reason = f"a measurement returned no JSON data ({e}); return numbers, text, lists or dicts"
        raise ConfigError(reason) from None
    write_atomic(path, text)


def check_fingerprint(job: Job, made: dict[str, Any]) -> None:
    """Raise ConfigError unless this process would train what the command described."""
    now = fingerprint(job)
    text = job.settings.data.corpus
    require(now["text"] == made["text"], f"corpus {text!r} changed during the run; run again")
    require(
        now["source"] == made["source"],
        f"the worker on {platform.node()} runs another version of memsinks_np or NumPy, or the "
        "source was edited during the run; update it and run again",
    )


def train_cached(
    job: Job,
    cache: Path | str,
    on_step: Callable[[int, float], Any] = lambda step, loss: None,
    threads: int = 1,
    fresh: bool = False,
    on_row: Callable[[HistoryRow], Any] = lambda row: None,
) -> Model:
    """Return the job's model: from the cache if it is there, else train and store it."""
    made, corpus = fingerprint(job), load_corpus(job.settings.data)
    path = model_path(cache, made)
    if path.exists() and not fresh:
        return load_model(path, job, made, corpus)
    model = train(job.method, job.settings, corpus, on_step, threads, on_row=on_row)
    check_fingerprint(job, made)
    npz.save(path, model.params, {"made": made, "history": model.history})
    return model


def load_model(path: Path, job: Job, made: dict[str, Any], corpus: Corpus) -> Model:
    """Read a model that has this fingerprint. Raises ConfigError for any other file."""
    cfg = job.settings.model(job.method, len(corpus.vocab))
    try:
        meta = npz.read_meta(path)
        require(meta.get("made") == made, f"{path} holds another model")
        params = npz.load(path, init_params(cfg))
        history = to_history(meta["history"])
    except (KeyError, TypeError, ValueError) as e:
        raise ConfigError(f"{e}; delete {path} and run again") from None
    return Model(params, cfg, corpus.vocab, corpus.separator, history, corpus)
