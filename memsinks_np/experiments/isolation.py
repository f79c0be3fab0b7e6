"""Six methods on stories: is the memory gone, is the skill kept, is forced isolation a mirage?

On a text the same, by characters. In these corpora repetition teaches little that once-seen
sequences do not teach too; headline.py has a world in which it does.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from memsinks_np._internal.tables import number, table
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.comparison import Result, compare, compare_jobs, history_record
from memsinks_np.experiments.methods import job, label, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate, to_csv, to_json
from memsinks_np.experiments.report.loss_map import make_map, token_losses
from memsinks_np.experiments.report.samples import SAMPLED_METHODS, format_samples, sample

METHODS = (
    "standard",
    "retrained",
    "gradient_masking",
    "sinks",
    "paper_sinks",
    "random_sinks",
)


@dataclass(frozen=True)
class Isolation(Result):
    """The comparison, generated text, and the loss heat map."""

    corpus: str
    samples: str
    loss_map: dict[str, Any]


def jobs(context: Context) -> Jobs:
    """Train every method under every seed; from three, also take samples and token losses."""
    methods, preset = methods_of(context.preset), context.preset
    jobs = compare_jobs(context, preset, {name: methods[name] for name in METHODS})
    for name in SAMPLED_METHODS:
        take_samples = partial(sample, delete_id=context.delete_id)
        jobs["samples", name] = job(preset, methods[name], 0, take_samples)
        jobs["losses", name] = job(preset, methods[name], 0, token_losses)
    return jobs


def result(context: Context, outputs: Outputs) -> Isolation:
    """Compare the methods, and format samples and losses."""
    samples = {name: outputs.pop(("samples", name)) for name in SAMPLED_METHODS}
    losses = {name: outputs.pop(("losses", name)) for name in SAMPLED_METHODS}
    first = job(context.preset, methods_of(context.preset)["sinks"], 0, token_losses)
    corpus = load_corpus(first.settings.data)
    comparison = compare(outputs)
    return Isolation(
        comparison.entropy,
        comparison.methods,
        corpus.cfg.corpus,
        format_samples(corpus, samples, context.delete_id),
        make_map(first.method.sinks, corpus, losses),
    )


def files(result: Isolation) -> dict[str, str]:
    """Return the history, the samples and the loss heat map as files."""
    history = [
        history_record(name, r.seed, row)
        for name, rows in result.methods.items()
        for r in rows
        for row in r.history
    ]
    return {
        "history.csv": to_csv(history),
        "samples.txt": result.samples,
        "loss_map.json": to_json(result.loss_map),
    }


def claims(result: Result) -> list[Claim]:
    """Return what the comparison should show, each with the number that decides it."""
    here, mean = result.estimate, result.mean
    standard, retrained, sinks = "standard", "retrained", "sinks"
    masking, paper, random = "gradient_masking", "paper_sinks", "random_sinks"
    dip = min(result.mean_curve(paper, "repeated.removed").values())
    own, removed = (result.mean_curve(masking, f"heldout.{s}") for s in ("own", "removed"))
    steps = list(own)
    at = [steps[round(part * (len(steps) - 1))] for part in (0.2, 0.6, 1.0)]
    rises = [removed[s] - own[s] for s in at]
    isolation = result.rise(masking, "heldout.all", standard, "heldout.removed")
    extracted = mean(sinks, "extraction.removed")
    deleted = abs(mean(sinks, "deleted_loss") - mean(retrained, "repeated.removed"))
    return [
        Claim(
            "standard training memorizes what it sees repeatedly",
            "Fig. 2c: 0.02 against 2.72",
            f"repeated {here(standard, 'repeated.own')} "
            f"against new {here(standard, 'heldout.removed')}, "
            f"{mean(standard, 'extraction.own'):.0%} extracted",
            mean(standard, "repeated.own") < 0.5 * mean(standard, "heldout.removed")
            and mean(standard, "extraction.own") > 0.5,
        ),
        Claim(
            "sinks hold the memory: with its own sinks on, a sequence is memorized",
            "Fig. 7: 0.04",
            f"repeated {here(sinks, 'repeated.own')}, "
            f"{mean(sinks, 'extraction.own'):.0%} extracted",
            mean(sinks, "repeated.own") <= mean(standard, "repeated.own"),
        ),
        Claim(
            "removing the sinks closes at least 97 % of the gap to a model that never saw them",
            "Fig. 4b: largely, 1.83 of 2.98",
            f"gold-gap closed {here(sinks, 'gold_gap_closed')}, {extracted:.0%} extracted",
            abs(mean(sinks, "gold_gap_closed") - 1) <= 0.03
            and extracted <= mean(retrained, "extraction.removed") + 0.02,
            "some memory stays in the shared neurons, or some skill went into the sinks",
        ),
        Claim(
            "removing the sinks costs nothing on new text, compared with standard training",
            "Fig. 4a: 2.67 against 2.70",
            f"held-out {here(sinks, 'heldout_cost', '+')}",
            mean(sinks, "heldout_cost") <= 0,
        ),
        Claim(
            "the paper's setting isolates too; the repeated loss dips, then rises again",
            "Fig. 4b: 1.10, then 1.83",
            f"gap closed {here(paper, 'gap_closed')}; {number(dip)} at its lowest, "
            f"{here(paper, 'repeated.removed')} at the end; "
            f"held-out {here(paper, 'heldout_cost', '+')}",
            mean(paper, "gap_closed") >= 0.5 and mean(paper, "repeated.removed") > dip,
            "few steps, and a pool in which many sequences share each sink: the shared neurons "
            "have not yet forgotten",
        ),
        Claim(
            "forced isolation learns less from the same data, even with everything kept",
            "Fig. 3: 3.5 against 2.72",
            f"held-out {estimate(isolation, sign='+')}",
            sum(isolation) > 0,
        ),
        Claim(
            "forced isolation breaks when its sinks are removed, and more so the longer it trains",
            "Fig. 3: 3.74, then 4.13",
            f"held-out {', '.join(f'{r:+.2f}' for r in rises)} after 20, 60, 100 % of the steps",
            1 < rises[-1] == max(rises) and rises == sorted(rises),
        ),
        Claim(
            "random sinks, drawn anew for each showing, do not isolate (control)",
            "ours",
            f"gap closed {here(random, 'gap_closed')}; "
            f"held-out {here(random, 'heldout_cost', '+')}",
            mean(random, "gap_closed") < 0.25,
        ),
        Claim(
            "deleting one sequence's sinks leaves the other memories in place",
            "ours",
            f"deleted {here(sinks, 'deleted_loss')} "
            f"(retrained: {here(retrained, 'repeated.removed')}), "
            f"the others {here(sinks, 'deleted_others_up', '+')}",
            mean(sinks, "deleted_others_up") <= 0.02 and deleted <= 0.1,
        ),
    ]


COLUMNS = {
    "repeated.own": "repeated, own sinks",
    "repeated.removed": "sinks removed",
    "heldout.removed": "new, sinks removed",
    "heldout_cost": "cost on new",
    "compute_penalty": "penalty",
    "extraction.own": "extracted, own",
    "extraction.removed": "extracted, removed",
    "gap_closed": "gap closed",
    "gold_gap_closed": "gold-gap closed",
}


def tabulate(result: Result) -> str:
    """Return one row per method: mean ± standard deviation, in nats per token, or a fraction."""
    rows = [[label(name), *(result.spread(name, c) for c in COLUMNS)] for name in result.methods]
    repeated, heldout = result.entropy
    if heldout is not None:
        rows.append(["entropy floor", number(repeated), "", number(heldout), *[""] * 6])
    return table(["method", *COLUMNS.values()], rows)


# method, field, line style, label
MEMORY = [
    ("retrained", "repeated.removed", "-", plots.name("retrained")),
    ("sinks", "repeated.removed", "-", "sinks"),
    ("sinks", "repeated.own", ":", "own\nsinks on"),
    ("paper_sinks", "repeated.removed", "-", plots.name("paper_sinks")),
    ("random_sinks", "repeated.removed", "-", plots.name("random_sinks")),
    ("standard", "repeated.removed", "-", "standard"),
]
SKILL = [
    ("gradient_masking", "heldout.own", "-", plots.name("gradient_masking")),
    ("random_sinks", "heldout.removed", "-", plots.name("random_sinks")),
    ("standard", "heldout.removed", "-", "standard"),
    ("paper_sinks", "heldout.removed", "-", plots.name("paper_sinks")),
    ("sinks", "heldout.removed", "-", "sinks"),
    ("retrained", "heldout.removed", "-", "retrained"),
]
MIRAGE = [
    ("gradient_masking", "heldout.removed", "--", "gradient\nmasking,\nremoved"),
    ("gradient_masking", "heldout.own", "-", "gradient\nmasking,\nall kept"),
    ("sinks", "heldout.removed", "-", "sinks,\nremoved"),
]


def draw(result: Isolation, folder: Path, name: str = "isolation") -> list[Path]:
    """Draw three questions in three panels."""
    stories = result.corpus == "stories"
    what, unit = ("stories", "word") if stories else ("windows", "character")
    repeated, heldout = result.entropy
    panels = [
        (f"Repeated {what}: is the memory gone?", MEMORY, repeated),
        (f"New {what}: is the skill kept?", SKILL, heldout),
        ("Forced isolation: a mirage", MIRAGE, None),
    ]
    with plots.style():
        fig, axes = plots.subplots(1, 3, figsize=(15.5, 4.4))
        for ax, (title, lines, entropy) in zip(axes, panels, strict=True):
            ends = plots.curves(ax, result, lines)
            ylabel = "loss" if lines is MIRAGE else "loss, sinks removed"
            plots.frame(ax, title, f"{ylabel} (nats per {unit})", "training step")
            if lines is SKILL:
                plots.zoom(ax, [y for y, *_ in ends] + [entropy or ends[-1][0]])
            elif lines is MEMORY:
                ax.set_ylim(0, max(2, 1.15 * max(y for y, *_ in ends)))
            else:
                ax.set_ylim(0)
            plots.draw_entropy(ax, entropy, 0.5)
            plots.label_ends(ax, ends)
        return plots.save(fig, folder, name)
