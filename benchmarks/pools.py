"""How far does the rule for a pool's size carry? Small models that memorize many documents.

    python -m benchmarks.pools                      1,024, 4,096 and 10,000 documents, seed 0
    python -m benchmarks.pools 1024 --seeds 3

The models are those of `overlap`, with A N / 2 sinks for N documents. Each document is shown 64
times, so time grows with N: 4 minutes for 1,024 documents and 33 for 10,000 on a slow, busy core.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean

from memsinks_np._internal.tables import number, table
from memsinks_np.config import ConfigError, require, require_sinks
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.experiments.overlap import SHOWINGS, Kept, by_rule, pool_job
from memsinks_np.experiments.report.claims import estimate
from memsinks_np.experiments.runner.grid import Grid


def tabulate(kept: dict[int, list[Kept]]) -> str:
    """Return a table with a row for each number of documents, mean over seeds."""
    rows = []
    for n, each in kept.items():
        own, recited, leak = zip(*each, strict=True)
        sinks = f"{require_sinks(by_rule(n)).n_sink:,}"
        rows.append(
            [f"{n:,}", sinks, number(fmean(own)), estimate(recited, 2), number(fmean(leak))]
        )
    return table(["documents", "sinks", "own", "recited", "leak"], rows)


def run(documents: list[int], seeds: int, showings: int, out: Path) -> dict[int, list[Kept]]:
    """Train the models, and return what each keeps, by number of documents."""
    require(min(seeds, showings) > 0, "--seeds and --showings must be positive")
    jobs = {
        (n, seed): pool_job(PRESETS["stories"], n, by_rule(n), seed, showings)
        for n in documents
        for seed in range(seeds)
    }
    results = Grid(out / "cache")(jobs)
    return {n: [Kept(*results[n, seed]) for seed in range(seeds)] for n in documents}


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.pools", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("documents", nargs="*", type=int, default=[1024, 4096, 10_000])
    p.add_argument("--seeds", type=int, default=1, help="seeds 0 to N-1 (default 1)")
    showings_help = f"of each document (default {SHOWINGS})"
    p.add_argument("--showings", type=int, default=SHOWINGS, help=showings_help)
    p.add_argument("--out", type=Path, default=Path("runs"), help="has the cache (default runs)")
    a = p.parse_args(argv)
    try:
        kept = run(a.documents, a.seeds, a.showings, a.out)
    except ConfigError as e:
        p.error(str(e))
    print(tabulate(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
