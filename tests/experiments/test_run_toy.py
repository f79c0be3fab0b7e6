"""The command: what it refuses, what it writes, that it can be killed and started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import run_toy
from memsinks_np.experiments.report.claims import Claim, tell_claims

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--corpus", "no/such/file.txt"], "not a file"),
        (["--corpus", "{empty}"], "at least"),
        (["--corpus", "{short}"], "at least"),
        (["--n-active", "4096"], "n_active=4096 exceeds n_sink=2048"),
        (["--n-active", "33"], "n_active=33 does not divide n_sink=2048; try n_sink=2046"),
        (["--n-sink", "0"], "n_sink=0"),
        (["--d-model", "65"], "n_heads=4 does not divide d_model=65; try d_model=64"),
        (["--n-shared", "-1"], "n_shared=-1"),
        (["--steps", "-5"], "steps=-5 is too small"),
        (["--steps", "0", "--quick"], "steps=0"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--lr", "0"], "lr=0.0"),
        (["--warmup", "-1"], "warmup=-1"),
        (["--seeds", "0"], "--seeds 0"),
        (["--workers", "-1"], "--workers -1"),
        (["--threads", "0"], "--threads 0"),
        (["--delete", "64"], "--delete 64"),
        (["--delete", "1.5"], "invalid int value: '1.5'"),
        (["--preset", "huge"], "invalid choice"),
        (["--backend", "tpu"], "invalid choice"),
        (["--backend", "cupy"], "backend cupy"),
        (["nonsense"], "'nonsense' is not an experiment; choose from headline, "),
        (["text", "--corpus", "stories"], "text: --corpus stories is a toy language"),
        (["fig6", "--corpus", "pydoc"], "fig6: --corpus pydoc has no rare world"),
        (
            ["fig6", "--quick", "--steps", "3"],
            "fig6: --steps 3 is too few to show all that often; use 5 or more",
        ),
        (
            ["fig6", "--steps", "375"],
            "fig6: --steps 375 is too few to show all that often; use 1500 or more",
        ),
        (["headline", "fig7", "--corpus", "{enough}"], "fig7: "),  # enough for the headline alone
        (["--corpus", ""], "''"),
        (["fig7", "--steps", "79"], "fig7: --steps 79 is less than two passes; use 80 or more"),
        (["fig5", "--n-sink", "77", "--n-active", "7"], "fig5: --n-sink 77 is no multiple of 8"),
        (["overlap", "--n-active", "2"], "overlap: --n-active 2 is no multiple of 4"),
        (["overlap", "--n-shared", "1"], "overlap: --n-shared 1 has no half"),
        (
            ["hash", "--n-sink", "64", "--n-active", "32"],
            "hash: --n-active 32 is more than a quarter of --n-sink 64",
        ),
        (["--out", "{short}"], "cannot write there"),
        (["--out", "/proc/none"], "cannot write there"),
        (["--out", ""], "it is empty; name a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv, message, tmp_path, capsys):
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("a short text")
    (tmp_path / "enough").write_text(" ".join(map(str, range(12_000)))[:60_000])
    argv = [
        a.format(**{name: tmp_path / name for name in ("empty", "short", "enough")}) for a in argv
    ]
    if "--out" not in argv:
        argv += ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as e:
        run_toy.main(argv)
    out, err = capsys.readouterr()
    assert e.value.code == 2
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_list_and_help(capsys):
    assert run_toy.main(["--list"]) == 0
    assert "headline" in capsys.readouterr().out
    with pytest.raises(SystemExit) as e:
        run_toy.main(["--help"])
    assert e.value.code == 0
    shown = capsys.readouterr().out
    assert shown.count("default") >= 12
    assert "examples:" in shown


def run(out, *more):
    command = [sys.executable, str(ROOT / "run_toy.py"), "--quick", "--out", str(out), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


FILES = [
    "claims.json",
    "config.json",
    "headline.png",
    "headline.svg",
    "history.csv",
    "memory_map.json",
    "result.json",
]
FILES += ["samples.txt", "summary.json"]
METHODS = ["standard", "retrained", "gradient_masking", "sinks", "paper_sinks", "random_sinks"]
FIELDS = ["repeated_own", "repeated_removed", "heldout_removed", "heldout_all"]
FIELDS += ["extraction_own", "extraction_removed", "gap_closed", "gold_gap_closed"]


def test_quick_run_writes_everything_and_trains_nothing_twice(tmp_path):
    first = run(tmp_path, "--seeds", "2")
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "headline"
    assert sorted(p.name for p in folder.iterdir()) == FILES
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary) == ["floor", "methods"]
    assert set(summary["floor"]) == {"repeated", "heldout"}
    assert list(summary["methods"]) == METHODS
    for entry in summary["methods"].values():
        assert [row["seed"] for row in entry["seeds"]] == [0, 1]
        for field in FIELDS:
            values = [row[field] for row in entry["seeds"]]
            assert entry["mean"][field] == pytest.approx(sum(values) / 2)
            assert entry["std"][field] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 12
    bytes_of = {name: (folder / name).read_bytes() for name in FILES}
    again = run(tmp_path, "--seeds", "2", "--workers", "1", "--threads", "2")
    assert again.stdout.startswith(
        "12 of 12 runs kept, trained already\n3 of 3 runs kept"
    )  # six methods, then who speaks
    assert {name: (folder / name).read_bytes() for name in FILES} == bytes_of


@pytest.mark.slow
def test_killed_run_is_started_again_and_gives_the_same_bytes(tmp_path):
    assert run(tmp_path / "whole", "--steps", "120").returncode == 0
    command = [
        sys.executable,
        str(ROOT / "run_toy.py"),
        "--quick",
        "--steps",
        "120",
        "--out",
        str(tmp_path / "killed"),
    ]
    for seconds in (1.5, 2.5, 3.5):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(tmp_path / "killed", "--steps", "120").returncode == 0
    for name in FILES:
        assert (tmp_path / "whole/headline" / name).read_bytes() == (
            tmp_path / "killed/headline" / name
        ).read_bytes()


@pytest.mark.slow
def test_two_copies_of_this_repository_give_the_same_bytes(tmp_path):
    """Neither the folder, nor the order of strings in a set, nor the time of day, nor who computes."""
    found = []
    for place, hash_seed, workers in (
        ("here", "1", "1"),
        ("another place with a longer name", "4242", "2"),
    ):
        copy = tmp_path / place
        shutil.copytree(
            ROOT / "memsinks_np", copy / "memsinks_np", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(ROOT / "run_toy.py", copy)
        command = [
            sys.executable,
            "run_toy.py",
            "--quick",
            "--out",
            str(copy / "out"),
            "--workers",
            workers,
        ]
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(copy)}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=copy, env=env
        )
        assert done.returncode == 0, done.stderr
        files = [path for path in sorted((copy / "out").rglob("*")) if path.is_file()]
        found.append({str(path.relative_to(copy)): path.read_bytes() for path in files})
    assert list(found[0]) == list(found[1])
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []
    assert {f"out/headline/{name}" for name in FILES} < set(found[0])


def test_importing_the_package_loads_neither_figures_nor_autograd():
    code = "import sys, memsinks_np.experiments.methods, memsinks_np.experiments.runner.grid, memsinks_np.gradcheck, memsinks_np.experiments.report.samples; "
    code += "print(sorted({'matplotlib', 'autograd', 'cupy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


OFFLINE = """
import socket, sys

def refuse(self, address, *_):
    if self.family != socket.AF_UNIX:
        open(sys.argv[-1] + ".called", "a").write(repr(address))
        raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = refuse
import run_toy
from memsinks_np.experiments.report.claims import Claim, tell_claims

if __name__ == "__main__":
    sys.exit(run_toy.main(sys.argv[1:]))
"""


def test_nothing_asks_for_the_network(tmp_path):
    """Neither this process nor its workers, which run the same lines."""
    (tmp_path / "script.py").write_text(OFFLINE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), "--quick", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out.called").exists()


def test_claims_that_fail_are_told_as_plainly_as_those_that_hold():
    claims = [
        Claim("it is so", "Fig. 1", "0.5", True, "unused"),
        Claim("so too", "ours", "2", False, "it is small"),
    ]
    told = [
        "holds  it is so  [Fig. 1]",
        "       here: 0.5",
        "FAILS  so too  [ours]",
        "       here: 2",
    ]
    assert tell_claims(claims).splitlines() == [*told, "       likely because it is small"]
    assert tell_claims([claims[1]._replace(why="")]).splitlines() == told[2:]
