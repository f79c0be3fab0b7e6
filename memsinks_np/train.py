"""The training loop: batch -> active sinks -> loss and gradients -> optimizer step -> history."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np import optim
from memsinks_np._internal.backend import namespace, namespace_of, to_device, to_host
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.ids import Purpose, hash_ints, integers, uniform
from memsinks_np._internal.typing import Array, Params, Tokens, Xp
from memsinks_np.config import Method, ModelConfig, Settings, SinkConfig, TrainConfig, require
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import PADDING, Corpus, Sequences
from memsinks_np.data.people import GROUPS
from memsinks_np.metrics import BySinks, HistoryRow, mean_loss, recall
from memsinks_np.model import init_params, loss_and_grads
from memsinks_np.sinks import NO_SINKS, SINK, Mask, RowGrad, Selection, coalesce, is_sink, own
from memsinks_np.trained import Model

DIVERGED = 10  # training has failed if the loss exceeds this many times that of guessing, ln V


class TrainingDiverged(RuntimeError):
    """Raised when training diverges.

    That is a non-finite loss or gradient, or a loss ten times that of guessing. The message says
    where, and what to try.
    """


class StopTraining(Exception):
    """Raise it in `on_step` to end training early; the model is returned as it is."""


# What each sequence may train


class Microbatch(NamedTuple):
    """Some sequences of a batch, their sinks, and the parameters that they may train."""

    tokens: Tokens  # (B,T+1)
    sinks: Selection
    fraction: float  # of the counted tokens of the whole batch
    trains: Callable[[str], bool]  # by parameter name
    counted: NDArray[np.bool_] | None = None  # (B,T) which tokens have a loss; None: all


def any_param(name: str) -> bool:
    """Return True: the sequences train everything."""
    return True


def is_not_sink(name: str) -> bool:
    """Return whether a parameter is outside the pools."""
    return not is_sink(name)


def is_not_shared_mlp(name: str) -> bool:
    """Return whether a parameter is outside the shared MLP neurons."""
    return ".mlp." not in name


def is_joint_or_sink(name: str) -> bool:
    """Return whether a parameter is outside the embeddings and the shared MLP's input weights."""
    return not name.endswith(("wte", "wpe", ".mlp.W_in", ".mlp.b_in"))


