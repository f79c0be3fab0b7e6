"""The headline on real text, by characters: the English of Python's own help, or a text of your own."""

from pathlib import Path
from typing import Any

from memsinks_np.config import require
from memsinks_np.data.corpus import TOY_LANGUAGES
from memsinks_np.experiments import Context, headline
from memsinks_np.experiments.report.claims import Claim

files, tabulate = headline.files, headline.tabulate


def run(plan: Context) -> dict[str, Any]:
    corpus = plan.preset.settings.data.corpus
    require(
        corpus not in TOY_LANGUAGES,
        f"--corpus {corpus} is a toy language; choose pydoc, or the path of a text file",
    )
    return headline.run(plan)


def claims(result: dict[str, Any]) -> list[Claim]:
    """The headline's, one by one: they were made on stories, and not all need hold here."""
    return headline.claims(result)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    return headline.draw(result, folder, "text")
