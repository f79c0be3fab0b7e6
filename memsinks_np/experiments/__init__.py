"""Every figure of the paper, and questions of ours: one short module each.

run(plan) -> result            train and measure; plain data, from which everything below is computed
claims(result) -> [Claim]      one for each sentence that the figure supports, with whether it holds here
tabulate(result) -> str        the numbers
draw(result, folder) -> paths  one look: NAME.png and NAME.svg
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from memsinks_np.arms import Preset
from memsinks_np.grid import Job, Then


class Plan(NamedTuple):
    """What an experiment is run with."""

    preset: Preset
    seeds: int  # seeds 0 to seeds-1
    quick: bool  # shows that it works, not what it finds: everything small
    grid: Callable[[list[Job], Then], list[Any]]  # see grid.Grid
    delete: int = 0  # headline: the repeated sequence whose sinks alone are erased in samples.txt


class About(NamedTuple):
    """A line for --list."""

    what: str
    source: str
    minutes: float  # for one seed on two cores, what other experiments have trained not counted


EXPERIMENTS: dict[str, About] = {
    "headline": About("six arms side by side: is the memory gone, is the skill kept?", "paper, sections 4, 5", 1.2),
}
