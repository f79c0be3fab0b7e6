"""Train the rivals side by side on the CPU and see what memorization sinks do.

examples:
  python run_toy.py                        the headline: six arms, one seed
  python run_toy.py --seeds 3              the same over three seeds, with the spread
  python run_toy.py --quick                a few seconds, to see that everything works
  python run_toy.py --corpus pydoc         real English, by characters (longer)
  python run_toy.py --corpus my_text.txt   your own text
"""

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np import __version__, report
from memsinks_np.arms import PRESETS, Preset, jobs_of
from memsinks_np.backend import BACKENDS, namespace
from memsinks_np.checkpoint import write_whole
from memsinks_np.config import ConfigError, require
from memsinks_np.data import load_corpus
from memsinks_np.process import one_blas_thread
from memsinks_np.samples import require_sequence
from memsinks_np.train import Diverged

EXPERIMENTS = {"headline": "six arms side by side: is the memory gone, is the skill kept? (1.5 minutes a seed)"}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"run_toy.py: {message} (see run_toy.py --help)\n")


def parser() -> argparse.ArgumentParser:
    about, examples = (__doc__ or "").split("\n\n", 1)
    p = Parser("run_toy.py", description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)

    def default(value: Callable[[Preset], Any]) -> str:
        return "(default: " + ", ".join(f"{value(preset)} for {name}" for name, preset in PRESETS.items()) + ")"

    p.add_argument("experiment", nargs="?", default="headline", choices=EXPERIMENTS, help="default: headline")
    p.add_argument("--list", action="store_true", help="show the experiments and stop")
    p.add_argument(
        "--corpus", help="stories, pydoc, or the path of a UTF-8 text file " + default(lambda p: p.settings.data.corpus)
    )
    p.add_argument("--preset", choices=PRESETS, help="sizes and steps (default: stories for stories, else text)")
    p.add_argument("--seeds", type=int, default=1, metavar="N", help="run seeds 0 to N-1 (default: 1)")
    p.add_argument("--steps", type=int, help="training steps " + default(lambda p: p.settings.train.steps))
    p.add_argument("--lr", type=float, help="largest learning rate " + default(lambda p: p.settings.train.lr))
    p.add_argument("--d-model", type=int, help="residual width C " + default(lambda p: p.settings.d_model))
    p.add_argument("--n-shared", type=int, help="shared neurons G beside the sinks " + default(lambda p: p.n_shared))
    p.add_argument("--n-sink", type=int, help="sinks in the pool S " + default(lambda p: p.sinks.n_sink))
    p.add_argument("--n-active", type=int, help="sinks on per sequence A " + default(lambda p: p.sinks.n_active))
    p.add_argument(
        "--delete",
        type=int,
        default=0,
        metavar="I",
        help="the repeated sequence whose sinks alone are erased in samples.txt (default: 0)",
    )
    p.add_argument("--backend", choices=BACKENDS, help="where the arrays live (default: numpy)")
    p.add_argument("--quick", action="store_true", help="small and short: shows that it works, not what it finds")
    p.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    p.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads per process; never changes a result (default: 1)"
    )
    p.add_argument("--out", type=Path, default=Path("runs"), help="results and cache of trained arms (default: runs)")
    return p


def changed(config, **changes):
    """A copy of a dataclass with the changes that are not None."""
    return replace(config, **{name: value for name, value in changes.items() if value is not None})


def preset_of(a: argparse.Namespace) -> Preset:
    """The preset with the command line's changes; ConfigError where they cannot work."""
    preset = PRESETS[a.preset or ("text" if a.corpus not in (None, "stories") else "stories")]
    s, steps = preset.settings, a.steps
    data = changed(s.data, corpus=a.corpus)
    train = changed(s.train, lr=a.lr, backend=a.backend)
    if a.quick:
        steps = 40 if steps is None else steps
        data = replace(data, n_repeated=8, n_heldout=16)
        train = replace(train, warmup=10, eval_every=10)
    train = changed(train, steps=steps)
    settings = changed(replace(s, data=data, train=train), d_model=a.d_model)
    sinks = changed(preset.sinks, n_sink=a.n_sink, n_active=a.n_active)
    return Preset(settings, preset.width, preset.n_shared if a.n_shared is None else a.n_shared, sinks)


def check(preset: Preset, a: argparse.Namespace) -> None:
    """Find now, before anything is trained, whatever would fail later."""
    require(a.seeds > 0, f"--seeds {a.seeds} is not positive; run at least one seed")
    require(a.workers >= 0, f"--workers {a.workers} is negative; use 0 for one process per core")
    namespace(preset.settings.train.backend)
    require(a.threads > 0, f"--threads {a.threads} is not positive; use at least one thread")
    corpus = load_corpus(preset.settings.data)
    require_sequence(corpus, a.delete)
    for job in jobs_of(preset, seed=0):
        job.settings.model(job.arm, len(corpus.vocab))
    try:
        write_whole(a.out / "headline" / "config.json", report.to_json(configuration(preset, a)))
    except OSError as e:
        raise ConfigError(f"--out {a.out}: cannot write there ({e.strerror}); choose another folder") from None


def configuration(preset: Preset, a: argparse.Namespace) -> dict:
    """All that a run depends on, and what it ran on."""
    versions = {"memsinks_np": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return {"seeds": a.seeds, "preset": report.plain(preset), "versions": versions}


def headline(a: argparse.Namespace) -> None:
    """Train, measure, tell, draw."""
    from memsinks_np.experiments import headline as exp

    preset = preset_of(a)
    check(preset, a)
    folder, cache = a.out / "headline", a.out / "cache"
    result = exp.run(preset, a.seeds, cache, a.workers, a.threads)
    write_whole(folder / "summary.json", report.to_json(result.summary))
    write_whole(folder / "history.csv", report.to_csv(result.history))
    write_whole(folder / "samples.txt", exp.samples(result, cache, a.delete))
    exp.draw(result, folder)
    print(f"\n{exp.tabulate(result)}\n")
    if a.quick:
        print("This was --quick: it shows that the parts work together, and nothing else.")
    else:
        print(f"{report.tell_claims(exp.claims(result))}\n")
    print(f"{folder}: " + " ".join(sorted(p.name for p in folder.iterdir())))


def main(argv: list[str] | None = None) -> int:
    p = parser()
    a = p.parse_args(argv)
    if a.list:
        print("\n".join(f"{name:12s} {what}" for name, what in EXPERIMENTS.items()))
        return 0
    try:
        with one_blas_thread():
            headline(a)
    except ConfigError as e:
        p.error(str(e))
    except Diverged as e:
        p.exit(1, f"run_toy.py: {e}\n")
    except KeyboardInterrupt:
        p.exit(130, "\nrun_toy.py: interrupted; finished arms are kept, the same command continues\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
