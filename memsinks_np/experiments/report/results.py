"""A folder of results: which experiments have finished there, and what they claimed."""

import json
from pathlib import Path

from memsinks_np.config import ConfigError, require
from memsinks_np.experiments import EXPERIMENTS
from memsinks_np.experiments.report.claims import Claim, count_claims, tabulate_claims

QUICK = "This was --quick: it shows that the parts work together, and nothing else."


def finished(out: Path) -> list[str]:
    """The experiments that have results in `out`; ConfigError where none has."""
    here, quick = ([n for n in EXPERIMENTS if (folder / n / "result.json").exists()] for folder in (out, out / "quick"))
    remedy = f"those of --quick are in {out / 'quick'}" if quick else "run one with the same --out and --quick first"
    require(bool(here), f"--out {out}: no experiment has results there; {remedy}")
    return here


def gathered_claims(out: Path) -> str:
    """How many claims hold, under how many seeds, and the claims of every experiment that has results in `out`."""
    claims, seeds, quick = {}, {}, False
    for name in finished(out):
        try:
            claims[name] = [Claim(**c) for c in json.loads((out / name / "claims.json").read_text())]
            config = json.loads((out / name / "config.json").read_text())
            seeds[name], quick = config["seeds"], quick or config["quick"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            reason = f"{out / name} is damaged ({type(e).__name__}); run python run_toy.py {name} again"
            raise ConfigError(reason) from None
    told = f"{count_claims(claims, seeds)}\n\n{tabulate_claims(claims)}"
    return f"{told}\n\n{QUICK}" if quick else told
