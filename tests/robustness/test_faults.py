"""A full disk, too little memory, divergence: one line, and nothing is lost."""

import errno
import os
import resource
import signal

import pytest

from commands import ROOT, bytes_of, run
from memsinks_np._internal import files
from memsinks_np.experiments import cli
from memsinks_np.experiments.report import plots

FIX = "finished runs are saved, fix this and run the same command again"


def assert_failed(done, code, *texts):
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("run_toy.py: ")
    assert done.stderr.count("\n") == 1
    assert all(text in done.stderr for text in texts), done.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_command_continues(tmp_path, undisturbed):
    """No file may grow beyond 300 kB: the first model does not fit."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    assert_failed(run(tmp_path, preexec_fn=limit), 1, f"File too large; {FIX}")
    assert not list(tmp_path.rglob("*.npz")) + list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "headline" / "result.json").exists()
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path) == undisturbed


@pytest.mark.slow
def test_too_little_memory_is_one_line(tmp_path):
    """The matrices of the first method need 2 GB, and the process may have 1.4."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1_400_000_000, 1_400_000_000))
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # every thread takes memory
    done = run(tmp_path, "--d-model", "8192", preexec_fn=limit, env=env)
    assert_failed(done, 1, "run_toy.py: Unable to allocate ", FIX)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npz", ".part")]


@pytest.mark.slow
def test_a_disk_full_of_results_costs_no_training(tmp_path, capsys, undisturbed):
    def full(path, data):
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        files.write_atomic(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "write_atomic", full)
        patch.setattr("memsinks_np.experiments.report.plots.write_atomic", full)
        for file in ("headline.svg", "claims.json", "result.json", "report.html"):
            with pytest.raises(SystemExit) as e:
                cli.main(["--quick", "--out", str(tmp_path)])
            out, err = capsys.readouterr()
            assert e.value.code == 1
            assert f"{file}: No space left on device; {FIX}" in err
            assert "| method" not in out, "printed before everything is written"
    done = run(tmp_path)
    assert done.stdout.startswith("13 of 13 results are cached")
    assert bytes_of(tmp_path) == undisturbed


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_refused_before_training(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path)
    tmp_path.chmod(0o700)
    assert_failed(done, 2, "cannot write there (Permission denied); choose another folder")


@pytest.mark.parametrize("lr", ["10", pytest.param("1e30", marks=pytest.mark.slow)])
def test_divergence_is_one_line_with_two_remedies(lr, tmp_path):
    done = run(tmp_path, "--lr", lr)
    remedies = "lower the learning rate (now ", "lengthen the warm-up (now 10 steps)"
    assert_failed(done, 1, "run_toy.py: standard, step ", *remedies)
    assert not (tmp_path / "headline" / "result.json").exists()
    argv = ["--quick", "--lr", "1e-4", "--warmup", "200"]
    train = cli.preset_of(cli.make_parser().parse_args(argv)).settings.train
    assert (train.lr, train.warmup) == (1e-4, 200)


@pytest.mark.slow
def test_any_plot_backend_and_output_encoding_will_do(tmp_path, undisturbed):
    env = {"MPLBACKEND": "no_such_backend", "PYTHONIOENCODING": "ascii"}
    done = run(tmp_path / "a", env=os.environ | env)
    assert (done.returncode, done.stderr) == (0, "")
    assert bytes_of(tmp_path / "a") == undisturbed


def test_a_readers_matplotlib_settings_change_no_figure():
    with plots.plt.rc_context({"xtick.labelsize": 30}), plots.style():
        assert plots.plt.rcParams["xtick.labelsize"] == "medium"


@pytest.mark.slow
def test_workers_import_nothing_from_the_working_directory(tmp_path):
    for name in ("random", "socket", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run(tmp_path / "out", "--steps", "3", cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
