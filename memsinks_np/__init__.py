"""Memorization sinks (Ghosal, Maini, Raghunathan, ICML 2025) in NumPy, with hand-written gradients.

    import memsinks_np as ms

    corpus = ms.Corpus.from_sequences(tokens, ids, heldout=0.1)
    model = ms.fit(corpus, sinks=ms.SinkConfig(n_sink=512, n_active=32))
    model.loss(tokens, ids), model.loss(tokens, sinks="none"), ms.delete(model, ids=[7])

The functions underneath are public too: sinks, ops, model, optim, train, metrics, config.
"""

__version__ = "0.2.0"

from memsinks_np._internal.ids import id_of, owner_ids
from memsinks_np.config import (
    ConfigError,
    DataConfig,
    Method,
    ModelConfig,
    Settings,
    SinkConfig,
    TrainConfig,
)
from memsinks_np.data.corpus import Corpus, load_corpus, people, stories, text
from memsinks_np.experiments import methods
from memsinks_np.gradcheck import Case, GradientError, check
from memsinks_np.train import StopTraining, TrainingDiverged, fit
from memsinks_np.trained import Model, delete, load, prune

__all__ = [
    "Case",
    "ConfigError",
    "Corpus",
    "DataConfig",
    "GradientError",
    "Method",
    "Model",
    "ModelConfig",
    "Settings",
    "SinkConfig",
    "StopTraining",
    "TrainConfig",
    "TrainingDiverged",
    "__version__",
    "check",
    "delete",
    "fit",
    "id_of",
    "load",
    "load_corpus",
    "methods",
    "owner_ids",
    "people",
    "prune",
    "stories",
    "text",
]
