"""Every figure of the paper, and questions of ours: one short module each.

run(plan) -> result            train and measure; plain data, from which all_scaled below is computed
claims(result) -> [Claim]      one for each sentence that the figure supports, with whether it holds here
tabulate(result) -> str        the numbers
draw(result, folder) -> paths  one look: NAME.png and NAME.svg

Where this is long, NAME_run.py has `run` and what it measures, and NAME.py what is said and drawn of it; where that
is long as well, NAME_draw.py has `draw`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from memsinks_np.experiments.methods import Preset
from memsinks_np.experiments.runner.grid import Job, Then


class Context(NamedTuple):
    """What an experiment is run with."""

    preset: Preset
    seeds: int  # seeds 0 to seeds-1
    quick: bool  # shows that it works, not what it finds: all_scaled small
    grid: Callable[[list[Job], Then], list[Any]]  # see grid.Grid
    delete: int = 0  # headline: the repeated sequence whose sinks alone are erased in samples.txt


class About(NamedTuple):
    """A line for --list."""

    what: str
    source: str
    minutes: float  # for one seed on two cores, what other experiments have trained not counted
    corpus: str | None = None  # where it reads another one than the preset's
    trains: bool = True


EXPERIMENTS: dict[str, About] = {
    "headline": About("six methods side by side: is the memory gone, is the skill kept?", "paper, sections 4, 5", 1.2),
    "fig2": About("can a memory be cut out of a finished model?", "paper, section 3", 1),
    "fig3": About("gradient masking: all_scaled kept, and the reserved neurons dropped", "paper, section 4", 0.1),
    "fig4": About("sinks over training, and the plane of forgetting and cost with all methods_of", "paper, section 5", 0.6),
    "fig5": About("how many sinks on, model size, wrong IDs", "paper, section 5.3", 2.5),
    "fig6": About("a second story world, seen only through repeats", "paper, section 5.2", 2, corpus="domains"),
    "fig7": About("one sequence shown every 40 steps: the saw-tooth", "paper, section 5.4", 0.5),
    "controls": About("simpler explanations: random_sinks, shuffled, placebo, narrow, dropout", "ours", 0.4),
    "delete": About("delete one sequence, five, half: what do the others lose?", "ours", 0.8),
    "overlap": About("pool size x sinks on x shared width: memory and collateral", "NULLs; ours", 0.8),
    "relearn": About("is what was removed gone, or only hidden? unlearning and relearning", "NULLs; section 1", 1.5),
    "hash": About("from IDs to masks: the released hash beside ours, and what it does", "App. I; ours", 1.0),
    "optimizer": About("off, but not at rest: momentum and decay of sinks that sleep", "ours", 0.8),
    "theory": About(
        "three theorems, simulated: what they say, where they stop", "paper, App. D, F, H", 0.1, trains=False
    ),
    "text": About("the headline on real text, by characters", "ours", 7, corpus="pydoc"),
}
