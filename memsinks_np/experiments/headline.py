"""The rivals side by side: is the memory gone, is the skill kept, and is forced isolation a mirage?"""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt

from memsinks_np import metrics, plots
from memsinks_np.arms import Preset, jobs_of
from memsinks_np.data import load_corpus
from memsinks_np.grid import Job, run_all, train_once
from memsinks_np.report import Claim, number, over_seeds, spread, table
from memsinks_np.samples import Speaker, tell
from memsinks_np.train import Trained


class Result(NamedTuple):
    """What the run found."""

    preset: Preset
    jobs: list[Job]
    summary: dict[str, Any]
    history: list[dict[str, Any]]  # one row per arm, seed and evaluation


def measure(job: Job, trained: Trained) -> dict[str, Any]:
    """In a worker: an arm's numbers and history."""
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.arm, len(corpus.vocab))
    row = metrics.measure(trained.params, model, corpus)
    tied = job.arm.tied_ids and not job.arm.routed  # else deleting one sequence's sinks has no meaning
    row |= metrics.deletion(trained.params, model, corpus) if tied else metrics.NO_DELETION
    known = corpus.floor or (lambda tokens: None)
    floor = {"repeated": known(corpus.repeated[: corpus.cfg.n_repeated]), "heldout": known(corpus.heldout)}
    return {"row": row, "history": trained.history, "floor": floor}


def run(preset: Preset, seeds: int, cache: Path, workers: int = 0, threads: int = 1) -> Result:
    """Train every arm for seeds 0 to `seeds`-1 (or find it in the cache) and measure it."""
    jobs = [job for seed in range(seeds) for job in jobs_of(preset, seed)]
    found = run_all(jobs, cache, measure, workers, threads)
    of = {(job.arm.name, job.settings.train.seed): one for job, one in zip(jobs, found, strict=True)}
    rows: dict[str, list] = {}
    history = []
    for (name, seed), one in of.items():
        references = (of["standard", seed]["row"], of["retrained_without", seed]["row"])
        rows.setdefault(name, []).append({"seed": seed, **one["row"], **metrics.compare(one["row"], *references)})
        history += [{"arm": name, "seed": seed, **point} for point in one["history"]]
    floor = over_seeds([one["floor"] for one in found])["mean"]
    arms = {name: over_seeds(seeds_of) for name, seeds_of in rows.items()}
    return Result(preset, jobs, {"floor": floor, "arms": arms}, history)


def claims(result: Result) -> list[Claim]:
    """What the headline is there to show, each with the number that decides it (mean over seeds)."""
    mean = {name: entry["mean"] for name, entry in result.summary["arms"].items()}
    std, sinks, gm = mean["standard"], mean["memsinks"], mean["gradient_masking"]
    untied, paper, gold = mean["untied"], mean["memsinks_paper"], mean["retrained_without"]
    dip = min(curve(result, "memsinks_paper", "repeated_removed").values())
    kept, cut = (curve(result, "gradient_masking", field) for field in ("heldout_own", "heldout_removed"))
    steps = list(kept)
    rises = [cut[s] - kept[s] for s in (steps[round(share * (len(steps) - 1))] for share in (0.2, 0.6, 1.0))]
    return [
        Claim(
            "ordinary training memorizes what it sees repeatedly",
            "paper, Fig. 2c",
            f"repeated {number(std['repeated_own'])} against new {number(std['heldout_removed'])}, "
            f"{std['extraction_own']:.0%} extracted",
            std["repeated_own"] < 0.5 * std["heldout_removed"] and std["extraction_own"] > 0.5,
        ),
        Claim(
            "sinks hold the memory: with its own sinks on, a sequence is known by heart",
            "paper, Fig. 7",
            f"repeated {number(sinks['repeated_own'])}, {sinks['extraction_own']:.0%} extracted",
            sinks["repeated_own"] <= std["repeated_own"],
        ),
        Claim(
            "removing the sinks removes the memory, as if the sequences had never been seen",
            "ours; paper, Fig. 4b: largely",
            f"gold-gap closed {number(sinks['gold_gap_closed'])}, {sinks['extraction_removed']:.0%} extracted",
            abs(sinks["gold_gap_closed"] - 1) <= 0.03
            and sinks["extraction_removed"] <= gold["extraction_removed"] + 0.02,
        ),
        Claim(
            "and costs nothing on new text, against ordinary training",
            "paper, Fig. 4a",
            f"held-out {sinks['heldout_cost']:+.3f}",
            sinks["heldout_cost"] <= 0,
        ),
        Claim(
            "the paper's setting isolates too; the repeated loss dips, then rises again",
            "paper, Fig. 4b",
            f"gap closed {number(paper['gap_closed'])}; {number(dip)} at its lowest, "
            f"{number(paper['repeated_removed'])} at the end; held-out {paper['heldout_cost']:+.3f}",
            paper["gap_closed"] >= 0.5 and paper["repeated_removed"] > dip,
        ),
        Claim(
            "forced isolation learns less from the same data, with everything kept",
            "paper, Fig. 3",
            f"held-out {gm['heldout_all'] - std['heldout_removed']:+.3f}",
            gm["heldout_all"] > std["heldout_removed"],
        ),
        Claim(
            "and breaks when its sinks are removed, the more the longer it trained",
            "paper, Fig. 3",
            f"held-out {', '.join(f'{r:+.2f}' for r in rises)} after 20, 60, 100 % of the steps",
            1 < rises[-1] == max(rises) and rises == sorted(rises),
        ),
        Claim(
            "sinks that are not tied to the sequence do not isolate (control)",
            "ours",
            f"gap closed {number(untied['gap_closed'])}; held-out {untied['heldout_cost']:+.3f}",
            untied["gap_closed"] < 0.25,
        ),
        Claim(
            "deleting one sequence's sinks leaves the other memories in place",
            "ours",
            f"it {number(sinks['deleted_loss'])} (never seen: {number(gold['repeated_removed'])}), "
            f"the others {sinks['deleted_others_up']:+.3f}",
            sinks["deleted_others_up"] <= 0.02 and abs(sinks["deleted_loss"] - gold["repeated_removed"]) <= 0.1,
        ),
    ]