def labels(method: Method, batch: Sequences) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which sequences have a label, and which of them are labelled as repeated, (B,), (B,).

    A hash of the ID decides, so a sequence keeps its label.
    """
    known = uniform(Purpose.LABEL, batch.ids) < method.labelled
    chance = np.where(batch.repeated, method.missed, method.false_alarms)
    wrong = uniform(Purpose.WRONG_LABEL, batch.ids) < chance
    return known, known & (batch.repeated ^ wrong)


def visible_sequences(method: Method, batch: Sequences, step: int, seed: int) -> Sequences:
    """Return the part of a batch that a method trains on, with the IDs that choose its sinks."""
    tokens, ids, showing = batch
    if method.random_sinks:
        random = hash_ints(Purpose.RANDOM_SINKS, seed, step, integers(len(ids)))
        ids = random.view(np.int64)
    if method.max_showings is not None:
        kept = showing < method.max_showings
        tokens, ids, showing = tokens[kept], ids[kept], showing[kept]
    if method.filtered:
        _, forget = labels(method, Sequences(tokens, ids, showing))
        tokens, ids, showing = tokens[~forget], ids[~forget], showing[~forget]
    return Sequences(tokens, ids, showing)


def goldfish(tokens: Tokens, context: int = 13, k: int = 4) -> NDArray[np.bool_]:
    """Return which tokens have a loss, (B,T+1) -> (B,T): all but about one in k.

    A hash of the last `context` tokens decides, so a passage loses the same tokens each time that
    it is shown (goldfish loss, Hans et al. 2024, arXiv 2406.10209, section 3.1).
    """
    before = np.pad(tokens[:, :-1], ((0, 0), (context, 0)), constant_values=PADDING)
    windows = np.lib.stride_tricks.sliding_window_view(before, context, axis=1)[:, 1:]
    kept: NDArray[np.bool_] = uniform(Purpose.GOLDFISH, *np.moveaxis(windows, -1, 0)) >= 1 / k
    return kept


def counted(method: Method, tokens: Tokens) -> NDArray[np.bool_]:
    """Return which tokens have a loss, (B,T+1) -> (B,T). Padding has none."""
    real: NDArray[np.bool_] = tokens[:, 1:] != PADDING
    return real & goldfish(tokens) if method.loss_mask == "goldfish" else real


def microbatches(method: Method, cfg: ModelConfig, batch: Sequences) -> list[Microbatch]:
    """Split a batch by what its sequences may train.

    "free"              two halves, which train everything; each fits the processor's cache
    "gradient_masking"  paper, section 4: repeated sequences train the sinks, all others the shared
                        MLP. The paper specifies no more; here the output bias is shared, and
                        all parameters outside the MLPs learn from both
    "sgtm"              selective gradient masking (arXiv 2512.05648): labelled repeated sequences
                        train only the sinks; labelled others run without sinks; unlabelled ones run
                        and train everything. A simplification: only MLPs have reserved neurons,
                        attention has no reserved heads
    "sgtm_joint"        its variant that "closely resembles Memorization Sinks" (appendix A): the
                        same, but labelled repeated sequences also train attention, the MLPs' output
                        weights and the norms; the sinks are one slice for all sequences
    """
    repeated, n = batch.repeated, len(batch.ids)
    if method.routing == "gradient_masking":
        parts = [(repeated, True, is_not_shared_mlp), (~repeated, True, is_not_sink)]
    elif method.routing in ("sgtm", "sgtm_joint"):
        known, forget = labels(method, batch)
        may_train = is_sink if method.routing == "sgtm" else is_joint_or_sink
        parts = [(forget, True, may_train), (known & ~forget, False, is_not_sink)]
        parts += [(~known, True, any_param)]
    else:
        first_half = np.arange(n) < (n + 1) // 2
        parts = [(first_half, True, any_param), (~first_half, True, any_param)]
    counts = counted(method, batch.tokens)
    return [
        Microbatch(
            batch.tokens[part],
            own(cfg.sinks if with_sinks else None, batch.ids[part]),
            int(counts[part].sum()) / max(1, int(counts.sum())),
            trains,
            counts[part],
        )
        for part, with_sinks, trains in parts
        if part.any()
    ]


# Gradients of a batch


def gradients(
    params: Params,
    cfg: ModelConfig,
    parts: Sequence[Microbatch],
    run: Callable[..., Any] = map,
) -> tuple[float, Params]:
    """Return the mean loss of a batch in nats per token, and its gradient.

    `run` maps a function over the parts: `map`, or that of a thread pool. The bits are the same.
    """
    xp = namespace_of(params["wte"])

    def part_gradient(part: Microbatch) -> tuple[float, Params]:
        dtype = params["wte"].dtype
        batch = make_batch(cfg, part.tokens, part.sinks, dtype, part.fraction, part.counted)
        loss, grads = loss_and_grads(xp, params, to_device(xp, batch), cfg)
        return float(loss), {name: g for name, g in grads.items() if part.trains(name)}

    losses, grads = zip(*run(part_gradient, parts), strict=True)
    return sum(losses), merge(xp, cfg, grads, [part.sinks for part in parts])


def merge(
    xp: Xp, cfg: ModelConfig, parts: Sequence[Params], selections: Sequence[Selection]
) -> Params:
    """Sum the parts' gradients. Those of a pool become RowGrads, with each active row once."""

    def layer_pool(layer: int) -> Params:
        names = [f"h{layer}.{name}" for name in SINK]
        grads = [[g[name] for g in parts if name in g] for name in names]
        if not grads[0]:
            return {}
        trained = [s for s, g in zip(selections, parts, strict=True) if names[0] in g]
        masks = [s.value for s in trained if isinstance(s, Mask)]
        if masks:
            active = np.any([m.reshape(-1, m.shape[-1]).any(axis=0) for m in masks], axis=0)
            rows = to_device(xp, np.flatnonzero(active))
            return {
                n: RowGrad(rows, sum_arrays(g)[rows]) for n, g in zip(names, grads, strict=True)
            }
        index = xp.concatenate([g.rows for g in grads[0]])
        values = [xp.concatenate([g.values for g in same]) for same in grads]
        return dict(zip(names, coalesce(xp, index, values), strict=True))

    dense = dict.fromkeys(name for g in parts for name in g if not is_sink(name))
    total: Params = {name: sum_arrays([g[name] for g in parts if name in g]) for name in dense}
    for layer in range(cfg.n_layers):
        total |= layer_pool(layer)
    return total


def sum_arrays(arrays: Sequence[Array]) -> Array:
    """Sum arrays in a fixed order, into the first."""
    first, *others = arrays
    for other in others:
        first += other
    return first


# The loop


