"""Helpers of the pages: a tiny model of 4 + 7 neurons and two sequences, and trained models."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np._internal.files import shared_lock
from memsinks_np._internal.typing import Floats, Params
from memsinks_np.config import Method, ModelConfig, SinkConfig
from memsinks_np.experiments import comparison, fig7
from memsinks_np.experiments.methods import PRESETS, job, methods_of, with_settings
from memsinks_np.experiments.runner.cache import Job, train_cached
from memsinks_np.model import init_params
from memsinks_np.trained import Model

SENTENCES = ("the cat sat on the mat", "the dog ran to the cat")
TINY_VOCAB = tuple(dict.fromkeys(" ".join(SENTENCES).split()))
TINY_TOKENS = np.array([[TINY_VOCAB.index(w) for w in s.split()] for s in SENTENCES])  # (2, 6)
TINY_IDS = np.array([3, 4])  # their sinks: {0, 3, 6} and {1, 3, 4}; one is shared, two are inactive
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


def tiny_params() -> Params:
    """Return parameters of the tiny model. None is 0 or 1, where a wrong gradient could hide."""
    rng = np.random.default_rng(0)
    return {
        name: w + 0.3 * rng.standard_normal(w.shape) for name, w in init_params(TINY, 0).items()
    }


def model_cache() -> Path:
    """Return MEMSINKS_CACHE, or runs/cache of the clone that the current folder belongs to."""
    here = Path.cwd()
    clones = (folder for folder in (here, *here.parents) if (folder / "run_toy.py").exists())
    return Path(os.environ.get("MEMSINKS_CACHE") or next(clones, here) / "runs" / "cache")


def trained(
    method: str | Method, steps: int = 600, seed: int = 0, preset: str = "stories", **data: Any
) -> Model:
    """Return a trained model of a preset: from the cache, or trained now (seconds).

    `data` are changes of the preset's DataConfig, such as n_canaries=63. The cache is the folder
    in the environment variable MEMSINKS_CACHE, by default runs/cache of the clone.
    """
    settings = with_settings(PRESETS[preset], data=data, train={"steps": steps})
    chosen = methods_of(settings)[method] if isinstance(method, str) else method
    return train_or_load(job(settings, chosen, seed, lambda model: None))


def train_or_load(training: Job) -> Model:
    """Return the model of a job, from the cache if it is there; else train it with two threads."""
    cache = model_cache()
    with shared_lock(cache):
        return train_cached(training, cache, threads=2)  # the same bits as with one


def saw_tooth(method: str) -> Floats:
    """Return the loss of one story after every step, (24,40): a row begins when it was shown.

    Every step sees one of 40 repeated stories, in a fixed order, and three new ones.
    """
    data = {"batch_size": 4, "repeat_fraction": 1 / 4, "n_repeated": fig7.PERIOD, "shuffled": False}
    train = {"steps": 24 * fig7.PERIOD, "log_first_sequence": True}
    settings = with_settings(PRESETS["stories"], data=data, train=train)
    model = train_or_load(job(settings, methods_of(settings)[method], 0, fig7.first_sequence))
    return fig7.cycles(fig7.first_sequence(model), fig7.PERIOD)


def trained_on_people(method: str) -> Model:
    """Return a model trained for one pass on a world of people smaller than the preset."""
    return trained(method, steps=640, preset="people", n_repeated=1270)


def compared(methods: Sequence[str], steps: int, seeds: Sequence[int] = (0,)) -> comparison.Result:
    """Return the evaluations and histories of trained methods, as experiments use them."""
    return comparison.compare(
        {
            (method, seed): comparison.measure(trained(method, steps, seed), deletions=False)
            for method in methods
            for seed in seeds
        }
    )
