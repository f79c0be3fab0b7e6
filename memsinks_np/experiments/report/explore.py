"""A page with a trained model running in it, explore.html: one file that needs no network.

Two models are trained: one with sinks, and one that never sees the repeated documents. The page has
their losses on some documents at moments of the training, and the first one's final weights as
bytes. All numbers of the last step are measured with these rounded weights, so what the page
computes can be compared with them.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from memsinks_np import metrics
from memsinks_np._internal.backend import to_host
from memsinks_np._internal.typing import Array, Params
from memsinks_np.config import ModelConfig, require, require_sinks
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.data.people import GROUPS, LENGTH, N_WORDS, SHOWINGS, VALUE_PLACES
from memsinks_np.experiments.methods import Preset, job, methods_of
from memsinks_np.experiments.recall import CHANCE, Measured, measure
from memsinks_np.experiments.report.claims import QUICK
from memsinks_np.experiments.runner import cache
from memsinks_np.experiments.runner.cache import Job
from memsinks_np.metrics import extracted, greedy, predict, values_right
from memsinks_np.sinks import NO_SINKS, Rows, active, delete, own
from memsinks_np.train import train
from memsinks_np.trained import Model

N_MOMENTS = 15  # of the training
SHOWN = {1: 4, 4: 4, 64: 4}  # k -> documents in the page
N_CHOICES = 4  # of the sinks that stay on, when a part is off
STEP = 1e-3  # nats, between two stored losses


def moments(steps: int) -> list[int]:
    """Return the training steps to record, from 0 to the last, closer to each other at first."""
    return sorted({round(steps * (i / (N_MOMENTS - 1)) ** 2) for i in range(N_MOMENTS)})


def group_of(corpus: Corpus) -> NDArray[np.int64]:
    """Return k for each repeated document: how many documents state its facts."""
    assert corpus.facts
    group: NDArray[np.int64] = corpus.facts.world.group[corpus.facts.repeated[:, 0]]
    return group


def shown(corpus: Corpus) -> NDArray[np.int64]:
    """Return the repeated documents to show, the first ones of some groups."""
    group = group_of(corpus)
    return np.concatenate([np.flatnonzero(group == k)[:n] for k, n in SHOWN.items()])


# The model as bytes


def rounded(params: Params) -> Params:
    """Return float32 parameters as the page has them: matrices as int8, with a scale per row."""
    floats, ints = split(params)
    out: Params = {}
    for name, w in params.items():
        if w.ndim == 1:
            out[name], floats = floats[: w.size], floats[w.size :]
            continue
        n = len(w)
        out[name] = (floats[:n, None] * ints[: w.size].reshape(w.shape)).astype(np.float32)
        floats, ints = floats[n:], ints[w.size :]
    return out


def split(params: Params) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return all vectors and the scales of all rows, then all matrices divided by their scales."""
    floats, ints = [], []
    for w in params.values():
        if w.ndim == 1:
            floats.append(w)
            continue
        scale = np.maximum(np.abs(w).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
        floats.append(scale)
        ints.append(np.rint(w / scale[:, None]).astype(np.int8).ravel())
    return np.concatenate(floats).astype(np.float32), np.concatenate(ints)


def text_of(array: Array, kind: str) -> str:
    """Return an array as base64 of little-endian numbers."""
    return base64.b64encode(np.ascontiguousarray(array).astype(kind).tobytes()).decode()


# What is measured


def look(params: Params, cfg: ModelConfig, corpus: Corpus) -> dict[str, Any]:
    """Return losses of the shown documents, their continuations, and recall by k.

    "own" has each document's sinks on, "other" those of the next document, "removed" none.
    """
    index = shown(corpus)
    tokens, ids, half = corpus.repeated[index], corpus.repeated_ids[index], LENGTH // 2
    selections: dict[str, Any] = {"removed": NO_SINKS}
    if cfg.sinks:
        selections |= {"own": own(cfg.sinks, ids), "other": own(cfg.sinks, np.roll(ids, -1))}
    losses = {name: predict(params, cfg, tokens, s)[0] for name, s in selections.items()}
    says = {
        name: greedy(params, cfg, tokens[:, :half], LENGTH - half, s)[:, half:]
        for name, s in selections.items()
    }
    recall = Measured(*measure(Model(params, cfg, corpus.vocab, corpus.separator, [], corpus)))
    return {
        "losses": {name: np.rint(x / STEP).astype(int).tolist() for name, x in losses.items()},
        "says": {name: x.tolist() for name, x in says.items()},
        "recall": {
            "own": recall.own,
            "removed": [float(np.mean(x)) for x in recall.removed[: len(GROUPS)]],
        },
    }


def partly_off(params: Params, cfg: ModelConfig, corpus: Corpus) -> dict[str, Any]:
    """Return what documents that alone state their facts keep when a part of their sinks is on.

    The sinks that stay on are the first ones of each document, and the first after rotations.
    """
    alone = group_of(corpus) == 1
    tokens, index = corpus.repeated[alone], active(require_sinks(cfg), corpus.repeated_ids[alone])
    A, rows = index.shape[1], []
    for n in range(A, -1, -1):
        each = []
        for choice in range(N_CHOICES):
            some = np.roll(index, choice * A // N_CHOICES, axis=1)[:, :n]
            nll, likeliest = predict(params, cfg, tokens, Rows(some) if n else NO_SINKS)
            right, recited = values_right(tokens, likeliest), extracted(tokens, likeliest)
            each.append((metrics.mean_of(nll), right.mean(), recited.mean()))
        names = ("loss", "answers", "recited")
        rows.append({"on": n} | dict(zip(names, np.mean(each, axis=0).tolist(), strict=True)))
    return {"documents": len(tokens), "rows": rows}


def deletions(params: Params, cfg: ModelConfig, corpus: Corpus) -> list[dict[str, Any]]:
    """Delete each shown document in turn; return how many facts of the others stay right.

    "same" are the other documents that state facts of the deleted one, "rest" all that remain.
    """
    assert corpus.facts
    pool, tokens, ids = require_sinks(cfg), corpus.repeated, corpus.repeated_ids
    selection, stated = active(pool, ids), corpus.facts.repeated
    before = values_right(tokens, predict(params, cfg, tokens, Rows(selection))[1])
    rows = []
    for i in shown(corpus):
        fewer = delete(params, pool, ids[[i]])
        shares = np.isin(selection, selection[i]).sum(axis=1)
        near = np.flatnonzero(shares)  # all others compute what they did before
        after = before.copy()
        likeliest = predict(fewer, cfg, tokens[near], Rows(selection[near]))[1]
        after[near] = values_right(tokens[near], likeliest)
        same = np.isin(stated, stated[i])
        same[i] = False
        rest = ~same
        rest[i] = False
        rows.append(
            {
                "sharing": len(near) - 1,
                "shared": float(shares.sum() - len(selection[i])) / (len(ids) - 1),
                "same": [int(x[same].sum()) for x in (before, after)] + [int(same.sum())],
                "rest": [int(x[rest].sum()) for x in (before, after)] + [int(rest.sum())],
            }
        )
    return rows


def elsewhere(params: Params, cfg: ModelConfig, corpus: Corpus) -> list[list[int]]:
    """Return for each shown document how often its facts are recalled in new documents.

    The sinks are removed. The second number counts the questions.
    """
    assert corpus.facts
    facts, rows = corpus.facts, []
    for i in shown(corpus):
        k = int(group_of(corpus)[i])
        tokens, new = facts.documents(k), facts.new[k]
        right = values_right(tokens, predict(params, cfg, tokens, NO_SINKS)[1])
        asked = np.isin(new, facts.repeated[i])
        rows.append([int(right[asked].sum()), int(asked.sum())])
    return rows


def record(job: Job, on_step: Any, threads: int) -> dict[str, Any]:
    """Train a model and return what the page shows of it, as JSON."""
    corpus, cfg, looks = load_corpus(job.settings.data), config_of(job), {}
    steps = moments(job.settings.train.steps)

    def on_params(n_steps: int, params: Params) -> None:
        if n_steps in steps[:-1]:
            looks[n_steps] = look(to_host(params), cfg, corpus)

    model = train(job.method, job.settings, corpus, on_step, threads, on_params=on_params)
    params = rounded(model.params)
    looks[steps[-1]] = look(params, cfg, corpus)
    out: dict[str, Any] = {"steps": steps, "looks": list(looks.values())}
    if cfg.sinks is None:
        return out
    floats, ints = split(model.params)
    both = (model.params, params)
    selection = own(cfg.sinks, corpus.repeated_ids)
    errors = [metrics.mean_loss(p, cfg, corpus.repeated, selection) for p in both]
    return out | {
        "shapes": [[name, list(w.shape)] for name, w in params.items()],
        "floats": text_of(floats, "<f4"),
        "ints": text_of(ints, "i1"),
        "rounding": [*errors, *(metrics.mean_loss(p, cfg, corpus.heldout, None) for p in both)],
        "partly": partly_off(params, cfg, corpus),
        "deletions": deletions(params, cfg, corpus),
        "elsewhere": elsewhere(params, cfg, corpus),
    }


def recorded(job: Job, folder: Path, fresh: bool) -> Any:
    """Return the job's record: from the cache if it is there, else train and store it."""
    path = cache.result_path(folder, job, cache.fingerprint(job))
    if fresh or not path.exists():
        steps = job.settings.train.steps
        with tqdm(total=steps, unit=" steps", disable=None, leave=False) as bar:
            on_step = lambda step, loss: bar.update()
            cache.save_result(path, record(job, on_step, threads=2))
        print(f"{job}: {steps:,} steps", file=sys.stderr)
    return cache.load_result(path)


def explore_jobs(preset: Preset) -> dict[str, Job]:
    """Return the two models to train. Raises ConfigError for settings that cannot work."""
    name, methods = preset.settings.data.corpus, methods_of(preset)
    require(name == "people", f"--corpus {name} has no page to explore; leave --corpus out")
    jobs = {name: job(preset, methods[name], 0, record) for name in ("sinks", "retrained")}
    for each in jobs.values():
        config_of(each)
    return jobs


def config_of(job: Job) -> ModelConfig:
    """Return the sizes of a job's model."""
    return job.settings.model(job.method, len(load_corpus(job.settings.data).vocab))


def collect(jobs: dict[str, Job], folder: Path, quick: bool, fresh: bool) -> dict[str, Any]:
    """Train the two models, or read what an earlier command recorded; return the page's data."""
    sinks, never = (recorded(job, folder, fresh) for job in jobs.values())
    corpus = load_corpus(jobs["sinks"].settings.data)
    data = page_data(corpus, config_of(jobs["sinks"]), sinks, never)
    return data | {"quick": QUICK if quick else ""}


# The page

VERSIONS = {  # name in the page -> method, sinks
    "own": ("sinks", "own"),
    "other": ("sinks", "other"),
    "removed": ("sinks", "removed"),
    "never": ("retrained", "removed"),
}


def page_data(corpus: Corpus, cfg: ModelConfig, sinks: Any, never: Any) -> dict[str, Any]:
    """Return everything that the page shows, as JSON."""
    pool, index = require_sinks(cfg), shown(corpus)
    looks = {"sinks": sinks["looks"], "retrained": never["looks"]}
    tables = {
        what: np.array([[x[what][s] for x in looks[m]] for m, s in VERSIONS.values()])
        for what in ("losses", "says")  # (version, moment, document, word)
    }
    documents = [
        {"k": k, "tokens": tokens, "sinks": on, "deletion": d, "elsewhere": e}
        for k, tokens, on, d, e in zip(
            group_of(corpus)[index].tolist(),
            corpus.repeated[index].tolist(),
            active(pool, corpus.repeated_ids[index]).tolist(),
            sinks["deletions"],
            sinks["elsewhere"],
            strict=True,
        )
    ]
    return {
        "vocab": corpus.vocab,
        "heads": cfg.n_heads,
        "layers": cfg.n_layers,
        "width": cfg.d_model,
        "shared": cfg.n_shared,
        "pool": pool.n_sink,
        "active": pool.n_active,
        "documents": documents,
        "allDocuments": len(corpus.repeated),
        "showings": SHOWINGS,
        "values": VALUE_PLACES,
        "sentence": N_WORDS,
        "half": LENGTH // 2,
        "steps": sinks["steps"],
        "versions": list(VERSIONS),
        "step": STEP,
        "losses": text_of(tables["losses"].clip(0, 65535), "<u2"),
        "says": text_of(tables["says"], "<u2"),
        "groups": GROUPS,
        "chance": CHANCE,
        "recall": {
            "own": [x["recall"]["own"] for x in sinks["looks"]],
            "removed": [x["recall"]["removed"] for x in sinks["looks"]],
            "never": [x["recall"]["removed"] for x in never["looks"]],
        },
        **{name: sinks[name] for name in ("shapes", "floats", "ints", "rounding", "partly")},
    }


def explore_page(data: dict[str, Any]) -> str:
    """Return the page."""
    here = Path(__file__)
    html, css, js = (
        here.with_suffix(kind).read_text(encoding="utf-8") for kind in (".html", ".css", ".js")
    )
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"/* explore.css */": css, "/* explore.js */": js, "/* data */": text}
    for mark, part in parts.items():
        html = html.replace(mark, part)
    return html