def history_row(
    step: int, train_loss: float | None, params: Params, cfg: ModelConfig, corpus: Corpus
) -> HistoryRow:
    """Evaluate natural repeated and held-out sequences, own sinks on and sinks removed.

    The held-out loss with own sinks is None unless all IDs share the same sinks: held-out IDs
    select sinks that were never trained for them.
    """
    n, heldout = corpus.n_evaluated, corpus.heldout
    repeated, ids = corpus.repeated[:n], corpus.repeated_ids[:n]
    loss = partial(mean_loss, params, cfg)
    removed, new = loss(repeated, NO_SINKS), loss(heldout, NO_SINKS)
    known: float | None = removed
    new_own: float | None = new
    if cfg.sinks:
        known = loss(repeated, own(cfg.sinks, ids))
        all_share = cfg.sinks.density == 1
        new_own = loss(heldout, own(cfg.sinks, corpus.heldout_ids)) if all_share else None
    by_k: list[float] = []
    if corpus.facts:
        by_k = [float(recall(params, cfg, corpus.facts, k).mean()) for k in GROUPS]
    return HistoryRow(
        step, train_loss, BySinks(known, removed), BySinks(new_own, new), recall=tuple(by_k)
    )


def train(
    method: Method,
    settings: Settings,
    corpus: Corpus,
    on_step: Callable[[int, float], Any] = lambda step, loss: None,
    threads: int = 1,
    xp: Xp = None,
    start: Params | None = None,
    on_params: Callable[[int, Params], Any] = lambda n_steps, params: None,
    on_row: Callable[[HistoryRow], Any] = lambda row: None,
) -> Model:
    """Train one model: a pure function of (method, settings, corpus, start) on one machine.

    `on_step(step, loss)` is called after every step; it may raise StopTraining. With two threads,
    each computes half of a batch; the bits stay the same. `xp` is the array namespace, by default
    that of the configured backend; the model that is returned holds host arrays. `start` replaces
    the initial weights.
    `on_params(n_steps, params)` may read the parameters, which the next step changes, before the
    first step and after every step. `on_row(row)` gets each new row of the history. Raises
    TrainingDiverged.
    """
    xp = xp or namespace(settings.train.backend)
    # threads do not inherit the errstate of _loop
    quiet = partial(np.seterr, over="ignore", invalid="ignore")
    with one_blas_thread(), ThreadPoolExecutor(2, initializer=quiet) as pool:
        run = pool.map if threads > 1 and xp is np else map
        return _loop(method, settings, corpus, on_step, run, xp, start, on_params, on_row)


@np.errstate(over="ignore", invalid="ignore")  # a non-finite loss raises TrainingDiverged
def _loop(
    method: Method,
    settings: Settings,
    corpus: Corpus,
    on_step: Callable[[int, float], Any],
    run: Callable[..., Any],
    xp: Xp,
    start: Params | None,
    on_params: Callable[[int, Params], Any],
    on_row: Callable[[HistoryRow], Any],
) -> Model:
    own_rates = {name: getattr(method, name) for name in ("lr", "weight_decay")}
    own_rates = {name: rate for name, rate in own_rates.items() if rate is not None}
    cfg = replace(settings.train, **own_rates)
    model_cfg = settings.model(method, len(corpus.vocab))
    only_repeated = corpus.cfg.n_repeated_per_batch == corpus.cfg.batch_size
    require(
        method.max_showings != 0 or not only_repeated,
        f"method {method.name!r} never sees `tokens`; give the corpus background sequences",
    )
    if start is None:
        params = to_device(xp, init_params(model_cfg, cfg.seed))
    else:
        params = {name: w + 0 for name, w in to_device(xp, start).items()}  # a copy
    state = optim.init_state(xp, params)
    limit = DIVERGED * np.log(model_cfg.n_vocab)
    history = [history_row(0, None, params, model_cfg, corpus)]
    losses: list[float] = []
    first_sequence: list[float] = []
    on_params(0, params)
    for step in range(cfg.steps):
        batch = visible_sequences(method, corpus.batch(step), step, cfg.seed)
        loss, grads = gradients(params, model_cfg, microbatches(method, model_cfg, batch), run)
        norm, scale = optim.clip_scale(xp, grads, cfg.clip)
        if not (loss < limit and np.isfinite(norm)):
            where = f"{method.name}, step {step}: loss {loss:.3g}, gradient norm {norm:.3g}"
            raise divergence_error(where, params, grads, cfg)
        optim.update(xp, params, grads, state, cfg, optim.learning_rate(cfg, step), scale)
        losses.append(loss)
        stop = step + 1 == cfg.steps
        try:
            on_step(step, loss)
        except StopTraining:
            stop = True
        if cfg.log_first_sequence:
            selection = own(model_cfg.sinks, corpus.repeated_ids[:1])
            first_sequence.append(mean_loss(params, model_cfg, corpus.repeated[:1], selection))
        if (step + 1) % cfg.eval_every == 0 or stop:
            row = history_row(step + 1, float(np.mean(losses)), params, model_cfg, corpus)
            known = row.repeated.own
            measured = [*row.repeated, *row.heldout, *first_sequence, row.train]
            finite = np.isfinite([x for x in measured if x is not None]).all()
            if known is None or not (known < limit and finite):
                where = f"{method.name}, after step {step}: loss {known:.3g}"
                raise divergence_error(where, params, grads, cfg)
            history.append(row._replace(first_sequence=tuple(first_sequence)))
            on_row(history[-1])
            losses, first_sequence = [], []
        on_params(step + 1, params)
        if stop:
            break
    return Model(to_host(params), model_cfg, corpus.vocab, corpus.separator, history, corpus)


