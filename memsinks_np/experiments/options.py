"""The flags of run_toy.py, and the settings that an experiment gets from them."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from memsinks_np._internal.backend import BACKENDS
from memsinks_np.data.corpus import TOY_LANGUAGES
from memsinks_np.experiments import EXPERIMENTS
from memsinks_np.experiments.methods import PRESETS, Preset, quick


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace("\n", " ")  # whatever a value holds
        self.exit(2, f"run_toy.py: {message} (see run_toy.py --help)\n")


def folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name a folder")
    return Path(text)


def parser(told: str = "") -> argparse.ArgumentParser:
    """All flags; `told` is the command's docstring: a line, and examples."""
    about, _, examples = told.partition("\n\n")
    p = Parser(
        "run_toy.py",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def default(value: Callable[[Preset], Any]) -> str:
        return (
            "(default: "
            + ", ".join(f"{value(preset)} for {name}" for name, preset in PRESETS.items())
            + ")"
        )

    p.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="experiments (see --list), all, claims or report (default: headline)",
    )
    p.add_argument(
        "--list",
        action="store_true",
        help="show the experiments with the minutes that they take, and stop",
    )
    p.add_argument(
        "--corpus",
        help="stories, pydoc, or the path of a UTF-8 text file (default: stories; of the experiment text: pydoc; "
        "fig6 has two story domains of its own); all: fig6 and text keep theirs",
    )
    p.add_argument(
        "--preset",
        choices=PRESETS,
        help="sizes and steps (default: stories for toy languages, else text)",
    )
    p.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="run seeds 0 to N-1 (default: 1)"
    )
    p.add_argument(
        "--steps", type=int, help="training steps " + default(lambda p: p.settings.train.steps)
    )
    p.add_argument(
        "--lr", type=float, help="largest learning rate " + default(lambda p: p.settings.train.lr)
    )
    p.add_argument(
        "--warmup",
        type=int,
        help="steps until it is reached " + default(lambda p: p.settings.train.warmup),
    )
    p.add_argument(
        "--d-model", type=int, help="residual width C " + default(lambda p: p.settings.d_model)
    )
    p.add_argument(
        "--n-shared",
        type=int,
        help="shared neurons G beside the sinks " + default(lambda p: p.n_shared),
    )
    p.add_argument(
        "--n-sink", type=int, help="sinks in the pool S " + default(lambda p: p.sinks.n_sink)
    )
    p.add_argument(
        "--n-active",
        type=int,
        help="sinks on per sequence A " + default(lambda p: p.sinks.n_active),
    )
    p.add_argument(
        "--delete",
        type=int,
        default=0,
        metavar="I",
        help="the repeated sequence whose sinks alone are erased in samples.txt (default: 0)",
    )
    p.add_argument("--backend", choices=BACKENDS, help="where the arrays live (default: numpy)")
    p.add_argument(
        "--quick",
        action="store_true",
        help="small and short: shows that it works, not what it finds",
    )
    p.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes (default: one per core)"
    )
    p.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="2: every worker has a second process, which takes half of each step; never changes a result (default: 1)",
    )
    p.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on a dask cluster, e.g. tcp://host:8786"
    )
    p.add_argument(
        "--out",
        type=folder,
        help="results and cache of trained methods (default: runs, or runs/quick if --quick)",
    )
    return p


def changed(config: Any, **changes: Any) -> Any:
    """A copy of a dataclass with the changes that are not None."""
    return replace(config, **{name: value for name, value in changes.items() if value is not None})


def preset_of(a: argparse.Namespace, name: str = "headline") -> Preset:
    """An experiment's preset with the command line's changes; ConfigError where they cannot work."""
    of_its_own = EXPERIMENTS[name].corpus
    corpus = of_its_own if a.corpus is None or (of_its_own and "all" in a.names) else a.corpus
    preset = PRESETS[a.preset or ("stories" if corpus in (None, *TOY_LANGUAGES) else "text")]
    preset = quick(preset) if a.quick else preset
    s = preset.settings
    train = changed(s.train, steps=a.steps, lr=a.lr, warmup=a.warmup, backend=a.backend)
    settings = changed(
        replace(s, data=changed(s.data, corpus=corpus), train=train), d_model=a.d_model
    )
    sinks = changed(preset.sinks, n_sink=a.n_sink, n_active=a.n_active)
    return Preset(
        settings, preset.width, preset.n_shared if a.n_shared is None else a.n_shared, sinks
    )
