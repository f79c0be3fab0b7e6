"""Losses of repeated and new stories at moments of a training, and after the pool is removed."""

from typing import NamedTuple

from memsinks_np._internal.typing import Ids, Losses, Params, Tokens
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments.methods import Preset, job, methods_of
from memsinks_np.metrics import predict
from memsinks_np.sinks import NO_SINKS, own
from memsinks_np.train import train

STEPS = (0, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 700, 900, 1200, 1500)
ROWS = {  # row -> method, stories
    "standard": ("standard", "repeated"),
    "sinks": ("sinks", "repeated"),
    "retrained": ("retrained", "repeated"),
    "new": ("sinks", "heldout"),
}


class Row(NamedTuple):
    """The losses of some stories in one model, in nats. The last moment is after the removal."""

    words: list[str]  # of the first story
    losses: list[list[float]]  # of its words but the first, at each moment
    means: list[float]  # over all words of all stories, at each moment
    n: int  # stories


def measure(preset: Preset, steps: tuple[int, ...] = STEPS) -> dict[str, Row]:
    """Train three methods under seed 0, and measure each row after each of `steps`.

    Every story runs with the sinks of its ID; then, at one more moment, without the pool.
    """
    rows: dict[str, Row] = {}
    for method in ("standard", "sinks", "retrained"):
        rows |= rows_of(method, preset, steps)
    return {name: rows[name] for name in ROWS}


def rows_of(method: str, preset: Preset, steps: tuple[int, ...]) -> dict[str, Row]:
    """Train one method, and return its rows."""
    trained = job(preset, methods_of(preset)[method], 0, measure)
    corpus = load_corpus(trained.settings.data)
    cfg = trained.settings.model(trained.method, len(corpus.vocab))
    shown = {row: stories(corpus, kind) for row, (name, kind) in ROWS.items() if name == method}
    moments: dict[str, list[Losses]] = {row: [] for row in shown}

    def watch(n: int, params: Params) -> None:
        if n in steps:
            for row, (tokens, ids) in shown.items():
                moments[row].append(predict(params, cfg, tokens, own(cfg.sinks, ids))[0])

    model = train(trained.method, trained.settings, corpus, threads=2, on_params=watch)
    for row, (tokens, _) in shown.items():
        moments[row].append(predict(model.params, cfg, tokens, NO_SINKS)[0])
    return {
        row: Row(
            corpus.text(shown[row][0][0]).split(),
            [losses[0].tolist() for losses in each],
            [float(losses.mean()) for losses in each],
            len(shown[row][0]),
        )
        for row, each in moments.items()
    }


def stories(corpus: Corpus, kind: str) -> tuple[Tokens, Ids]:
    """Return the repeated or the held-out stories, and their IDs."""
    tokens: Tokens = getattr(corpus, kind)
    return tokens, getattr(corpus, f"{kind}_ids")
