"""Two processes in step: what one hands in, the other receives, and neither outlives the other's end."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import crew, optim, train
from memsinks_np.arms import PRESETS, quick, rivals, seeded
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.crew import ALONE, PartnerDied, pair
from memsinks_np.model import init_params

MODEL = ModelConfig(n_vocab=50, n_ctx=8, d_model=32, sinks=SinkConfig(n_sink=256, n_active=8))
ARRAYS = {
    "odd": np.arange(15, dtype=np.float32).reshape(3, 5),
    "columns first": np.arange(6.0).reshape(2, 3).T,
    "every other": np.arange(20, dtype=np.int64)[::2],
    "empty": np.zeros((0, 4), np.float32),
    "rows": (np.array([3, 1]), np.ones((2, 2), np.float32)),
}


def echo(rounds, member):
    """Hand back what was handed in before, and say what lies in the shared array."""
    seen = member.shared(np.arange(4.0))
    theirs = None
    for _ in range(rounds):
        theirs = member.exchange((theirs, seen.copy()))[0]


def fail(member):
    raise ZeroDivisionError


def die(member):
    member.exchange(None)
    os.kill(os.getpid(), signal.SIGKILL)


def same(got, want):
    return type(got) is type(want) and all(
        (g == w).all() and g.dtype == w.dtype and g.shape == w.shape for g, w in zip(flat(got), flat(want), strict=True)
    )


def flat(tree):
    return [x for name in tree for x in (tree[name] if isinstance(tree[name], tuple) else (tree[name],))]


def test_a_crew_of_one_owns_all_and_hears_itself():
    array = np.ones(3)
    assert ALONE.shared(array) is array
    assert ALONE.exchange({"a": 1}) == [{"a": 1}]
    assert all(ALONE.owns(job) for job in range(5))


@pytest.mark.parametrize("outbox", [0, 100, 10_000])
def test_arrays_come_back_as_they_were_whether_or_not_the_outbox_holds_them(outbox):
    with pair(100, outbox, echo, 3) as first:
        assert [first.owns(job) for job in range(4)] == [True, False, True, False]
        first.shared(np.arange(4.0))
        for given in (ARRAYS, {"odd": ARRAYS["odd"] + 1}, None):
            mine, (theirs, _) = first.exchange(given)
            assert mine is given
            if given is None:
                assert same(theirs, {"odd": ARRAYS["odd"] + 1})
            elif "rows" not in given:
                assert same(theirs, ARRAYS)


def test_two_long_messages_pass_each_other():
    """No process waits to be read by one that waits to be read."""
    long, received = np.ones(1 << 20), []

    def talk():
        with pair(100, 0, echo, 3) as first:
            first.shared(np.arange(4.0))
            for _ in range(3):
                received.append(first.exchange(long)[1][0])

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    thread.join(20)
    assert len(received) == 3
    assert (received[-1] == long).all()


def test_what_was_received_stays_until_the_next_exchange():
    """One member may hand in anew while the other still reads what it got before."""
    with pair(100, 10_000, echo, 4) as first:
        first.shared(np.arange(4.0))
        outboxes = []
        for _ in range(4):
            outboxes.append(first.outboxes[0])
            first.exchange({"odd": ARRAYS["odd"]})
    assert outboxes[0] == outboxes[2] != outboxes[1] == outboxes[3]
    assert outboxes[0][1] <= outboxes[1][0]


def test_what_one_writes_to_a_shared_array_the_other_sees():
    with pair(100, 100, echo, 3) as first:
        array = first.shared(np.arange(4.0))
        seen = [first.exchange(None)[1][1].tolist()]
        array[1:3] = 9
        seen += [first.exchange(None)[1][1].tolist() for _ in range(2)]
    assert (seen[0], seen[2]) == ([0, 1, 2, 3], [0, 9, 9, 3])


@pytest.mark.parametrize("task", [fail, die])
def test_a_second_process_that_ends_too_early_is_told_in_one_line(task, capfd):
    def until_it_ends():
        with pair(100, 100, task) as first:
            while True:
                first.exchange(None)

    with pytest.raises(PartnerDied, match="the other process of a training has ended"):
        until_it_ends()
    assert ("ZeroDivisionError" in capfd.readouterr().err) == (task is fail)


def test_no_room_to_share_is_told(monkeypatch):
    monkeypatch.setattr(crew, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(MemoryError, match="no room for 4,608 bytes that two processes share"), pair(4096, 100, fail):
        pass


def begin_again(rounds, member):
    for _ in range(rounds):
        member.free = 0
        optim.init_state(np, init_params(MODEL), member)
    member.exchange(None)


def test_a_second_process_that_comes_late_never_shows_other_parameters():
    """The first one may have begun to measure while the second still sets up."""
    want = init_params(MODEL)
    with pair(1 << 20, 100, begin_again, 300) as first:
        params = init_params(MODEL)
        optim.init_state(np, params, first)
        watch = threading.Thread(target=first.exchange, args=(None,))
        watch.start()
        while watch.is_alive():
            assert all((params[name] == want[name]).all() for name in want)


FIRST = """
import os, sys
from memsinks_np.crew import pair
from test_crew import echo

with pair(100, 100, echo, 10**6) as first:
    first.exchange(None)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_second_process_ends_with_the_first(how):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", FIRST], env=env, text=True, **pipes)
    process.stdout.readline()
    listed = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    (second,) = map(int, subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split())
    process.send_signal(how)
    process.communicate(timeout=10)
    end = time.perf_counter() + 5
    while os.path.exists(f"/proc/{second}/fd/0"):
        assert time.perf_counter() < end, "the second process still runs"
        time.sleep(0.01)


PRESET = quick(PRESETS["stories"], steps=4)


@pytest.mark.parametrize("arm", list(rivals(PRESET)))
@pytest.mark.parametrize("optimizer", ["lazy_adamw", "adamw", "sgd"])
def test_two_processes_train_every_arm_to_the_same_bits(arm, optimizer):
    arm, settings = seeded(PRESET, rivals(PRESET)[arm], seed=0)
    settings = replace(settings, train=replace(settings.train, optimizer=optimizer))
    one, two = (train.train(arm, settings, threads=n) for n in (1, 2))
    assert repr(one.history) == repr(two.history)
    assert all(np.array_equal(one.params[name], two.params[name]) for name in one.params)


def test_both_processes_stop_where_a_training_diverges():
    arm, settings = seeded(PRESET, rivals(PRESET)["memsinks"], seed=0)
    settings = replace(settings, train=replace(settings.train, lr=1e6, warmup=0))
    told = []
    for n in (1, 2):
        with pytest.raises(train.Diverged) as caught:
            train.train(arm, settings, threads=n)
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_a_pair_that_was_torn_apart_in_the_middle_of_a_training_says_so():
    arm, settings = seeded(PRESET, rivals(PRESET)["memsinks"], seed=0)

    def kill_the_other():
        listed = ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())]
        rows = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
        for row in rows:
            if "memsinks_np.crew" in row:
                os.kill(int(row.split()[0]), signal.SIGKILL)

    with pytest.raises(PartnerDied):
        train.train(arm, settings, kill_the_other, threads=2)