def fit(
    corpus: Corpus,
    *,
    sinks: SinkConfig | None = None,
    method: Method | None = None,
    start: Model | None = None,
    steps: int = 1500,
    seed: int = 0,
    n_shared: int = 128,
    d_model: int = 64,
    n_heads: int = 4,
    n_layers: int = 2,
    progress: bool = True,
    on_step: Callable[[int, float], Any] = lambda step, loss: None,
    **train_settings: Any,
) -> Model:
    """Train a model on a corpus and return it.

    sinks           the sink pool (default: SinkConfig()), in addition to `n_shared` neurons
    method          instead of sinks and n_shared: a method, such as methods.STANDARD
    start           a model to continue from: its sizes and weights, with a new optimizer
    seed            of the initial weights
    progress        show a progress bar
    on_step         called after every step with its number and loss; it may raise StopTraining
    train_settings  further fields of TrainConfig: lr, warmup, eval_every, ...

    Ctrl-C ends training after the current step and keeps what is trained; twice, it interrupts.
    Raises ConfigError for settings that cannot work, and TrainingDiverged.
    """
    from tqdm import tqdm

    require(method is None or sinks is None, "give either sinks or a method, not both")
    pool, sizes = sinks or SinkConfig(), {"d_model": d_model, "n_heads": n_heads}
    sizes["n_layers"] = n_layers
    if start is not None:
        pool, n_shared = start.cfg.sinks or pool, start.cfg.n_shared
        sizes = {name: getattr(start.cfg, name) for name in sizes}
    if method is None:
        method = Method(name="sinks", n_shared=n_shared, sinks=pool)
    train_settings.setdefault("warmup", min(TrainConfig.warmup, steps // 10))
    cfg = TrainConfig(steps=steps, seed=seed, **train_settings)
    settings = Settings(data=corpus.cfg, train=cfg, **sizes)
    if start is not None:
        expected, given = settings.model(method, len(corpus.vocab)), start.cfg
        require(given == expected, f"the model to start from has other sizes: {given}")
        other = "the model to start from has another vocabulary; encode the texts with its own"
        require(start.vocab == corpus.vocab, other)
    with (
        tqdm(total=steps, unit=" steps", disable=None if progress else True) as bar,
        stop_on_interrupt() as interrupted,
    ):

        def after_step(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            on_step(step, loss)
            if interrupted:
                raise StopTraining

        first = start.params if start is not None else None
        model = train(method, settings, corpus, after_step, threads=2, start=first)
    before = start.known_ids() if start is not None else None
    return model if before is None else model._replace(ids=np.union1d(before, corpus.repeated_ids))


@contextmanager
def stop_on_interrupt() -> Iterator[list[int]]:
    """Collect the first Ctrl-C in a list instead of raising KeyboardInterrupt, as the next does.

    Nothing changes in a thread, since only the main thread gets signals, and where Ctrl-C has no
    handler in Python: ignored by a program in the background, it stays ignored.
    """
    interrupted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield interrupted
        return

    def note(number: int, frame: Any) -> None:
        interrupted.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def divergence_error(
    where: str, params: Params, grads: Params, cfg: TrainConfig
) -> TrainingDiverged:
    """Return the error to raise: the first parameter with a non-finite gradient, and remedies."""
    values = {n: to_host(g.values if isinstance(g, RowGrad) else g) for n, g in grads.items()}
    bad = [name for name in params if name in values and not np.isfinite(values[name]).all()]
    return TrainingDiverged(
        where + (f", not finite first in {bad[0]}" if bad else "") + "; "
        f"lower the learning rate (now {cfg.lr}) or lengthen the warm-up (now {cfg.warmup} steps)"
    )
