"""The methods to compare, their presets, and their names in tables, figures and the report."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import PEOPLE_SIZES
from memsinks_np.data.people import PLACES_PER_FACT
from memsinks_np.experiments.runner.cache import Job


class Preset(NamedTuple):
    """Settings of a comparison, and the widths of its methods."""

    settings: Settings
    baseline_width: int  # MLP neurons of the methods without a pool
    n_shared: int  # G of the memorization sinks
    sinks: SinkConfig


PRESETS = {
    "stories": Preset(
        settings=Settings(data=DataConfig(), train=TrainConfig()),
        baseline_width=256,
        n_shared=128,
        sinks=SinkConfig(n_sink=2048, n_active=32),
    ),
    "people": Preset(  # chosen on seeds 100 and 101
        settings=Settings(
            data=DataConfig(corpus="people", **PEOPLE_SIZES),
            train=TrainConfig(steps=896, eval_every=64),  # one pass
        ),
        baseline_width=256,
        n_shared=128,
        sinks=SinkConfig(n_sink=512, n_active=16),
    ),
    "text": Preset(
        settings=Settings(
            data=DataConfig(corpus="pydoc", n_ctx=64), train=TrainConfig(steps=2500), d_model=96
        ),
        baseline_width=256,
        n_shared=224,
        sinks=SinkConfig(n_sink=4096, n_active=128),
    ),
}


def quick(preset: Preset, steps: int = 20) -> Preset:
    """Return a small and short preset, which shows that everything works."""
    s = preset.settings
    people = s.data.corpus == "people"
    data = replace(s.data, n_repeated=2 * PLACES_PER_FACT if people else 8, n_heldout=16)
    train = replace(s.train, steps=steps, warmup=10, eval_every=10)
    return preset._replace(settings=replace(s, data=data, train=train))


def with_settings(preset: Preset, data: Any = None, train: Any = None, **changes: Any) -> Preset:
    """Return a preset with some settings changed; `data` and `train` are dicts of changes."""
    s = preset.settings
    s = replace(s, data=replace(s.data, **(data or {})), train=replace(s.train, **(train or {})))
    return preset._replace(settings=replace(s, **changes))


NAMES = {  # method -> how tables, figures and the report name it, and what it is
    "standard": ("standard", "all of the width, all of the data"),
    "retrained": (
        "retrained",
        "never sees the repeated sequences: the reference for any removal",
    ),
    "deduplicated": ("deduplicated", "sees each repeated sequence once"),
    "capped_2": ("at most 2 times", "sees each repeated sequence at most twice"),
    "capped_4": ("at most 4 times", "sees each repeated sequence at most 4 times"),
    "capped_8": ("at most 8 times", "sees each repeated sequence at most 8 times"),
    "gradient_masking": (
        "gradient masking",
        "paper, section 4: 0.7 of the width is shared (tuned there), and only repeated sequences "
        "train the rest",
    ),
    "paper_sinks": (
        "paper's setting",
        "paper, section 5: 0.7 of the width is shared, each sink is active for 0.3 of the "
        "sequences (Bernoulli)",
    ),
    "sinks": (
        "sinks",
        "our setting: sparse, a fixed number of active sinks per sequence",
    ),
    "large_pool": (
        "large pool",
        "as sinks, with twice the pool and four times as many active sinks",
    ),
    "random_sinks": (
        "random sinks",
        "control: as many sinks, drawn anew each time that a sequence is shown",
    ),
    "disjoint_sinks": (
        "disjoint sinks",
        "each ID has its own slice of the pool, until the slices are used up",
    ),
    "sgtm": ("SGTM", "selective gradient masking, with labels for all sequences"),
    "sgtm_half": ("SGTM, half labelled", "the same, with labels for half of the sequences"),
    "sgtm_wrong": ("SGTM, 10 % wrong", "the same, with a tenth of the labels wrong, both kinds"),
    "sgtm_joint": (
        "SGTM, joint attention",
        "its variant that resembles sinks: one slice, attention and output weights learn from all",
    ),
    "filter_half": ("filter, half labelled", "drops the repeated sequences that have a label"),
    "narrow": ("narrow", "control: the shared width of sinks, without a pool"),
    "dropout": (
        "dropout",
        "control: as dense as sinks, but all neurons but one are drawn anew each time; evaluated "
        "with all on, scaled, like ordinary dropout",
    ),
    "gates": ("gates", "cut from standard: the neurons that trained gates close"),
    "integrated_gradients": (
        "integrated gradients",
        "cut from standard: the neurons to which Integrated Gradients attribute the memory",
    ),
    "contrast": (
        "gradients, repeated − new",
        "cut from standard: the same, by the difference of repeated and new sequences",
    ),
    "zero_out": ("zero-out", "cut from standard: the neurons that matter most when set to zero"),
    "output_edit": (
        "output edit",
        "cut from standard: what located neurons write is redirected to another word",
    ),
    "random": ("random", "cut from standard: random neurons"),
    "gradient_ascent": ("gradient ascent", "unlearned from standard: raises the loss"),
    "npo": ("NPO", "unlearned from standard: negative preference optimization"),
}

HEADLINE = (  # the methods in the table and figures of headline.py
    "standard",
    "retrained",
    "deduplicated",
    "gradient_masking",
    "paper_sinks",
    "sinks",
    "large_pool",
)
PLANE = {  # those in fig4.py: method -> how it is evaluated (dropout with all neurons, scaled)
    "standard": "removed",
    "retrained": "removed",
    "sinks": "removed",
    "paper_sinks": "removed",
    "disjoint_sinks": "removed",
    "sgtm": "removed",
    "sgtm_half": "removed",
    "gradient_masking": "removed",
    "random_sinks": "removed",
    "narrow": "removed",
    "dropout": "all",
}


def label(name: str) -> str:
    """Return how tables and figures name a method."""
    return NAMES[name][0] if name in NAMES else name.replace("_", " ")


def methods_of(preset: Preset) -> dict[str, Method]:
    """Return all methods by name, at matched data, order, seed and steps; see NAMES."""
    width, G, pool = preset.baseline_width, preset.n_shared, preset.sinks
    g = round(0.7 * width)
    reserved = SinkConfig(n_sink=width - g, n_active=width - g)
    bernoulli = SinkConfig(n_sink=width - g, scheme="bernoulli", p=0.3)
    active = G + pool.n_active
    as_dense = SinkConfig(n_sink=active * round((G + pool.n_sink) / active), n_active=active)
    disjoint = replace(pool, scheme="disjoint")
    many = 4 * pool.n_active
    large = replace(pool, n_sink=many * max(1, round(2 * pool.n_sink / many)), n_active=many)
    methods = [
        Method(name="standard", n_shared=width),
        Method(name="retrained", n_shared=width, max_showings=0),
        Method(name="deduplicated", n_shared=width, max_showings=1),
        Method(name="capped_2", n_shared=width, max_showings=2),
        Method(name="capped_4", n_shared=width, max_showings=4),
        Method(name="capped_8", n_shared=width, max_showings=8),
        Method(name="gradient_masking", n_shared=g, sinks=reserved, routing="gradient_masking"),
        Method(name="sinks", n_shared=G, sinks=pool),
        Method(name="large_pool", n_shared=G, sinks=large),
        Method(name="paper_sinks", n_shared=g, sinks=bernoulli),
        Method(name="random_sinks", n_shared=G, sinks=pool, random_sinks=True),
        Method(name="disjoint_sinks", n_shared=G, sinks=disjoint),
        Method(name="sgtm", n_shared=g, sinks=reserved, routing="sgtm"),
        Method(name="sgtm_half", n_shared=g, sinks=reserved, routing="sgtm", labelled=0.5),
        Method(
            name="sgtm_wrong",
            n_shared=g,
            sinks=reserved,
            routing="sgtm",
            missed=0.1,
            false_alarms=0.1,
        ),
        Method(name="sgtm_joint", n_shared=g, sinks=reserved, routing="sgtm_joint"),
        Method(name="filter_half", n_shared=width, filtered=True, labelled=0.5),
        Method(name="narrow", n_shared=G),
        Method(name="dropout", n_shared=1, sinks=as_dense, random_sinks=True),
    ]
    return {method.name: method for method in methods}


def job(preset: Preset, method: Method, seed: int, measure: Callable[..., Any]) -> Job:
    """Return a job. The seed chooses the data, the initial weights and the sinks."""
    s = preset.settings
    s = replace(s, data=replace(s.data, seed=seed), train=replace(s.train, seed=seed))
    sinks = replace(method.sinks, seed=seed) if method.sinks else None
    return Job(replace(method, sinks=sinks), s, measure)


_STORIES = methods_of(PRESETS["stories"])
STANDARD = _STORIES["standard"]
RETRAINED = _STORIES["retrained"]
DEDUPLICATED = _STORIES["deduplicated"]
GRADIENT_MASKING = _STORIES["gradient_masking"]
SINKS = _STORIES["sinks"]
PAPER_SINKS = _STORIES["paper_sinks"]
RANDOM_SINKS = _STORIES["random_sinks"]
DISJOINT_SINKS = _STORIES["disjoint_sinks"]
SGTM = _STORIES["sgtm"]
NARROW = _STORIES["narrow"]
DROPOUT = _STORIES["dropout"]
