"""The headline on real text, by characters: the English of Python's help, or a text of your own.

The claims are those of the headline, which were made for stories; some may fail here.
"""

from pathlib import Path

from memsinks_np.config import require
from memsinks_np.data.corpus import TOY_LANGUAGES
from memsinks_np.experiments import headline
from memsinks_np.experiments.registry import Context, Jobs

result, files, tabulate, claims = (
    headline.result,
    headline.files,
    headline.tabulate,
    headline.claims,
)


def jobs(context: Context) -> Jobs:
    """Return the headline's jobs. Raises ConfigError for a toy language."""
    corpus = context.preset.settings.data.corpus
    remedy = "choose pydoc, or the path of a text file"
    require(corpus not in TOY_LANGUAGES, f"--corpus {corpus} is a toy language; {remedy}")
    return headline.jobs(context)


def draw(result: headline.Headline, folder: Path) -> list[Path]:
    """Draw the headline's figure."""
    return headline.draw(result, folder, "text")
