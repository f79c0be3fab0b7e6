"""Train the methods_of side by side on the CPU and see what memorization sinks do.

examples:
  python run_toy.py                        the headline: six methods, one seed
  python run_toy.py --seeds 3              the same over three seeds, with the spread
  python run_toy.py --list                 every experiment: the paper's figures, and questions of ours
  python run_toy.py fig3 fig5 --seeds 3    some of them
  python run_toy.py all                    all of them
  python run_toy.py claims                 what was claimed so far, and what holds, in one table
  python run_toy.py report                 all results on one page: OUT/report.html (every run renews it)
  python run_toy.py --quick                a few seconds, to see that all_scaled works
  python run_toy.py --corpus pydoc         real English, by characters (longer)
  python run_toy.py --corpus my_text.txt   your own text
"""

import argparse
import importlib
import json
import os
import platform
import shlex
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np import __version__
from memsinks_np._internal.backend import namespace
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.files import alone, in_turn, together, write_atomic
from memsinks_np.config import ConfigError, require
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import EXPERIMENTS, Context
from memsinks_np.experiments.methods import Preset
from memsinks_np.experiments.options import parser, preset_of
from memsinks_np.experiments.report import claims as report
from memsinks_np.experiments.report.page import report_page
from memsinks_np.experiments.report.results import QUICK, gathered_claims
from memsinks_np.experiments.report.samples import require_sequence
from memsinks_np.experiments.runner.grid import Grid, Job, Then, WorkerDied
from memsinks_np.train import TrainingDiverged

NAMES = [*EXPERIMENTS, "all", "claims", "report"]


class Rehearsed(Exception):
    """An experiment has come to its first training, and all its methods can be trained."""


def rehearse(jobs: list[Job], then: Then) -> list[Any]:
    """In the place of a grid: look at the jobs, and go no further."""
    words = {data: len(load_corpus(data).vocab) for data in {job.settings.data for job in jobs}}
    for job in jobs:
        job.settings.model(job.method, words[job.settings.data])
    raise Rehearsed


def check(name: str, plan: Context, a: argparse.Namespace) -> None:
    """Find now, before anything is trained, whatever would fail later."""
    require(a.seeds > 0, f"--seeds {a.seeds} is not positive; run at least one seed")
    require(a.workers >= 0, f"--workers {a.workers} is negative; use 0 for one process per core")
    require(a.threads > 0, f"--threads {a.threads} is not positive; use at least one thread")
    settings = plan.preset.settings
    namespace(settings.train.backend)
    require_sequence(load_corpus(settings.data), a.delete)
    if EXPERIMENTS[name].trains:
        try:
            module_of(name).run(plan._replace(grid=rehearse))
        except Rehearsed:
            pass
        except ConfigError as e:
            raise ConfigError(f"{name}: {e}") from None


def configuration(preset: Preset, a: argparse.Namespace) -> dict[str, Any]:
    """All that a run depends on, and what it ran on."""
    versions = {"memsinks_np": __version__, "python": platform.python_version(), "numpy": np.__version__}
    given = {"seeds": a.seeds, "quick": a.quick, "delete": a.delete}
    return given | {"preset": report.plain(preset), "versions": versions}


def claim_folder(folder: Path, config: dict[str, Any]) -> None:
    """Note in a folder what it will hold; ConfigError where another configuration's results lie, or nothing can."""
    path, text = folder / "config.json", report.to_json(config)
    try:
        if (folder / "result.json").exists():
            text = path.read_text()  # results stay described as they are until there are new ones
            same = json.loads(text)["preset"] == json.loads(report.to_json(config))["preset"]
            require(same, f"{folder} holds results of another configuration; choose another --out, or delete {folder}")
        write_atomic(path, text)
    except OSError as e:
        raise ConfigError(f"--out {folder.parent}: cannot write there ({e.strerror}); choose another folder") from None
    except (ValueError, KeyError, TypeError) as e:
        reason = str(e) if isinstance(e, ConfigError) else f"{path} is damaged; delete {folder}"
        raise ConfigError(reason) from None