def curve(result: Result, arm: str, field: str) -> dict[int, float]:
    """Step -> mean over seeds."""
    points: dict[int, list[dict]] = {}
    for row in result.history:
        if row["arm"] == arm:
            points.setdefault(row["step"], []).append({field: row[field]})
    return {step: over_seeds(rows)["mean"][field] for step, rows in points.items()}


COLUMNS = {
    "repeated_own": "repeated, own sinks",
    "repeated_removed": "sinks removed",
    "heldout_removed": "new, sinks removed",
    "heldout_cost": "cost on new",
    "extraction_own": "extracted, own",
    "extraction_removed": "removed",
    "gap_closed": "gap closed",
    "gold_gap_closed": "gold-gap closed",
}


def tabulate(result: Result) -> str:
    """One row per arm: mean (± standard deviation over seeds) in nats per token, shares and ratios."""
    rows = [
        [name.replace("_", " "), *(spread(entry["mean"][c], entry["std"][c]) for c in COLUMNS)]
        for name, entry in result.summary["arms"].items()
    ]
    floor = result.summary["floor"]
    if floor["heldout"] is not None:
        rows.append(["entropy floor", number(floor["repeated"]), "", number(floor["heldout"]), *[""] * 5])
    return table(["arm", *COLUMNS.values()], rows)


def samples(result: Result, cache: Path, deleted: int) -> str:
    """What three arms of seed 0 say, given the first half of a repeated sequence."""
    corpus = load_corpus(result.jobs[0].settings.data)
    speakers = {
        job.arm.name: Speaker(train_once(job, cache).params, job.settings.model(job.arm, len(corpus.vocab)))
        for job in result.jobs
        if job.settings.train.seed == 0 and job.arm.name in ("standard", "memsinks", "retrained_without")
    }
    return tell(corpus, speakers, deleted)


# arm, what of it, line, label
GONE = [
    ("retrained_without", "repeated_removed", "-", "never saw them"),
    ("memsinks", "repeated_removed", "-", "sinks removed"),
    ("memsinks", "repeated_own", ":", "own sinks on"),
    ("memsinks_paper", "repeated_removed", "-", "paper's, removed"),
    ("untied", "repeated_removed", "-", "untied, removed"),
    ("standard", "repeated_removed", "-", "standard"),
]
KEPT = [
    ("gradient_masking", "heldout_own", "-", "gradient masking"),
    ("untied", "heldout_removed", "-", "untied, removed"),
    ("standard", "heldout_removed", "-", "standard"),
    ("memsinks_paper", "heldout_removed", "-", "paper's, removed"),
    ("memsinks", "heldout_removed", "-", "sinks removed"),
    ("retrained_without", "heldout_removed", "-", "never saw repeats"),
]
MIRAGE = [
    ("gradient_masking", "heldout_removed", "--", "gradient masking,\nsinks removed"),
    ("gradient_masking", "heldout_own", "-", "gradient masking,\neverything kept"),
    ("memsinks", "heldout_removed", "-", "memorization sinks,\nremoved"),
]


def draw(result: Result, folder: Path) -> list[Path]:
    """Three questions, three panels: headline.png and headline.svg in `folder`."""
    stories = result.preset.settings.data.corpus == "stories"
    what, unit = ("stories", "word") if stories else ("windows", "character")
    floor = result.summary["floor"]
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(14.5, 4.4), gridspec_kw={"wspace": 1.15})
        for ax, title, lines, role in zip(
            axes,
            (
                f"Repeated {what}: is the memory gone?",
                f"New {what}: is the skill kept?",
                "Forced isolation: a mirage",
            ),
            (GONE, KEPT, MIRAGE),
            ("repeated", "heldout", None),
            strict=True,
        ):
            ends = [(plots.curve(ax, result.history, a, field, line), label, a) for a, field, line, label in lines]
            plots.frame(ax, title, f"loss (nats per {unit})", "training step")
            if role == "heldout":
                plots.zoom(ax, [y for y, *_ in ends] + [floor[role] or ends[-1][0]])
            else:
                ax.set_ylim(0, 2 if role else None)
            plots.draw_floor(ax, floor.get(role), 0.5)
            plots.label_ends(ax, ends)
        return plots.save(fig, folder, "headline")
