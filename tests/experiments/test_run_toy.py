"""The command: what it refuses, what it writes, and what its files depend on."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from commands import FILES, ROOT, bytes_of, run, run_script
from memsinks_np.experiments import cli, headline
from memsinks_np.experiments.registry import module_of
from memsinks_np.experiments.report.claims import QUICK, Claim, format_claims

REFUSED = [
    ("--corpus no/such/file.txt", "not found; use stories, "),
    ("--corpus {empty}", "at least"),
    ("--corpus {short}", "at least"),
    ("--n-active 4096", "n_active=4096 exceeds n_sink=512"),
    ("--d-model 65", "n_heads=4 does not divide d_model=65; try d_model=64"),
    ("--steps -5", "steps=-5 is too small"),
    ("--steps many", "invalid int value: 'many'"),
    ("--seeds 0", "--seeds 0"),
    ("--workers -1", "--workers -1"),
    (
        "--corpus stories --delete-id 64",
        "--delete-id 64: there is no such repeated sequence; use 0 to 63",
    ),
    ("--preset huge", "invalid choice"),
    ("--backend tpu", "invalid choice"),
    ("--backend cupy", "backend cupy"),
    ("nonsense", "'nonsense' is not an experiment; choose from headline, "),
    ("text --corpus stories", "text: --corpus stories is a toy language"),
    ("fig6 --corpus pydoc", "fig6: --corpus pydoc has no rare domain"),
    ("fig6 --quick --steps 3", "fig6: --steps 3 is too few for all showings; use 5 or more"),
    ("fig6 --steps 375", "fig6: --steps 375 is too few for all showings; use 1500 or more"),
    ("headline fig7 --corpus {enough}", "fig7: "),  # enough for the headline alone
    ("--corpus ''", "''"),
    ("fig7 --steps 79", "fig7: --steps 79 is less than two passes; use 80 or more"),
    ("fig5 --n-sink 77 --n-active 7", "fig5: --n-sink 77 is not a multiple of 8"),
    ("overlap --n-active 2", "overlap: --n-active 2"),
    ("overlap --n-shared 1", "overlap: --n-shared 1 cannot be halved"),
    ("hash --n-sink 64 --n-active 32", "hash: --n-active 32"),
    ("explore --corpus pydoc", "--corpus pydoc has no page to explore"),
    ("--once anna", "--once anna is for talk; run_toy.py talk --once anna"),
    ("explore --d-model 65", "n_heads=4 does not divide d_model=65"),
    ("talk --once 'anna xyz found 7'", "'xyz', '7' not in the vocabulary"),
    ("talk --once ' '", "0 tokens; type at least 1 and at most 29"),
    ("talk --id 1778", "no document '1778'; choose one from 0 to 1777, or none, all or auto"),
    ("talk --corpus stories --id -1", "no document '-1'; choose one from 0 to 63"),
    ("talk --method standard", "invalid choice: 'standard'"),
    ("--out {short}", "cannot write there"),
    ("--out /proc/none", "cannot write there"),
    ("talk --out {short}", "cannot write there"),
    ("explore --out {short}", "cannot write there"),
    ("--out ''", "it is empty; name a folder"),
]


@pytest.mark.parametrize(("argv", "message"), REFUSED)
def test_bad_input_is_one_line_and_exit_code_2(argv, message, tmp_path, capsys):
    enough = " ".join(map(str, range(12_000)))[:60_000]
    for name, text in {"empty": "", "short": "a short text", "enough": enough}.items():
        argv = argv.replace(f"{{{name}}}", str(tmp_path / name))
        (tmp_path / name).write_text(text)
    words = ["--out", str(tmp_path / "out"), *shlex.split(argv)]  # the last --out counts
    with pytest.raises(SystemExit) as e:
        cli.main(words)
    out, err = capsys.readouterr()
    assert e.value.code == 2
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_list_and_help_fit_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == list(cli.EXPERIMENTS)
    with pytest.raises(SystemExit) as e:
        cli.main(["--help"])
    assert e.value.code == 0
    shown = capsys.readouterr().out
    assert shown.count("default") >= 12
    assert "examples:" in shown
    assert "option_strings" not in shown  # a lone % in a help text
    assert max(map(len, (listed + shown).splitlines())) <= 80


@pytest.mark.slow
def test_a_run_writes_all_files_and_trains_nothing_twice(tmp_path):
    first = run(tmp_path, "--seeds", "2")
    assert first.returncode == 0, first.stderr
    written = bytes_of(tmp_path)
    result = json.loads(written["result.json"])
    assert list(result["methods"]) == list(headline.METHODS)
    for rows in result["methods"].values():
        assert [len(row["own"]) for row in rows] == [7, 7]
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 14
    again = run(tmp_path, "--seeds", "2", "--workers", "2")
    assert again.stdout.startswith("20 of 20 results are cached\n\n| stated in")
    assert bytes_of(tmp_path) == written


@pytest.mark.slow
def test_two_copies_of_this_repository_give_the_same_bytes(tmp_path):
    """Neither the folder, nor string hashes, nor the number of workers changes a byte."""
    copies = []
    for place, hash_seed, workers in (("here", "1", "1"), ("a longer name", "4242", "2")):
        copy = tmp_path / place
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "memsinks_np", copy / "memsinks_np", ignore=ignore)
        shutil.copy(ROOT / "run_toy.py", copy)
        argv = [sys.executable, "run_toy.py", "--quick", "--out", "out", "--workers", workers]
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(copy)}
        subprocess.run(argv, check=True, cwd=copy, env=env)
        files = [path for path in sorted((copy / "out").rglob("*")) if path.is_file()]
        copies.append({str(path.relative_to(copy)): path.read_bytes() for path in files})
    assert list(copies[0]) == list(copies[1])
    assert [name for name in copies[0] if copies[0][name] != copies[1][name]] == []
    assert {f"out/headline/{name}" for name in FILES} < set(copies[0])


IMPORTS = """
import signal, sys
before = {s: signal.getsignal(s) for s in signal.valid_signals()}
import memsinks_np.experiments.cli, memsinks_np.gradcheck, memsinks_np.export.npz
assert not {"matplotlib", "autograd", "cupy"} & set(sys.modules)
assert before == {s: signal.getsignal(s) for s in before}
import matplotlib
backend = matplotlib.rcParams._get_backend_or_none()
from memsinks_np.experiments.report import plots
assert matplotlib.rcParams._get_backend_or_none() == backend
"""


def test_importing_changes_no_global_and_loads_no_figures(tmp_path):
    done = run_script(tmp_path / "s.py", IMPORTS, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")


OFFLINE = """
import socket, sys

