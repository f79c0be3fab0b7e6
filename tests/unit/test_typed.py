"""A user's script, typed: pytest runs it, and mypy checks it as strictly as the package."""

from typing import Any, assert_type

import numpy as np

from memsinks_np._internal.typing import Losses, Params, Tokens
from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.gradcheck import Case, GradientError, check
from memsinks_np.metrics import mean_loss, predict
from memsinks_np.sinks import NO_SINKS, Selection, delete, own, prune
from memsinks_np.train import train
from memsinks_np.trained import Model


def test_typed_script_trains_measures_and_removes() -> None:
    pool = SinkConfig(n_sink=8, n_active=2)
    method = Method(name="mine", n_shared=8, sinks=pool)
    data = DataConfig(n_ctx=8, batch_size=8, n_repeated=4, n_heldout=4)
    short = TrainConfig(steps=2, warmup=1)
    settings = Settings(data=data, train=short, d_model=8, n_heads=2, n_layers=1)
    corpus = load_corpus(data)
    model = train(method, settings, corpus)
    assert_type(model, Model)
    assert_type(model.params, Params)
    assert model.history[-1].step == 2
    selection = own(pool, corpus.repeated_ids)
    assert_type(selection, Selection)
    losses, likeliest = predict(model.params, model.cfg, corpus.repeated, selection)
    assert_type(losses, Losses)
    assert_type(likeliest, Tokens)
    assert losses.shape == likeliest.shape == (4, 8)
    for params in (prune(model.params), delete(model.params, pool, corpus.repeated_ids[:1])):
        loss = mean_loss(params, model.cfg, corpus.repeated, NO_SINKS)
        assert_type(loss, float)
        assert np.isfinite(loss)


def test_typed_op_can_be_checked() -> None:
    def forward(xp: Any, x: Any) -> tuple[Any, Any]:
        return x * x, x

    def backward(xp: Any, dy: Any, x: Any) -> Any:
        return 2 * x * dy

    results = check(Case("square", forward, backward, {"x": np.array([0.3, -1.7])}))
    assert_type(results, list[GradientError])
    assert [result.ok for result in results] == [True]
