"""What most experiments do: train some methods under some seeds, measure each, set it beside its references."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from memsinks_np import metrics
from memsinks_np.config import Method
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import Preset, methods_of, seeded
from memsinks_np.experiments.report import samples
from memsinks_np.experiments.report.claims import over_seeds
from memsinks_np.experiments.report.loss_map import word_losses
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.train import Model

Result = dict[str, Any]
SPEAKERS = ("standard", "sinks", "retrained")
REFERENCES = ("standard", "retrained")


def measure(job: Job, trained: Model, delete: int) -> Result:
    """In a worker: an method's numbers and history, and what it says."""
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.method, len(corpus.vocab))
    row = metrics.measure(trained.params, model, corpus)
    tied = job.method.random_sinks and job.method.routing == "free"  # else deleting one sequence's sinks has no meaning
    few = len(corpus.repeated) <= 100  # and deleting each of many takes too long
    row |= metrics.deletion(trained.params, model, corpus) if tied and few else metrics.NO_DELETION
    known: Callable[[Any], float | None] = corpus.entropy or (lambda tokens: None)
    floor = {"repeated": known(corpus.repeated[: corpus.cfg.n_repeated]), "heldout": known(corpus.heldout)}
    found: Result = {"row": row, "history": trained.history, "floor": floor, "said": None, "words": None}
    if job.method.name in SPEAKERS and job.settings.train.seed == 0:
        found |= {"said": samples.speak(job, trained, delete), "words": word_losses(job, trained)}
    return found


def compare(plan: Context, presets: Mapping[str, tuple[Preset, Mapping[str, Method]]]) -> dict[str, Result]:
    """For each named preset: its methods, measured under every seed and set beside the references that are among them.

    -> {name: {"floor", "methods": {method: {"seeds": [row, ...], "mean", "std"}}, "history": [row, ...]}}
    """
    runs = [
        (name, seeded(preset, method, seed))
        for seed in range(plan.seeds)
        for name, (preset, methods) in presets.items()
        for method in methods.values()
    ]
    found = plan.grid([job for _, job in runs], partial(measure, delete=plan.delete))
    results: dict[str, Result] = {}
    for name in presets:
        of = {
            (job.method.name, job.settings.train.seed): one for (n, job), one in zip(runs, found, strict=True) if n == name
        }
        rows: dict[str, list[dict[str, Any]]] = {}
        history = []
        for (method, seed), one in of.items():
            row = {"seed": seed, **one["row"]}
            if all((reference, seed) in of for reference in REFERENCES):
                row |= metrics.compare(row, *(of[reference, seed]["row"] for reference in REFERENCES))
            rows.setdefault(method, []).append(row)
            history += [{"method": method, "seed": seed, **point} for point in one["history"]]
        results[name] = {
            "floor": over_seeds([one["floor"] for one in of.values()])["mean"],
            "methods": {method: over_seeds(seeds) for method, seeds in rows.items()},
            "history": history,
        }
    return results


def spoken(plan: Context) -> dict[str, dict[str, Result]]:
    """What the speakers of seed 0 said, and what every word cost them; kept since `compare` measured them."""
    methods = methods_of(plan.preset)
    jobs = [seeded(plan.preset, methods[name], 0) for name in SPEAKERS]
    found = dict(zip(SPEAKERS, plan.grid(jobs, partial(measure, delete=plan.delete)), strict=True))
    return {what: {name: one[what] for name, one in found.items()} for what in ("said", "words")}


def values(result: Result, method: str, field: str) -> list[float]:
    """An method's number, seed by seed."""
    return [row[field] for row in result["methods"][method]["seeds"]]


def mean(result: Result, method: str, field: str) -> float:
    """An method's number, mean over seeds."""
    return float(result["methods"][method]["mean"][field])


def curve(result: Result, method: str, field: str) -> dict[int, float]:
    """Step -> mean over seeds."""
    points: dict[int, list[dict[str, Any]]] = {}
    for row in result["history"]:
        if row["method"] == method:
            points.setdefault(row["step"], []).append({field: row[field]})
    return {step: over_seeds(rows)["mean"][field] for step, rows in points.items()}