def refuse(self, address, *_):
    if self.family != socket.AF_UNIX:
        open(sys.argv[-1] + ".called", "a").write(repr(address))
        raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = refuse
from memsinks_np.experiments import cli

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_neither_the_command_nor_its_workers_use_the_network(tmp_path):
    argv = ["--quick", "--steps", "3", "--out", tmp_path / "out"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run_script(tmp_path / "script.py", OFFLINE, *argv, env=env, timeout=None)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out.called").exists()


def test_claims_that_fail_are_as_prominent_as_others():
    holds = Claim("it is so", "Fig. 1", "0.5", True, "unused")
    fails = Claim("so too", "ours", "2", False, "it is small")
    lines = ["holds  it is so  [Fig. 1]", "       here: 0.5"]
    lines += ["FAILS  so too  [ours]", "       here: 2"]
    reason = "       likely because it is small"
    assert format_claims([holds, fails]).splitlines() == [*lines, reason]
    assert format_claims([fails._replace(why="")]).splitlines() == lines[2:]


def test_claims_fit_a_terminal_and_lose_no_word():
    long = Claim(
        30 * "memory ", "Fig. 4b: 1.83 of 2.98", 9 * "0.5 [0.4, 0.6], ", False, 9 * "why " * 5
    )
    lines = format_claims([long, long._replace(holds=True)]).splitlines()
    assert max(map(len, lines)) <= 80
    want = f"FAILS {long.text} [{long.paper}] here: {long.here} likely because {long.why}"
    want += f" holds {long.text} [{long.paper}] here: {long.here}"
    assert " ".join(lines).split() == want.split()
    assert [line for line in lines if line.count("[") != line.count("]")] == []
    assert {len(line) - len(line.lstrip()) for line in lines} == {0, 7, 13}


@pytest.mark.parametrize("name", cli.EXPERIMENTS)
def test_an_experiments_functions_are_its_own(name):
    module = module_of(name)
    for hook in ("jobs", "result", "claims", "tabulate", "draw", "files", "examples"):
        function = getattr(module, hook, None)
        homes = (module.__name__, "memsinks_np.experiments.isolation")  # text is like isolation
        assert function is None or function.__module__ in homes, hook


@pytest.mark.slow
def test_a_run_ends_with_a_sample_and_with_what_to_open(out, tmp_path, capsys):
    shutil.copytree(out, tmp_path / "runs")
    argv = ["headline", "theory", "--quick", "--steps", "3", "--out", str(tmp_path / "runs")]
    assert cli.main(argv) == 0
    *_, headline_, theory = re.split(r"\n# .*\n", capsys.readouterr().out)
    sample = headline_.split(f"{QUICK}\n\n")[1].split("\n\n")
    assert [block.split(":")[0] for block in sample[:2]] == [
        "1 document states",
        "64 documents state",
    ]
    assert [line[:15] for line in sample[0].split("\n")[1:]] == [
        "  sinks on     ",
        "  sinks removed",
    ]
    assert theory.endswith(f"\nOpen {tmp_path}/runs/report.html: all results on one page\n")
    assert max(map(len, headline_.split("\n"))) <= 80


def run_fig3(tmp_path, capsys, *argv):
    """Run an experiment that fails; return its code and its line."""
    with pytest.raises(SystemExit) as e:
        cli.main(["fig3", "--quick", "--out", str(tmp_path / "out"), *argv])
    assert not (tmp_path / "out" / "fig3" / "result.json").exists()
    return e.value.code, capsys.readouterr().err


def test_a_text_that_changes_before_the_end_is_refused(tmp_path, capsys, monkeypatch):
    """The results of workers are kept under the old text, but the parent reads the text, too."""
    text = tmp_path / "text.txt"
    text.write_text(" ".join(map(str, range(12_000))))
    monkeypatch.setattr(cli.Grid, "__call__", lambda *_: text.write_text("another"))
    monkeypatch.setattr("memsinks_np.experiments.fig3.result", lambda *_: None)
    code, line = run_fig3(tmp_path, capsys, "--corpus", str(text))
    assert code == 2
    assert "fig3: its text changed during the run; run again" in line


@pytest.mark.parametrize(
    "error", [BlockingIOError(11, "unavailable"), RuntimeError("can't start new thread")]
)
def test_no_more_processes_or_threads_is_one_line(error, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise error

    monkeypatch.setattr(cli.Grid, "__call__", refuse)
    code, line = run_fig3(tmp_path, capsys)
    assert code == 1
    assert line.startswith("run_toy.py: no more processes or threads are allowed here")
    assert line.count("\n") == 1
