"""One sink asleep, step by step; methods under two optimizers; finished sinks under long weight decay."""

from dataclasses import replace
from typing import Any

import numpy as np

from memsinks_np import metrics, optim
from memsinks_np.config import Optimizer, TrainConfig, require_sinks
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import methods_of, seeded
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.experiments.simulations import anywhere
from memsinks_np.sinks import Params, active, own
from memsinks_np.train import Model

WIDTH, ON, OFF = 64, 50, 400  # one sink of 64 weights: steps that it is on, then off
RARER = 5  # times as many repeated sequences: each returns so much later
SLEEPS = (
    0,
    100,
    300,
    1000,
    3000,
    10_000,
    30_000,
)  # steps asleep under weight decay, at the largest learning rate
NAMES: dict[Optimizer, str] = {"lazy_adamw": "lazy AdamW", "adamw": "AdamW"}
METHODS = dict.fromkeys(("often", "rarely"), tuple(NAMES))


def run(plan: Context) -> dict[str, Any]:
    """Follow one sink after its last activation; train memsinks under two optimizers; let finished sinks sleep."""
    jobs = {
        (often, o): jobs_of(plan, often, o)
        for often, optimizers in METHODS.items()
        for o in optimizers
    }
    found = iter(plan.grid([job for of in jobs.values() for job in of], measure))
    s, pool = plan.preset.settings, require_sinks(methods_of(plan.preset)["paper_sinks"])
    returns = s.data.n_repeated / s.data.n_repeated_per_batch
    return {
        "traces": traces(s.train),
        "half_life": float(np.log(0.5) / np.log(1 - s.train.lr * s.train.weight_decay)),
        "asleep_paper": (1 - pool.density) ** s.data.batch_size,
        "returns": {"often": returns, "rarely": RARER * returns},
        "methods": {
            often: {o: [next(found) for _ in jobs[often, o]] for o in METHODS[often]}
            for often in METHODS
        },
    }


def jobs_of(plan: Context, often: str, optimizer: Optimizer) -> list[Job]:
    """The method memsinks under an optimizer, for every seed, its sequences repeated often or rarely."""
    s = plan.preset.settings
    data = replace(s.data, n_repeated=s.data.n_repeated * (1 if often == "often" else RARER))
    preset = plan.preset._replace(
        settings=replace(s, data=data, train=replace(s.train, optimizer=optimizer))
    )
    return [seeded(preset, methods_of(preset)["sinks"], seed) for seed in range(plan.seeds)]


def measure(job: Job, trained: Model) -> dict[str, Any]:
    """In a worker: losses, their history, the share of steps that a sink sleeps, and the loss after long sleeps."""
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.method, len(corpus.vocab))
    own_sinks = own(model.sinks, corpus.repeated_ids)
    awake = [
        len(np.unique(active(require_sinks(model), corpus.batch(step).ids))) for step in range(20)
    ]
    slept = [
        metrics.mean_loss(
            asleep(trained.params, job.settings.train, steps), model, corpus.repeated, own_sinks
        )
        for steps in SLEEPS
    ]
    history = [
        {"step": row["step"], "repeated.own": row["repeated.own"]} for row in trained.history
    ]
    row = dict(metrics.measure(trained.params, model, corpus))
    return row | {
        "asleep": 1 - float(np.mean(awake)) / require_sinks(model).n_sink,
        "slept": slept,
        "history": history,
    }


def asleep(params: Params, train: TrainConfig, steps: int) -> Params:
    """What ordinary AdamW leaves of all sinks after so many steps off: matrices shrink by (1 - lr decay) each."""
    factor = (1 - train.lr * train.weight_decay) ** steps
    return {
        n: factor * w if ".sink." in n and optim.has_weight_decay(n) else w
        for n, w in params.items()
    }


def traces(train: TrainConfig) -> dict[str, list[float]]:
    """Mean distance that a sink's weights have moved since its last activation, in learning rates, step by step."""
    kinds = {
        "AdamW": replace(train, optimizer="adamw"),
        "AdamW, no decay": replace(train, optimizer="adamw", weight_decay=0.0),
        "AdamW, no momentum": replace(train, optimizer="adamw", betas=(0.0, train.betas[1])),
        "lazy AdamW": replace(train, optimizer="lazy_adamw"),
        "SGD": replace(train, optimizer="sgd"),
    }
    return {name: trace(cfg).tolist() for name, cfg in kinds.items()}


def trace(cfg: TrainConfig, on: int = ON, off: int = OFF) -> Any:  # -> (off+1,)
    """Sink 0 is on for `on` steps, with gradients of one direction and as much noise, then off; sink 1 stays on."""
    gradients = anywhere(1, WIDTH, 0) + anywhere(on + off, WIDTH, 1)
    # a pool never travels alone: the state needs a parameter outside of it
    params = {
        "wte": np.zeros((1, 1)),
        "h0.sink.W_out": np.sqrt(WIDTH) * 0.05 * anywhere(2, WIDTH, 2),
    }
    state = optim.init_state(np, params)
    seen = []
    for step, g in enumerate(gradients):
        rows = np.array([0, 1]) if step < on else np.array([1])
        grads = {"wte": np.zeros((1, 1)), "h0.sink.W_out": (rows, np.stack([g] * len(rows)))}
        optim.update(np, params, grads, state, cfg, cfg.lr)
        seen.append(params["h0.sink.W_out"][0].copy())
    return np.abs(np.array(seen[on - 1 :]) - seen[on - 1]).mean(axis=1) / cfg.lr