def module_of(name: str) -> Any:
    return importlib.import_module(f"memsinks_np.experiments.{name}")


def experiment(name: str, plan: Context, folder: Path, config: dict[str, Any]) -> None:
    """Train, measure, tell, draw."""
    exp = module_of(name)
    result = exp.run(plan)
    claims = exp.claims(result)
    write_atomic(folder / "config.json", report.to_json(config))
    write_atomic(folder / "result.json", report.to_json(result))
    write_atomic(folder / "claims.json", report.to_json([claim._asdict() for claim in claims]))
    for file, text in exp.files(result).items() if hasattr(exp, "files") else ():
        write_atomic(folder / file, text)
    print(f"\n{exp.tabulate(result)}\n")
    print(QUICK if plan.quick else f"{report.tell_claims(claims)}\n", flush=True)
    exp.draw(result, folder)
    print(f"{folder}: " + " ".join(sorted(p.name for p in folder.iterdir())))


def run(a: argparse.Namespace) -> None:
    """What the command line asks for."""
    names = list(dict.fromkeys(a.names or ["headline"]))
    a.out = a.out or Path("runs/quick" if a.quick else "runs")
    for name in names:
        require(name in NAMES, f"{name!r} is not an experiment; choose from {', '.join(NAMES)}")
    experiments = list(EXPERIMENTS) if "all" in names else [name for name in names if name in EXPERIMENTS]
    if experiments:
        run_experiments(experiments, a)
    elif "report" in names:
        write_page(a.out)
    if "claims" in names:
        print(gathered_claims(a.out))


def run_experiments(names: list[str], a: argparse.Namespace) -> None:
    """One after the other; the page of all results is renewed after each."""
    grid = Grid(a.out / "cache", a.workers, a.threads, a.scheduler)
    plans = {name: Context(preset_of(a, name), a.seeds, a.quick, grid, a.delete) for name in names}
    for name, plan in plans.items():
        check(name, plan, a)
    configs = {name: configuration(plan.preset, a) for name, plan in plans.items()}
    with ExitStack() as stack:
        for name, config in configs.items():
            stack.enter_context(alone(a.out / name))
            claim_folder(a.out / name, config)
        stack.enter_context(together(a.out / "cache"))
        for name, plan in plans.items():
            if len(names) > 1:
                print(f"\n# {name}: {EXPERIMENTS[name].what}\n", flush=True)
            experiment(name, plan, a.out / name, configs[name])
            write_page(a.out)


def write_page(out: Path) -> None:
    """All that has results in `out` on one page.

    Runs of other experiments may renew it too: one at a time, so that the last page holds all that is finished.
    """
    with in_turn(out) if out.is_dir() else nullcontext():
        write_atomic(out / "report.html", report_page(out))
    print(f"{out / 'report.html'}: all_scaled so far, on one page")


def main(argv: list[str] | None = None) -> int:
    p = parser(__doc__ or "")
    a = p.parse_args(argv)
    if a.list:
        rows = [(name, e.what, e.source, f"{e.minutes:g}") for name, e in EXPERIMENTS.items()]
        print("\n".join(f"{name:10s} {minutes:>4s} min  {what} ({source})" for name, what, source, minutes in rows))
        return 0
    try:
        with one_blas_thread():
            run(a)
        sys.stdout.flush()
    except ConfigError as e:
        p.error(str(e))
    except BrokenPipeError:  # whoever read our output has stopped; what is still buffered must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (TrainingDiverged, WorkerDied) as e:
        p.exit(1, f"run_toy.py: {e}\n")
    except (OSError, MemoryError) as e:
        what = f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else str(e) or "out of memory"
        p.exit(1, f"run_toy.py: {what}; finished methods are kept, the same command continues when that is mended\n")
    except KeyboardInterrupt:
        command = shlex.join(["python", "run_toy.py", *(sys.argv[1:] if argv is None else argv)])
        p.exit(130, f"\nrun_toy.py: interrupted; finished methods are kept; to continue: {command}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
