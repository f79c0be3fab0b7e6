"""The benchmark's implementations run and agree, and its table divides the right numbers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import breakdown, job, pools, report, size, step
from benchmarks.floor import multiply_adds, products
from benchmarks.peers import autograd_peer, ours
from memsinks_np.data.batches import make_batch
from memsinks_np.data.people import N_FACTS, world
from memsinks_np.experiments import methods
from memsinks_np.experiments.headline import METHODS
from memsinks_np.model import init_params, model_forward
from memsinks_np.sinks import Rows

SHAPE = step.Shape("tiny", n_shared=6, n_sink=9, n_active=2, B=5, T=4, C=8, L=2)
CFG = SHAPE.model()
ARGS = (CFG, init_params(CFG), SHAPE.tokens(), SHAPE.active())


def test_numpy_implementations_agree_and_lower_the_loss():
    peers = {report.OURS: ours(*ARGS, masked=False), report.MASKED: ours(*ARGS, masked=True)}
    peers["autograd"] = autograd_peer(*ARGS)
    step.require_agreement(peers)
    for peer in peers.values():
        before, _ = peer.loss_and_grads()
        peer.step()
        assert peer.loss_and_grads()[0] < before
    with pytest.raises(SystemExit, match="differs from ours gathered: loss"):
        step.require_agreement(peers | {report.OURS: ours(*ARGS, masked=False)})


def test_two_threads_compute_the_same_bits():
    with ThreadPoolExecutor(2) as pool:
        losses = []
        for run in (map, pool.map):
            peer = ours(*ARGS, masked=False, run=run)
            for _ in range(3):
                peer.step()
            losses.append(peer.loss_and_grads()[0])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_ours_and_the_floor_are_measured(threads):
    rows = step.measure(SHAPE, threads, seconds=0.1, with_peers=False)
    measured = [(r["threads"], r["implementation"]) for r in rows]
    assert measured == [(threads, name) for name in (report.OURS, "floor")]
    assert all(r["median_ms"] > 0 for r in rows)


def test_people_has_the_headlines_sizes():
    (shape,) = (s for s in step.SHAPES if s.name == "people")
    preset = methods.PRESETS["people"]
    V = len(world(N_FACTS, 0).vocab)
    model = preset.settings.model(methods.methods_of(preset)["sinks"], V)
    pool = replace(model.sinks, n_active=1)
    assert shape.model() == replace(model, sinks=pool)
    assert (shape.B, shape.n_active) == (preset.settings.data.batch_size, preset.sinks.n_active)


def test_nested_calls_count_once():
    now = [0.0]
    timer = breakdown.Timer(clock=lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    inner = timer.wrap(lambda x: "inner", wait)

    def outer():
        wait(1)
        inner(10)
        inner(10)
        wait(2)

    timer.wrap(lambda: "outer", outer)()
    assert timer.seconds == {"inner": 20, "outer": 3}


def test_ops_of_a_step_have_their_products():
    rows = breakdown.op_rows(SHAPE, seconds=0.0)
    with_products = {row.op for row in rows if row.floor_ms}
    assert with_products == set(products(CFG, SHAPE.B, SHAPE.n_active))
    assert {"layernorm", "cross_entropy", "update", "merge", breakdown.REST} <= {r.op for r in rows}
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert breakdown.tabulate_ops(rows).count("\n") == len(rows) + 2


def test_floor_counts_the_products_of_a_linear_layer():
    N, C = SHAPE.B * SHAPE.T, SHAPE.C  # y, dx and dW of W_QKV and W_O, in two layers
    count = multiply_adds(products(CFG, SHAPE.B, SHAPE.n_active)["linear"])
    assert count == 2 * 3 * (N * C * 3 * C + N * C * C)


def test_table_divides_the_right_numbers(tmp_path):
    times = {(report.OURS, 1): 6.0, (report.OURS, 2): 4.0, ("floor", 1): 4.5, ("floor", 2): 2.5}
    times["torch gathered", 2] = 5.0
    rows = [
        {"shape": "default", "n_sink": 2048, "implementation": i, "threads": n, "median_ms": ms}
        for (i, n), ms in times.items()
    ]
    header, _, line = report.tabulate(rows, 2).splitlines()
    names, cells = ([cell.strip() for cell in row.split("|")] for row in (header, line))
    got = dict(zip(names, cells, strict=True))
    assert (got["speed-up from 1"], got["the floor's"], got["/ floor"]) == ("1.50", "1.80", "1.60")
    assert (got["/ torch gathered"], got["/ autograd"]) == ("0.80", "-")
    assert "speed-up" not in report.tabulate(rows, 1)
    report.draw(rows, 2, tmp_path)
    assert (tmp_path / "step.svg").stat().st_size > 0


@pytest.mark.parametrize("argv", ["--threads 0", "--threads", "--shapes huge", "--out /dev/null/x"])
def test_command_rejects_bad_options_before_measuring(argv, capsys, monkeypatch):
    monkeypatch.setattr(step, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as e:
        step.main(argv.split())
    assert e.value.code == 2
    assert argv.split()[0] in capsys.readouterr().err


def test_selection_fraction_is_none_without_the_largest_pool():
    row = {"shape": "default", "implementation": report.OURS, "threads": 1, "median_ms": 15.0}
    assert step.selection_fraction([row]) is None
    assert 0 < step.selection_fraction([row, row | {"shape": "pool-65536"}]) < 1


RUN = job.Run(2.0, [3.0, 2.0], 1.0, [0.5, 1.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"losses": [3.0, 2.0 + 2e-4]}, "first losses by 2.0e-04"),
        ({"heldout": 0.98}, "by 0.0200 at the end"),
        ({"heldout": float("nan")}, "by nan at the end"),
    ],
)
def test_jobs_that_trained_otherwise_are_refused(changes, words):
    close = RUN._replace(losses=[3.0, 2.0 + 5e-5], heldout=0.995)
    job.require_same_training("sinks", RUN, close)
    with pytest.raises(SystemExit, match=words):
        job.require_same_training("sinks", RUN, RUN._replace(**changes))


def test_job_divides_ours_by_torchs():
    row = job.tabulate(["sinks"], [RUN], [RUN._replace(seconds=4.0, recall=[0.5, 0.9])])
    cells = [cell.strip() for cell in row.splitlines()[-1].split("|")]
    assert cells[1:8] == ["sinks", "2.0", "4.0", "0.50", "0e+00", "0.0000", "0.10"]


def test_torch_trains_the_headlines_methods_as_we_do(capsys):
    pytest.importorskip("torch")
    assert job.main(["--quick"]) == 0  # raises SystemExit if one differs
    out = capsys.readouterr().out
    assert all(f"| {name} " in out for name in METHODS)


def test_numbers_held_are_those_of_the_cache():
    batch = make_batch(CFG, SHAPE.tokens()[:2], Rows(SHAPE.active()[:2]))
    params = init_params(CFG)
    _, cache = model_forward(np, params, batch, CFG)
    seen = {id(x) for x in (*params.values(), *batch)}

    def count(x):
        x = x.base if isinstance(getattr(x, "base", None), np.ndarray) else x  # of a view
        if isinstance(x, tuple | list):
            return sum(map(count, x))
        new = isinstance(x, np.ndarray) and id(x) not in seen
        seen.add(id(x))
        return x.size if new else 0

    probabilities = 2 * SHAPE.T * SHAPE.V  # of the loss, which is not part of the cache
    training = 3 * CFG.n_params + replace(CFG, sinks=None).n_params
    held = size.numbers_held(CFG, 4, SHAPE.n_active) - training
    assert held == pytest.approx(count(cache) + probabilities, rel=0.03)


def test_size_reports_the_arithmetic_of_a_step():
    row = size.measure(SHAPE, seconds=0.0)
    assert row.million_multiply_adds > 0
    assert row.ms > row.floor_ms > 0
    assert row.counted_mb > 0
    assert size.tabulate([row]).count("\n") == 2


def test_job_without_torch_names_the_extra(capsys, monkeypatch):
    monkeypatch.setattr(job.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(job, "run_all", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit, match="2"):
        job.main(["--quick"])
    assert ".[bench]" in capsys.readouterr().err


@pytest.mark.slow
def test_pools_are_measured_for_every_number_of_documents(tmp_path, capsys):
    args = ["8", "16", "--showings", "10", "--seeds", "2", "--out", str(tmp_path)]
    assert pools.main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1:3] for line in lines[-2:]] == [
        [" 8         ", "    64 "],
        [" 16        ", "   128 "],
    ]
    for bad in (["0"], ["8", "--seeds", "0"]):
        with pytest.raises(SystemExit) as stopped:
            pools.main([*bad, "--out", str(tmp_path)])
        assert stopped.value.code == 2
