"""The methods on real text, by characters: the English of Python's help, or a text of your own.

The claims are those of `isolation`, which were made for stories; some may fail here.
"""

from pathlib import Path

from memsinks_np.config import require
from memsinks_np.data.corpus import TOY_LANGUAGES
from memsinks_np.experiments import isolation
from memsinks_np.experiments.registry import Context, Jobs

result, files, tabulate, claims = (
    isolation.result,
    isolation.files,
    isolation.tabulate,
    isolation.claims,
)


def jobs(context: Context) -> Jobs:
    """Return the jobs of `isolation`. Raises ConfigError for a toy language."""
    corpus = context.preset.settings.data.corpus
    remedy = "choose pydoc, or the path of a text file"
    require(corpus not in TOY_LANGUAGES, f"--corpus {corpus} is a toy language; {remedy}")
    return isolation.jobs(context)


def draw(result: isolation.Isolation, folder: Path) -> list[Path]:
    """Draw the figure."""
    return isolation.draw(result, folder, "text")
