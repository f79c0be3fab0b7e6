"""Is what was removed gone, or only hidden?  Every removal under the relearning attack, and what unlearning costs."""

from typing import Any

import numpy as np

from memsinks_np._internal.tables import spread, table
from memsinks_np.experiments.relearn_draw import LABELS, draw
from memsinks_np.experiments.relearn_run import CUT, UPDATES, run
from memsinks_np.experiments.report.claims import Claim, estimate, over_seeds

__all__ = ["claims", "draw", "run", "tabulate"]


def claims(result: dict[str, Any]) -> list[Claim]:
    """What relearning says about each removal (means over seeds decide)."""
    methods = result["methods"]
    mean = {
        name: over_seeds([{f: r[f] for f in NUMBERS} for r in rows])["mean"]
        for name, rows in methods.items()
    }
    sinks, gold, npo = mean["sinks"], mean["retrained"], mean["npo"]
    careless = result["tried"]["gradient_ascent"][0]
    tough = min((mean[f"{name}_toughest"] for name in UPDATES), key=lambda m: m["recovered"])

    def here(name: str, field: str, digits: int = 0, sign: str = "") -> str:
        return estimate([row[field] for row in methods[name]], digits, sign)

    def returned(name: str) -> str:
        return here(name, "recovered", 2)

    def counts(name: str) -> str:
        return f"{here(name, 'steps')} steps, {here(name, 'steps_new')} for new sequences"

    return [
        Claim(
            "updates that forget as well as retraining cost skill on new sequences",
            "section 1; NULLs: shared and specific knowledge fall together",
            "; ".join(
                f"{LABELS[u]}: gold-gap closed {here(u, 'gold_gap_closed', 3)} at {here(u, 'heldout_cost', 3, '+')}"
                for u in UPDATES
            ),
            all(mean[u]["heldout_cost"] > 0 for u in UPDATES),
            "the retain term goes on training, here on fresh sequences without end; with a weight of 1, ascent cost "
            f"{careless['heldout.removed'] - methods['standard'][0]['heldout.removed']:+.3f} (seed 0)",
        ),
        Claim(
            "and they only hide: relearning one half brings back the other, which is never shown",
            "NULLs: NPO is undone",
            "; ".join(
                f"{LABELS[u]}: {counts(u)}, other half {returned(u)} of the way back"
                for u in UPDATES
            ),
            all(mean[u]["savings"] >= 0.2 and mean[u]["recovered"] >= 0.2 for u in UPDATES),
        ),
        Claim(
            "neurons cut out of the finished model only hide as well",
            "ours",
            f"{counts(CUT)}, other half {returned(CUT)} of the way back; held-out {here(CUT, 'heldout_cost', 3, '+')}",
            mean[CUT]["savings"] >= 0.2 and mean[CUT]["recovered"] >= 0.2,
        ),
        Claim(
            "NPO is undone in fewer than ten steps",
            "NULLs: <10",
            f"{here('npo', 'steps')} steps",
            npo["steps"] < 10,
            "the attacker learns slowly here, at a tenth of the largest learning rate, where even new sequences take "
            f"{npo['steps_new']:.0f} steps",
        ),
        Claim(
            "what sinks held does not come back: not faster than new sequences, and nothing of the other half",
            "NULLs: Sink-Off follows the retrained curve",
            f"{counts('sinks')}; other half {returned('sinks')} of the way back",
            abs(sinks["savings"]) <= 0.1 and sinks["recovered"] <= 0.02,
        ),
        Claim(
            "pruned sinks take as many steps as retrained without",
            "NULLs: the retrained curve",
            f"{counts('sinks')}; retrained without {counts('retrained')}",
            abs(sinks["steps"] - gold["steps"]) <= 0.1 * gold["steps"],
            "the model learns all sequences faster, new ones too, so only steps of the same model compare",
        ),
        Claim(
            "even the update that gives least back, of all settings tried, gives more back than sinks",
            "ours",
            f"{tough['recovered']:.2f} of the way back (at held-out {tough['heldout_cost']:+.3f}), "
            f"sinks {returned('sinks')}",
            tough["recovered"] > sinks["recovered"] + 0.05,
        ),
        Claim(
            "nor does what the sinks of the paper's setting held",
            "ours",
            f"{counts('paper_sinks')}; other half {returned('paper_sinks')} of the way back",
            abs(mean["paper_sinks"]["savings"]) <= 0.1 and mean["paper_sinks"]["recovered"] <= 0.02,
            "its sinks are few and many sequences use each, so that the shared neurons memorize as well",
        ),
        Claim(
            "off is not erased: who has the sinks' arrays needs no step, since the ID tells which are on",
            "ours",
            f"loss {here('sinks', 'with_arrays', 3)} on both halves after 0 steps",
            sinks["with_arrays"] <= float(np.mean(result["standard"])),
        ),
    ]


NUMBERS = {
    "repeated.removed": ("repeated", 3),
    "gold_gap_closed": ("gold-gap closed", 3),
    "heldout_cost": ("cost on new", 3),
    "extraction": ("extracted", 3),
    "steps": ("steps to relearn", 0),
    "steps_new": ("new ones", 0),
    "savings": ("savings", 2),
    "other_before": ("other half", 3),
    "other_lowest": ("at its lowest", 3),
    "recovered": ("way back", 2),
    "with_arrays": ("sinks' arrays", 3),
}


def tabulate(result: dict[str, Any]) -> str:
    """Every removal under attack (mean ± standard deviation over seeds), then every setting tried on seed 0."""
    rows = []
    for name, of in result["methods"].items():
        entry = over_seeds([{f: row[f] for f in NUMBERS} for row in of])
        numbers = [
            spread(entry["mean"][f], entry["std"][f], digits) for f, (_, digits) in NUMBERS.items()
        ]
        rows.append([LABELS[name], *numbers])
    shown = ("repeated.removed", "heldout.removed", "steps", "steps_new", "recovered")
    tried = [
        [
            f"{LABELS[name]}, {', '.join(f'{k} {v}' for k, v in row['how'].items())}",
            str(len(row["unlearning"]) - 1),
        ]
        + [f"{row[f]:.3g}" for f in shown]
        for name, of in result["tried"].items()
        for row in of
    ]
    header = [
        "tried (seed 0)",
        "unlearning steps",
        "repeated",
        "new",
        "steps to relearn",
        "new ones",
        "way back",
    ]
    return "\n\n".join(
        [table(["removal", *(label for label, _ in NUMBERS.values())], rows), table(header, tried)]
    )
