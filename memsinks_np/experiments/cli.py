"""The command line of run_toy.py: flags, settings, and what each command runs."""

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from memsinks_np import __version__
from memsinks_np._internal.backend import BACKENDS, namespace
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.command import run_command
from memsinks_np._internal.files import (
    cannot_write,
    exclusive_lock,
    shared_lock,
    wait_for_lock,
    write_atomic,
)
from memsinks_np._internal.terminal import fit_tables
from memsinks_np.config import ConfigError, require
from memsinks_np.data.corpus import TOY_LANGUAGES, load_corpus
from memsinks_np.experiments import talk
from memsinks_np.experiments.methods import PRESETS, Preset, quick
from memsinks_np.experiments.registry import EXPERIMENTS, Context, Jobs, module_of
from memsinks_np.experiments.report import claims as report
from memsinks_np.experiments.report.explore import collect, explore_jobs, explore_page
from memsinks_np.experiments.report.page import report_page
from memsinks_np.experiments.report.samples import check_delete_id
from memsinks_np.experiments.runner.cache import SOURCE_HASH, text_hash
from memsinks_np.experiments.runner.grid import Grid
from memsinks_np.experiments.runner.workers import END_SIGNALS, WorkerDied
from memsinks_np.train import TrainingDiverged

NAMES = [*EXPERIMENTS, "all", "claims", "report", "explore", "talk"]
ABOUT = "Train methods side by side on the CPU and see what memorization sinks do."
EXAMPLES = """examples:
  python run_toy.py                       the headline: seven methods, one seed
  python run_toy.py --seeds 3             the same over three seeds
  python run_toy.py --list                every experiment
  python run_toy.py fig3 fig5 --seeds 3   some of them
  python run_toy.py all                   all of them
  python run_toy.py claims                all claims so far in one table
  python run_toy.py report                all results on one page, report.html
  python run_toy.py explore               a page with a trained model in it
  python run_toy.py talk                  type words to a trained model
  python run_toy.py --quick               a few seconds: a smoke test
  python run_toy.py --corpus stories      six methods on stories
  python run_toy.py --corpus pydoc        real English, by characters (longer)
  python run_toy.py --corpus my_text.txt  your own text
"""
OPEN = "Open {}: all results on one page"
FINISHED = "finished runs are saved"
NO_THREAD = "can't start new thread"  # Python raises a RuntimeError that says this


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("\n", " ")
        self.exit(2, f"run_toy.py: {message} (see run_toy.py --help)\n")


def folder(text: str) -> Path:
    """Return a folder's path. Raises ArgumentTypeError for an empty one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name a folder")
    return Path(text)


def make_parser() -> Parser:
    """Return the parser of all flags."""
    form = argparse.RawDescriptionHelpFormatter
    p = Parser("run_toy.py", description=ABOUT, epilog=EXAMPLES, formatter_class=form)
    names = "experiments (see --list), all, claims, report, explore or talk (default: headline)"
    p.add_argument("names", nargs="*", metavar="NAME", help=names)
    add_settings(p.add_argument_group("settings"))
    add = p.add_argument_group("talk").add_argument
    add("--method", choices=talk.METHODS, default="sinks", help="the model (default: sinks)")
    add("--id", default="auto", metavar="I", help=talk.ID_HELP)
    add("--once", metavar="WORDS", help="answer these words and stop")
    add = p.add_argument_group("running").add_argument
    add("--quick", action="store_true", help="small and short: shows that everything works")
    add("--seeds", type=int, default=1, metavar="N", help="run seeds 0 to N-1 (default: 1)")
    add("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    add("--scheduler", metavar="ADDRESS", help="run on a dask cluster, e.g. tcp://host:8786")
    add("--fresh", action="store_true", help="ignore cached runs: train and measure again")
    out = "folder of results and cached models (default: runs; with --quick: runs/quick)"
    add("--out", type=folder, metavar="FOLDER", help=out)
    add("--list", action="store_true", help="list the experiments and their minutes, and stop")
    return p


def add_settings(group: Any) -> None:
    """Add the flags that change a preset."""
    corpus = "people, stories, pydoc, or the path of a UTF-8 text file (default: people for "
    corpus += "headline and knowledge, pydoc for text, domains for fig6, else stories). With all, "
    corpus += "these four keep theirs. Only the 95 most frequent characters of a text have a token "
    corpus += "of their own; a text in which more than 10 %% are others is refused"
    group.add_argument("--corpus", help=corpus)
    preset = "sizes and steps (default: that of the corpus)"
    group.add_argument("--preset", choices=PRESETS, help=preset)
    changes: list[tuple[str, Any, str, Callable[[Preset], Any]]] = [
        ("--steps", int, "training steps", lambda p: p.settings.train.steps),
        ("--lr", float, "peak learning rate", lambda p: p.settings.train.lr),
        ("--warmup", int, "steps of warm-up", lambda p: p.settings.train.warmup),
        ("--d-model", int, "model width C", lambda p: p.settings.d_model),
        ("--n-shared", int, "shared MLP neurons G", lambda p: p.n_shared),
        ("--n-sink", int, "sinks in the pool S", lambda p: p.sinks.n_sink),
        ("--n-active", int, "active sinks per sequence A", lambda p: p.sinks.n_active),
    ]
    for flag, kind, what, default in changes:
        values = {name: str(default(preset)) for name, preset in PRESETS.items()}
        either = ", ".join(f"{value} for {name}" for name, value in values.items())
        either = either if len(set(values.values())) > 1 else values["stories"]
        metavar = "N" if kind is int else "X"
        group.add_argument(flag, type=kind, metavar=metavar, help=f"{what} (default: {either})")
    deleted = "isolation, text: repeated sequence to delete in samples.txt (default: 0)"
    group.add_argument("--delete-id", type=int, default=0, metavar="I", help=deleted)
    group.add_argument("--backend", choices=BACKENDS, help="array backend (default: numpy)")


def changed(config: Any, **changes: Any) -> Any:
    """Return a copy of a dataclass with the changes that are not None."""
    return replace(config, **{name: value for name, value in changes.items() if value is not None})


def preset_of(a: argparse.Namespace, name: str = "headline") -> Preset:
    """Return an experiment's preset with the flags applied. Raises ConfigError."""
    default = EXPERIMENTS[name].corpus
    corpus = default if a.corpus is None or (default and "all" in a.names) else a.corpus
    own = "stories" if corpus in (None, *TOY_LANGUAGES) else "text"
    preset = PRESETS[a.preset or ("people" if corpus in ("people", "authors") else own)]
    preset = quick(preset) if a.quick else preset
    s = preset.settings
    train = changed(s.train, steps=a.steps, lr=a.lr, warmup=a.warmup, backend=a.backend)
    data = changed(s.data, corpus=corpus)
    settings = changed(replace(s, data=data, train=train), d_model=a.d_model)
    sinks = changed(preset.sinks, n_sink=a.n_sink, n_active=a.n_active)
    n_shared = preset.n_shared if a.n_shared is None else a.n_shared
    return Preset(settings, preset.baseline_width, n_shared, sinks)


