"""The headline on real text, by characters: the English of Python's own help."""

from pathlib import Path
from typing import Any

from memsinks_np.arms import PRESETS, quick
from memsinks_np.experiments import Plan, headline
from memsinks_np.report import Claim

files, tabulate = headline.files, headline.tabulate


def run(plan: Plan) -> dict[str, Any]:
    """The headline's arms under the preset for text; changes of the stories' sizes do not count here."""
    preset = PRESETS["text"]
    return headline.run(plan._replace(preset=quick(preset, plan.preset.settings.train.steps) if plan.quick else preset))


def claims(result: dict[str, Any]) -> list[Claim]:
    """The headline's, one by one: they were made on stories, and not all need hold here."""
    return headline.claims(result)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    return headline.draw(result, folder, "text")
