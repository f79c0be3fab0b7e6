"""A full disk, too little memory, a damaged file, a loss that diverges: one line says so, and nothing is lost."""

import errno
import os
import resource
import signal

import pytest

import run_toy
from commands import bytes_of, run
from memsinks_np._internal import files as checkpoint
from memsinks_np.config import ConfigError
from memsinks_np.experiments.methods import PRESETS, jobs_of, quick
from memsinks_np.experiments.runner import grid


def test_a_full_disk_is_told_in_one_line_and_the_same_command_continues(tmp_path, whole):
    """No file may grow beyond 300 kB: the first method does not fit."""
    limit = lambda: (
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    done = run(tmp_path, preexec_fn=limit)
    assert done.returncode == 1
    assert "File too large; finished methods are kept, the same command continues" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.npz")) + list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "headline" / "result.json").exists()
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path) == whole


def test_memory_that_does_not_suffice_is_told_in_one_line(tmp_path):
    """The matrices of the first method need 2 GB, and the process may have 1.4."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1_400_000_000, 1_400_000_000))
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would take its share
    done = run(tmp_path, "--d-model", "8192", preexec_fn=limit, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("run_toy.py: Unable to allocate ")
    assert (
        "finished methods are kept, the same command continues when that is mended" in done.stderr
    )
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npz", ".part")]


def test_a_disk_that_is_full_when_results_are_written(tmp_path, monkeypatch, capsys, whole):
    """The methods are trained by then; the next run writes what is missing."""
    real = checkpoint.write_atomic

    def full(path, data):
        if path.name == "claims.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data)

    monkeypatch.setattr(run_toy, "write_atomic", full)
    with pytest.raises(SystemExit) as e:
        run_toy.main(["--quick", "--out", str(tmp_path)])
    assert e.value.code == 1
    err = capsys.readouterr().err
    assert (
        "claims.json: No space left on device; finished methods are kept, the same command continues"
        in err
    )
    monkeypatch.undo()
    done = run(tmp_path)
    assert done.stdout.startswith("6 of 6 runs kept")
    assert bytes_of(tmp_path) == whole


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_refused_before_anything_is_trained(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path)
    tmp_path.chmod(0o700)
    assert done.returncode == 2
    assert "cannot write there (Permission denied); choose another folder" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "[" * 9999, "\udcff"])
def test_a_damaged_result_in_the_cache_is_refused(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        ConfigError, match=r"is not a result .*; delete it and it is measured again"
    ):
        grid.kept(path)


def test_a_damaged_arm_in_the_cache_is_refused_by_the_command(tmp_path):
    job = jobs_of(quick(PRESETS["stories"]), 0)[0]
    path = checkpoint.cache_path(tmp_path / "cache", checkpoint.describe(*job))
    checkpoint.write_atomic(path, b"half an ar")
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert (
        f"{path} is not a trained method (BadZipFile); delete it and it is trained again"
        in done.stderr
    )


@pytest.mark.parametrize("lr", ["10", "1e30"])
def test_divergence_ends_the_command_with_one_line_and_the_parameters_before_it(lr, tmp_path):
    done = run(tmp_path, "--lr", lr)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run_toy.py: method standard, step " in done.stderr
    assert "lower the learning rate (now " in done.stderr
    assert "lengthen the warm-up (now 10 steps)" in done.stderr
    aside = [p for p in (tmp_path / "cache").iterdir() if p.name.endswith(".diverged.npz")]
    assert len(aside) == 1
    assert str(aside[0]) in done.stderr
    assert not (tmp_path / "headline" / "result.json").exists()


def test_both_remedies_of_divergence_can_be_given_to_the_command():
    train = run_toy.preset_of(
        run_toy.parser().parse_args(["--lr", "1e-4", "--warmup", "200"])
    ).settings.train
    assert (train.lr, train.warmup) == (1e-4, 200)