def check(name: str, context: Context, a: argparse.Namespace) -> Jobs:
    """Return an experiment's jobs. Raises ConfigError for anything that would fail later."""
    require(a.seeds > 0, f"--seeds {a.seeds} is not positive; run at least one seed")
    require(a.workers >= 0, f"--workers {a.workers} is negative; use 0 for one process per core")
    settings = context.preset.settings
    namespace(settings.train.backend)
    check_delete_id(load_corpus(settings.data), a.delete_id)
    try:
        jobs: Jobs = module_of(name).jobs(context)
        corpora = {job.settings.data for job in jobs.values()}
        n_vocab = {data: len(load_corpus(data).vocab) for data in corpora}
        for job in jobs.values():
            job.settings.model(job.method, n_vocab[job.settings.data])
    except ConfigError as e:
        raise ConfigError(f"{name}: {e}") from None
    return jobs


def configuration(context: Context) -> dict[str, Any]:
    """Return everything that a run depends on, with hashes of text and source, and versions."""
    numpy, python = np.__version__, platform.python_version()
    versions = {"memsinks_np": __version__, "python": python, "numpy": numpy}
    described: dict[str, Any] = report.plain(context)
    text = text_hash(context.preset.settings.data.corpus)
    return described | {"text": text, "source": SOURCE_HASH, "versions": versions}


