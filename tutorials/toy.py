"""What the tutorials share: two tiny sequences and 4 + 7 neurons to follow by eye, and trained methods to measure."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.files import together
from memsinks_np.config import Method, ModelConfig, SinkConfig
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments.methods import PRESETS, methods_of, seeded
from memsinks_np.experiments.runner.grid import Job, train_cached
from memsinks_np.model import init_params
from memsinks_np.sinks import Params
from memsinks_np.train import Model

SENTENCES = ("the cat sat on the mat", "the dog ran to the cat")
TINY_VOCAB = tuple(dict.fromkeys(" ".join(SENTENCES).split()))
TINY_TOKENS = np.array(
    [[TINY_VOCAB.index(word) for word in s.split()] for s in SENTENCES]
)  # (2, 6)
TINY_IDS = np.array([3, 4])  # own the sinks {0, 3, 6} and {1, 3, 4}: one is shared, two sleep
TINY_POOL = SinkConfig(n_sink=7, scheme="bernoulli", p=0.4)
TINY = ModelConfig(
    n_vocab=len(TINY_VOCAB),
    n_ctx=5,
    d_model=6,
    n_heads=2,
    n_layers=1,
    n_shared=4,
    sinks=TINY_POOL,
)


def tiny_params(seed: int = 0, dtype: Any = np.float64) -> Params:
    """The tiny model's parameters, none of them at 0 or 1, where a wrong gradient could hide."""
    rng = np.random.default_rng(seed)
    return {
        name: (w + 0.3 * rng.standard_normal(w.shape)).astype(dtype)
        for name, w in init_params(TINY, seed).items()
    }


class Lesson(NamedTuple):
    """A trained method, the transformer that it is, and what it was trained on."""

    params: Params
    cfg: ModelConfig
    corpus: Corpus


def clone() -> Path:
    """The folder of run_toy.py, from wherever below it a page is run; the current one where there is none."""
    here = Path.cwd()
    return next(
        (folder for folder in (here, *here.parents) if (folder / "run_toy.py").exists()), here
    )


def find(method: str | Method, steps: int, seed: int, **data: Any) -> tuple[Job, Model]:
    """A method, or one of the stories preset by its name: read from the cache, or trained now (some seconds).

    `data` are changes of the preset's DataConfig, such as n_canaries=63.
    The cache is the folder that the environment variable MEMSINKS_CACHE names, by default the clone's runs/cache.
    """
    preset = PRESETS["stories"]
    s = preset.settings
    settings = replace(s, data=replace(s.data, **data), train=replace(s.train, steps=steps))
    chosen = methods_of(preset)[method] if isinstance(method, str) else method
    job = seeded(preset._replace(settings=settings), chosen, seed)
    cache = Path(os.environ.get("MEMSINKS_CACHE") or clone() / "runs" / "cache")
    with together(cache):
        return job, train_cached(job, cache)


def trained(method: str | Method, steps: int = 600, seed: int = 0, **data: Any) -> Lesson:
    """A trained method, from the cache or trained now (see `find`)."""
    job, (params, _) = find(method, steps, seed, **data)
    corpus = load_corpus(job.settings.data)
    return Lesson(params, job.settings.model(job.method, len(corpus.vocab)), corpus)


def history(method: str, steps: int = 600, seed: int = 0) -> list[dict[str, Any]]:
    """How the same method came there: a row per evaluation, losses in nats per word, as `plots.curve` draws them."""
    return [{"method": method, "seed": seed, **row} for row in find(method, steps, seed)[1].history]
