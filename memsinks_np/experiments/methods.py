"""What is compared: the headline's methods, and the presets of all_scaled that they share."""

from dataclasses import replace
from typing import NamedTuple

from memsinks_np.config import Method, DataConfig, Settings, SinkConfig, TrainConfig
from memsinks_np.experiments.runner.grid import Job


class Preset(NamedTuple):
    """A kind of comparison: the settings, and the widths of its methods."""

    settings: Settings
    width: int  # MLP neurons of the methods without a pool
    n_shared: int  # G of the memorization sinks
    sinks: SinkConfig


PRESETS = {
    "stories": Preset(
        settings=Settings(data=DataConfig(), train=TrainConfig()),
        width=256,
        n_shared=128,
        sinks=SinkConfig(n_sink=2048, n_active=32),
    ),
    "text": Preset(
        settings=Settings(data=DataConfig(corpus="pydoc", n_ctx=64), train=TrainConfig(steps=2500), d_model=96),
        width=256,
        n_shared=224,
        sinks=SinkConfig(n_sink=4096, n_active=128),
    ),
}


def quick(preset: Preset, steps: int = 40) -> Preset:
    """Small and short: shows that all_scaled works, not what it finds."""
    s = preset.settings
    data = replace(s.data, n_repeated=8, n_heldout=16)
    return preset._replace(
        settings=replace(s, data=data, train=replace(s.train, steps=steps, warmup=10, eval_every=10))
    )


HEADLINE = ("standard", "retrained", "gradient_masking", "sinks", "paper_sinks", "random_sinks")


def methods_of(preset: Preset) -> dict[str, Method]:
    """Every method by its name, at matched data, order, seed and steps.

    standard               all of the width, all of the data
    retrained      never sees the repeated sequences: the gold reference of any removal
    gradient_masking       paper, section 4: 0.7 of the width is shared (tuned there), repeats alone train the rest
    memsinks               our sinks: sparse, a fixed number on per sequence
    paper_sinks         paper, section 5: g=0.7, Bernoulli sinks with p=0.3
    random_sinks                 control: as many sinks, drawn anew at every occurrence
    disjoint               every ID a slice of the pool of its own, until the slices are used up
    sgtm, sgtm_half        selective gradient masking, with labels for all, for half of the sequences
    narrow                 control: only the shared width of memsinks, no pool
    dropout                control: as dense as memsinks, but all neurons save one are drawn anew at every occurrence;
                           evaluated with all on, scaled: ordinary dropout, one draw a sequence

    An method of your own: a line here, its name in HEADLINE for the table, and for the figure a line in GONE or KEPT of
    experiments/headline.py and a colour in plots.COLORS.
    """
    width, G, pool = preset.width, preset.n_shared, preset.sinks
    g = round(0.7 * width)
    reserved = SinkConfig(n_sink=width - g, n_active=width - g)
    on = G + pool.n_active
    as_dense = SinkConfig(n_sink=on * round((G + pool.n_sink) / on), n_active=on)
    methods = [
        Method(name="standard", n_shared=width),
        Method(name="retrained", n_shared=width, sees_repeated=False),
        Method(name="gradient_masking", n_shared=g, sinks=reserved, routing="gradient_masking"),
        Method(name="sinks", n_shared=G, sinks=pool),
        Method(name="paper_sinks", n_shared=g, sinks=SinkConfig(n_sink=width - g, scheme="bernoulli", p=0.3)),
        Method(name="random_sinks", n_shared=G, sinks=pool, random_sinks=True),
        Method(name="disjoint", n_shared=G, sinks=replace(pool, scheme="disjoint")),
        Method(name="sgtm", n_shared=g, sinks=reserved, routing="sgtm"),
        Method(name="sgtm_half", n_shared=g, sinks=reserved, routing="sgtm", labelled=0.5),
        Method(name="narrow", n_shared=G),
        Method(name="dropout", n_shared=1, sinks=as_dense, random_sinks=True),
    ]
    return {method.name: method for method in methods}


def seeded(preset: Preset, method: Method, seed: int) -> Job:
    """An method under one seed, which chooses the data, the initial weights and the sinks."""
    s = preset.settings
    s = replace(s, data=replace(s.data, seed=seed), train=replace(s.train, seed=seed))
    return Job(replace(method, sinks=method.sinks and replace(method.sinks, seed=seed)), s)


def jobs_of(preset: Preset, seed: int) -> list[Job]:
    """The headline's methods under one seed."""
    methods = methods_of(preset)
    return [seeded(preset, methods[name], seed) for name in HEADLINE]
