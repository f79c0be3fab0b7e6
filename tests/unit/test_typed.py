"""A user's script, small and typed: pytest runs it, and `mypy` reads it as strictly as the package."""

from typing import Any, assert_type

import numpy as np

from memsinks_np._internal.typing import Losses, Params, Tokens
from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.gradcheck import Case, Found, check
from memsinks_np.metrics import mean_loss, predict
from memsinks_np.sinks import NO_SINKS, Selection, delete, own, prune
from memsinks_np.train import train


def test_a_typed_script_can_train_measure_and_remove() -> None:
    pool = SinkConfig(n_sink=8, n_active=2)
    method = Method(name="mine", n_shared=8, sinks=pool)
    data = DataConfig(n_ctx=8, batch_size=8, n_repeated=4, n_heldout=4)
    settings = Settings(
        data=data, train=TrainConfig(steps=2, warmup=1), d_model=8, n_heads=2, n_layers=1
    )
    params, history = train(method, settings)
    assert_type(params, Params)
    assert history[-1]["step"] == 2
    corpus = load_corpus(data)
    cfg = settings.model(method, len(corpus.vocab))
    selection = own(pool, corpus.repeated_ids)
    assert_type(selection, Selection)
    losses, likeliest = predict(params, cfg, corpus.repeated, selection)
    assert_type(losses, Losses)
    assert_type(likeliest, Tokens)
    assert losses.shape == likeliest.shape == (4, 8)
    for left in (prune(params), delete(params, pool, corpus.repeated_ids[:1])):
        loss = mean_loss(left, cfg, corpus.repeated, NO_SINKS)
        assert_type(loss, float)
        assert np.isfinite(loss)


def test_a_typed_pair_can_be_checked() -> None:
    def forward(xp: Any, x: Any) -> tuple[Any, Any]:
        return x * x, x

    def backward(xp: Any, dy: Any, x: Any) -> Any:
        return 2 * x * dy

    found = check(Case("square", forward, backward, {"x": np.array([0.3, -1.7])}))
    assert_type(found, list[Found])
    assert [f.ok for f in found] == [True]
