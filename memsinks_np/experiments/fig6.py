"""A rare story domain, seen only through repeats: what is memorized, and what is learned?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.config import require
from memsinks_np.experiments.comparison import SETTINGS, compare_groups, group_jobs
from memsinks_np.experiments.methods import label, methods_of, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.metrics import ratio

N_STORIES = (75, 300)  # of the rare domain
SHOWINGS = (10, 40)  # of each story
METHODS = ("standard", "sinks", "paper_sinks")


@dataclass(frozen=True)
class Row:
    """One method in one setting: numbers over seeds, losses on the rare domain, sinks removed."""

    n_stories: int
    showings: int  # of each story
    method: str
    once: list[float]  # new stories; standard training that saw each story once
    standard: list[float]  # new stories; standard training in this setting
    own: list[float]  # repeated stories, own sinks active
    repeated: list[float]
    heldout: list[float]  # new stories
    gap_closed: list[float | None]  # see metrics.compare
    benefit_kept: list[float | None]  # (once - heldout) / (once - standard) (paper, Fig. 6)

    def mean(self, field: str) -> float:
        """Return the mean over seeds; NaN, which fails every claim, if a number does not exist."""
        return float(np.asarray(getattr(self, field), float).mean())

    @property
    def has_benefit(self) -> bool:
        """Whether repeats help standard training. Only then can a part of the benefit be kept."""
        return self.mean("once") > self.mean("standard")


@dataclass(frozen=True)
class RareDomain:
    """All methods in all settings."""

    rows: list[Row]
    entropy: float | None  # of new stories

    def row(self, method: str, n_stories: int, showings: int) -> Row:
        """Return one method in one setting."""
        wanted = method, n_stories, showings
        return next(r for r in self.rows if (r.method, r.n_stories, r.showings) == wanted)

    @property
    def sizes(self) -> list[int]:
        """The numbers of stories."""
        return sorted({r.n_stories for r in self.rows})

    @property
    def showings(self) -> list[int]:
        """The numbers of showings, without one."""
        return sorted({r.showings for r in self.rows})


def jobs(context: Context) -> Jobs:
    """Train three methods in every setting, and standard training that sees each story once.

    The number of places for repeated sequences is the same in all. Where a story is shown less
    often, fresh stories of the common domain fill its places.
    """
    s, methods = context.preset.settings, methods_of(context.preset)
    corpus, steps, n_places = s.data.corpus, s.train.steps, s.data.n_repeated_per_batch
    require(corpus == "domains", f"--corpus {corpus} has no rare domain; leave the flag out")
    sizes, showings = ((8,), (1, 5)) if context.quick else (N_STORIES, (1, *SHOWINGS))
    least = -(-max(sizes) * max(showings) // n_places)
    require(steps >= least, f"--steps {steps} is too few for all showings; use {least} or more")
    groups: dict[Any, Any] = {}
    for n in sizes:
        for k in showings:
            data = {"n_repeated": n, "show_every_n_passes": steps * n_places // n // k}
            preset = with_settings(context.preset, data=data)
            names = METHODS if k > 1 else ("standard",)
            groups[n, k] = (preset, {name: methods[name] for name in names})
    return group_jobs(context, groups)


def result(context: Context, outputs: Outputs) -> RareDomain:
    """Compare each method with standard training, and with one showing of each story."""
    results, rows = compare_groups(outputs), []
    for (n, k), r in results.items():
        for method in METHODS if k > 1 else ():
            once = results[n, 1].values("standard", "heldout.removed")
            standard, heldout = (r.values(m, "heldout.removed") for m in ("standard", method))
            gap, standard_gap = (
                r.rise(m, "heldout.removed", m, "repeated.removed") for m in (method, "standard")
            )
            own, repeated = (r.values(method, f"repeated.{s}") for s in ("own", "removed"))
            closed = [ratio(g0 - g, g0) for g, g0 in zip(gap, standard_gap, strict=True)]
            kept = [ratio(o - h, o - s) for o, h, s in zip(once, heldout, standard, strict=True)]
            rows.append(Row(n, k, method, once, standard, own, repeated, heldout, closed, kept))
    return RareDomain(rows, next(iter(results.values())).entropy.heldout)


def claims(result: RareDomain) -> list[Claim]:
    """Return what the paper says about repeats of a rare domain."""
    few, many = min(result.showings), max(result.showings)
    standard = {k: [result.row("standard", n, k) for n in result.sizes] for k in (few, many)}
    once = ", ".join(number(r.mean("once")) for r in standard[few])
    return [
        Claim(
            "repetition helps: a rare domain is learned better from several showings than from one",
            "Fig. 6: 2.76, then 2.12 (10 showings)",
            f"new rare stories after {few} showings of {estimates(standard[few], 'heldout', 3)}; "
            f"after one: {once}",
            all(r.has_benefit for r in standard[few]),
        ),
        Claim(
            "too much repetition hurts",
            "ours",
            f"new rare stories after {many} showings of {estimates(standard[many], 'heldout', 3)}",
            all(
                b.mean("heldout") > a.mean("heldout")
                for a, b in zip(standard[few], standard[many], strict=True)
            ),
        ),
        *(claim for setting in SETTINGS.items() for claim in claims_of(result, *setting)),
    ]


def claims_of(result: RareDomain, method: str, setting: str) -> list[Claim]:
    """Return the claims about one setting of sinks."""
    few, many = min(result.showings), max(result.showings)
    few_rows, many_rows = ([result.row(method, n, k) for n in result.sizes] for k in (few, many))
    benefit = f"benefit kept, {few} showings of {estimates(few_rows, 'benefit_kept')}"
    both = [
        r.has_benefit and r.mean("gap_closed") >= 0.5 and r.mean("benefit_kept") > 0
        for r in (*few_rows, *many_rows)
    ]
    return [
        Claim(
            f"where much is memorized, sinks close at least half of the gap ({setting})",
            "Fig. 6: 56 % and 59 %",
            f"{many} showings of {estimates(many_rows, 'gap_closed')}",
            min(r.mean("gap_closed") for r in many_rows) >= 0.5,
            "the pool is small for so many stories: each sink is active for a third of them",
        ),
        Claim(
            f"where repetition helps, sinks are better than one showing ({setting})",
            "Fig. 6, caption; 61 % and 23 % of the benefit kept",
            benefit,
            min(r.mean("benefit_kept") for r in few_rows) > 0,
            "what the rare stories have in common went into the sinks too, and was removed",
        ),
        Claim(
            f"where repetition helps, sinks are comparable to training with repeats ({setting})",
            "section 5.2, text; its own Fig. 6 keeps 61 % and 23 %",
            benefit,
            min(r.mean("benefit_kept") for r in few_rows) >= 0.9,
            "a part of the benefit is in the sinks, as in the paper's own figure",
        ),
        Claim(
            f"both at once: half of the gap closed where repetition still helps ({setting})",
            "Fig. 6",
            f"in {sum(both)} of {len(both)} settings",
            any(both),
            f"after {few} showings little is memorized, and after {many} repeats hurt",
        ),
    ]


def estimates(rows: list[Row], field: str, digits: int = 2) -> str:
    """Return a number for each number of stories."""
    return ", ".join(f"{r.n_stories} stories: {estimate(getattr(r, field), digits)}" for r in rows)


COLUMNS = {
    "once": "new, shown once",
    "own": "repeated, own",
    "repeated": "repeated, removed",
    "heldout": "new, removed",
    "gap_closed": "gap closed",
}


def tabulate(result: RareDomain) -> str:
    """Return one row per setting and method: means, in nats per token, or a fraction."""
    rows = [
        [
            f"{r.n_stories} x {r.showings}: {label(r.method)}",
            *(number(r.mean(c)) for c in COLUMNS),
            number(r.mean("benefit_kept")) if r.has_benefit else "no benefit",
        ]
        for r in result.rows
    ]
    return table(["stories x showings: method", *COLUMNS.values(), "benefit kept"], rows)


def draw(result: RareDomain, folder: Path) -> list[Path]:
    """Draw one panel for each number of stories."""
    n = len(result.sizes)
    with plots.style():
        fig, axes = plots.subplots(1, n, figsize=(6.6 * n, 4.4), squeeze=False)
        for ax, n_stories in zip(axes[0], result.sizes, strict=True):
            draw_panel(ax, result, n_stories)
        return plots.save(fig, folder, "fig6")


def draw_panel(ax: Any, result: RareDomain, n_stories: int) -> None:
    """Draw the losses against the number of showings."""
    showings, ends = result.showings, []
    for method in METHODS:
        rows, color = [result.row(method, n_stories, k) for k in showings], plots.color_of(method)
        heldout = [rows[0].once, *(r.heldout for r in rows)]
        y = plots.band(ax, [1, *showings], heldout, color)
        ends.append((y, f"{label(method)},\nnew", method))
        y = plots.band(ax, showings, [r.repeated for r in rows], color, ":")
        ends.append((y, f"{label(method)},\nrepeated", method))
    ax.set_xscale("log")
    ylabel, xlabel = "loss, sinks removed (nats per word)", "showings of each story"
    plots.frame(ax, f"{n_stories} rare stories: do repeats help?", ylabel, xlabel)
    ax.set_xticks([1, *showings], [str(k) for k in (1, *showings)])
    ax.minorticks_off()
    plots.entropy_and_ends(ax, result.entropy, ends)
