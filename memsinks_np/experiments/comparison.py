"""What most experiments do: train some arms under some seeds, measure each, set it beside its references."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from memsinks_np import metrics, samples
from memsinks_np.arms import Preset, rivals, seeded
from memsinks_np.config import Arm
from memsinks_np.data import load_corpus
from memsinks_np.experiments import Plan
from memsinks_np.grid import Job
from memsinks_np.memory_map import word_losses
from memsinks_np.report import over_seeds
from memsinks_np.train import Trained

Result = dict[str, Any]
SPEAKERS = ("standard", "memsinks", "retrained_without")
REFERENCES = ("standard", "retrained_without")


def measure(job: Job, trained: Trained, delete: int) -> Result:
    """In a worker: an arm's numbers and history, and what it says."""
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.arm, len(corpus.vocab))
    row = metrics.measure(trained.params, model, corpus)
    tied = job.arm.tied_ids and job.arm.routing == "free"  # else deleting one sequence's sinks has no meaning
    few = len(corpus.repeated) <= 100  # and deleting each of many takes too long
    row |= metrics.deletion(trained.params, model, corpus) if tied and few else metrics.NO_DELETION
    known: Callable[[Any], float | None] = corpus.floor or (lambda tokens: None)
    floor = {"repeated": known(corpus.repeated[: corpus.cfg.n_repeated]), "heldout": known(corpus.heldout)}
    found: Result = {"row": row, "history": trained.history, "floor": floor, "said": None, "words": None}
    if job.arm.name in SPEAKERS and job.settings.train.seed == 0:
        found |= {"said": samples.speak(job, trained, delete), "words": word_losses(job, trained)}
    return found


def compare(plan: Plan, presets: Mapping[str, tuple[Preset, Mapping[str, Arm]]]) -> dict[str, Result]:
    """For each named preset: its arms, measured under every seed and set beside the references that are among them.

    -> {name: {"floor", "arms": {arm: {"seeds": [row, ...], "mean", "std"}}, "history": [row, ...]}}
    """
    runs = [
        (name, seeded(preset, arm, seed))
        for seed in range(plan.seeds)
        for name, (preset, arms) in presets.items()
        for arm in arms.values()
    ]
    found = plan.grid([job for _, job in runs], partial(measure, delete=plan.delete))
    results: dict[str, Result] = {}
    for name in presets:
        of = {
            (job.arm.name, job.settings.train.seed): one for (n, job), one in zip(runs, found, strict=True) if n == name
        }
        rows: dict[str, list[dict[str, Any]]] = {}
        history = []
        for (arm, seed), one in of.items():
            row = {"seed": seed, **one["row"]}
            if all((reference, seed) in of for reference in REFERENCES):
                row |= metrics.compare(row, *(of[reference, seed]["row"] for reference in REFERENCES))
            rows.setdefault(arm, []).append(row)
            history += [{"arm": arm, "seed": seed, **point} for point in one["history"]]
        results[name] = {
            "floor": over_seeds([one["floor"] for one in of.values()])["mean"],
            "arms": {arm: over_seeds(seeds) for arm, seeds in rows.items()},
            "history": history,
        }
    return results


def spoken(plan: Plan) -> dict[str, dict[str, Result]]:
    """What the speakers of seed 0 said, and what every word cost them; kept since `compare` measured them."""
    arms = rivals(plan.preset)
    jobs = [seeded(plan.preset, arms[name], 0) for name in SPEAKERS]
    found = dict(zip(SPEAKERS, plan.grid(jobs, partial(measure, delete=plan.delete)), strict=True))
    return {what: {name: one[what] for name, one in found.items()} for what in ("said", "words")}


def values(result: Result, arm: str, field: str) -> list[float]:
    """An arm's number, seed by seed."""
    return [row[field] for row in result["arms"][arm]["seeds"]]


def mean(result: Result, arm: str, field: str) -> float:
    """An arm's number, mean over seeds."""
    return float(result["arms"][arm]["mean"][field])


def curve(result: Result, arm: str, field: str) -> dict[int, float]:
    """Step -> mean over seeds."""
    points: dict[int, list[dict[str, Any]]] = {}
    for row in result["history"]:
        if row["arm"] == arm:
            points.setdefault(row["step"], []).append({field: row[field]})
    return {step: over_seeds(rows)["mean"][field] for step, rows in points.items()}