def claim_folder(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json. Raises ConfigError if the folder holds other results or is read-only."""
    path, text = folder / "config.json", report.to_json(config)
    try:
        if (folder / "result.json").exists():
            text = path.read_text()  # keep describing the old results until there are new ones
            same = json.loads(text)["preset"] == json.loads(report.to_json(config))["preset"]
            other = f"{folder} holds results of another configuration"
            require(same, f"{other}; choose another --out, or delete {folder}")
        write_atomic(path, text)
    except OSError as e:
        raise cannot_write(folder, e) from None
    except (ValueError, KeyError, TypeError) as e:
        damaged = f"{path} is damaged; delete {folder}"
        raise ConfigError(str(e) if isinstance(e, ConfigError) else damaged) from None


def run_experiment(
    name: str, context: Context, config: dict[str, Any], jobs: Jobs, grid: Grid, out: Path
) -> None:
    """Train, measure, write the results, then print them."""
    module, folder = module_of(name), out / name
    result = module.result(context, grid(jobs))
    require(configuration(context) == config, f"{name}: its text changed during the run; run again")
    claims, numbers = module.claims(result), module.tabulate(result)
    files = module.files(result) if hasattr(module, "files") else {}
    files |= {
        "claims.json": report.to_json(claims),
        "numbers.md": f"{numbers}\n",
        "config.json": report.to_json(config),
        "result.json": report.to_json(result),
    }
    module.draw(result, folder)
    for file, text in files.items():
        write_atomic(folder / file, text)
    write_page(out)
    print(f"\n{fit_tables(numbers)}\n")
    print(f"{report.QUICK if context.quick else report.format_claims(claims)}\n", flush=True)
    if hasattr(module, "examples"):
        print(module.examples(result))


def run_experiments(names: list[str], a: argparse.Namespace) -> None:
    """Run experiments one after the other, and update the report after each."""
    grid = Grid(a.out / "cache", a.workers, a.scheduler, a.fresh)
    contexts = {n: Context(preset_of(a, n), a.seeds, a.quick, a.delete_id) for n in names}
    jobs = {name: check(name, context, a) for name, context in contexts.items()}
    configs = {name: configuration(context) for name, context in contexts.items()}
    with ExitStack() as stack:
        for name, config in configs.items():
            stack.enter_context(exclusive_lock(a.out / name))
            claim_folder(a.out / name, config)
        stack.enter_context(shared_lock(a.out / "cache"))
        for name, context in contexts.items():
            if len(names) > 1:
                print(f"\n# {name}: {EXPERIMENTS[name].what}\n", flush=True)
            run_experiment(name, context, configs[name], jobs[name], grid, a.out)
    print(OPEN.format(a.out / "report.html"), flush=True)


def write_page(out: Path) -> None:
    """Write all results in `out` to one page, one process at a time."""
    with wait_for_lock(out) if out.is_dir() else nullcontext():
        write_atomic(out / "report.html", report_page(out))


def write_explore(a: argparse.Namespace) -> None:
    """Train what the page with a model in it shows, and write the page."""
    jobs, path = explore_jobs(preset_of(a)), a.out / "explore.html"
    with shared_lock(a.out / "cache"):
        page = explore_page(collect(jobs, a.out / "cache", a.quick, a.fresh))
    write_atomic(path, page)
    print(f"{path}: a trained model in one page, {len(page.encode()) / 1000:.0f} kB")


def run(a: argparse.Namespace) -> None:
    """Run what the command line asks for."""
    names = list(dict.fromkeys(a.names or ["headline"]))
    if a.corpus not in (None, "people"):  # the headline is about people; others have their own
        other = "isolation" if a.corpus in TOY_LANGUAGES else "text"
        names = [other if name == "headline" else name for name in names]
    once = shlex.join(["--once", a.once or ""])
    require(a.once is None or "talk" in names, f"{once} is for talk; run_toy.py talk {once}")
    a.out = a.out or Path("runs/quick" if a.quick else "runs")
    for name in names:
        require(name in NAMES, f"{name!r} is not an experiment; choose from {', '.join(NAMES)}")
    experiments = list(EXPERIMENTS) if "all" in names else [n for n in names if n in EXPERIMENTS]
    if experiments:
        run_experiments(experiments, a)
    elif "report" in names:
        write_page(a.out)
        print(OPEN.format(a.out / "report.html"))
    if "explore" in names:
        write_explore(a)
    if "talk" in names:
        talk.talk(preset_of(a), a)
    if "claims" in names:
        print(report.summarize_claims(a.out, sys.stdout.isatty()))


def list_experiments() -> str:
    """Return a line per experiment."""
    lines = [f"{name:10} {e.minutes:>4g} min  {e.what}" for name, e in EXPERIMENTS.items()]
    return "\n".join(lines)


def cause(e: Exception) -> str:
    """Return what the system refused."""
    if isinstance(e, BlockingIOError | RuntimeError):
        return "no more processes or threads are allowed here (--workers 1 needs the fewest)"
    if isinstance(e, OSError) and e.filename:
        return f"{e.filename}: {e.strerror}"
    return str(e) or "out of memory"


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    p = make_parser()
    a = p.parse_args(argv)
    command = shlex.join(["python", "run_toy.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        if a.list:
            print(list_experiments())
        else:
            with one_blas_thread():
                run(a)
    except ConfigError as e:
        p.error(str(e))
    except BrokenPipeError:  # the reader of our output has closed it
        raise
    except (TrainingDiverged, WorkerDied) as e:
        p.exit(1, f"run_toy.py: {e}\n")
    except (OSError, MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and str(e) != NO_THREAD:
            raise
        p.exit(1, f"run_toy.py: {cause(e)}; {FINISHED}, fix this and run the same command again\n")
    except KeyboardInterrupt:
        p.exit(130, f"\nrun_toy.py: interrupted; {FINISHED}; to continue: {command}\n")
    return 0


def interrupt(signum: int, frame: Any) -> NoReturn:
    """End all processes within two seconds, and ignore further signals."""
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # Python's resource tracker may have ended first
    end = threading.Timer(2, os._exit, [130])  # workers end with their parent
    end.daemon = True
    with suppress(RuntimeError):  # no more threads are allowed
        end.start()
    raise KeyboardInterrupt


def script() -> NoReturn:
    """Run as a console script."""
    os.environ["MPLBACKEND"] = "agg"  # figures only go to files
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # workers do not repeat what is said here
    tqdm.monitor_interval = 0  # its thread may not be allowed
    warnings.formatwarning = lambda message, *args, **kwargs: f"run_toy.py: {message}\n"
    for number in END_SIGNALS:
        signal.signal(number, interrupt)
    run_command("run_toy.py", main)
