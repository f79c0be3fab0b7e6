"""Several runs in one folder: who may work there, what is swept, and what is never overwritten."""

import json
import subprocess
import sys
import threading

import pytest

import run_toy
from commands import ROOT
from memsinks_np._internal import files as checkpoint
from memsinks_np._internal.files import alone, in_turn, together
from memsinks_np.config import ConfigError


def test_a_lock_is_held_by_one_and_falls_with_its_process(tmp_path):
    code = f"import time; from memsinks_np._internal.files import *; a = alone(Path({str(tmp_path)!r})); a.__enter__(); "
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "print(1, flush=True); time.sleep(60)"], stdout=-1, cwd=ROOT
    )
    holder.stdout.readline()
    with pytest.raises(
        ConfigError, match="is in use by another run; wait until it ends, or choose another --out"
    ):
        alone(tmp_path).__enter__()
    holder.kill()
    holder.communicate()
    with alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


LEFT = [
    "result.json.4242.part",
    "headline.svg.7.part",
    "0a1b.npz.99999.part",
    "0a1b.33cd.json.1.part",
    "r.html.5.part",
]
NOT_OURS = [
    "notes.part",
    "film.avi.3.part",
    "result.json.part",
    "result.json.x.part",
    "result.json",
    "4.npz.4.part.bak",
]


def leave_parts(folder):
    for name in (*LEFT, *NOT_OURS):
        (folder / name).write_text("half a fi")
    (folder / "a folder.json.1.part").mkdir()
    (folder / "a link.json.1.part").symlink_to(folder / "notes.part")


@pytest.mark.parametrize("enter", [alone, in_turn, together])
def test_half_written_files_of_killed_processes_are_swept_and_nothing_else(tmp_path, enter):
    leave_parts(tmp_path)
    with enter(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            [*NOT_OURS, "a folder.json.1.part", "a link.json.1.part"]
        )


def test_half_written_files_of_processes_that_still_run_are_not_swept(tmp_path):
    """Runs of several experiments share the trained methods: nothing is swept as long as one of them is there."""
    part = tmp_path / LEFT[0]
    first, second = together(tmp_path), together(tmp_path)
    first.__enter__()
    part.write_text("half a fi")
    second.__enter__()
    with pytest.raises(ConfigError, match="is in use by another run"), alone(tmp_path):
        pass
    first.__exit__(None, None, None)
    with together(tmp_path):
        assert part.exists()
    second.__exit__(None, None, None)
    with together(tmp_path):
        assert not part.exists()


def test_where_there_is_no_lock_nothing_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "fcntl", None)
    leave_parts(tmp_path)
    for enter in (alone, in_turn, together):
        with enter(tmp_path):
            assert len(list(tmp_path.iterdir())) == len(LEFT + NOT_OURS) + 2


def test_the_last_page_of_two_runs_holds_what_both_have_finished(tmp_path, monkeypatch):
    """The first has read all results that are there and is slow to write; the second finishes another meanwhile."""
    has_read, second_done = threading.Event(), threading.Event()

    def page(out):
        found = sorted(p.parent.name for p in out.glob("*/result.json"))
        if not has_read.is_set():
            has_read.set()
            second_done.wait(0.5)
        return " ".join(found)

    def finish(name):
        checkpoint.write_atomic(tmp_path / name / "result.json", "{}")
        run_toy.write_page(tmp_path)

    monkeypatch.setattr(run_toy, "report_page", page)
    first = threading.Thread(target=finish, args=("fig3",))
    first.start()
    assert has_read.wait(10)
    finish("fig5")
    second_done.set()
    first.join()
    assert (tmp_path / "report.html").read_text() == "fig3 fig5"


def test_a_second_run_in_the_same_folder_is_refused_and_disturbs_nothing(tmp_path, capsys):
    with alone(tmp_path / "headline"), pytest.raises(SystemExit) as e:
        run_toy.main(["--quick", "--out", str(tmp_path)])
    assert e.value.code == 2
    assert "headline is in use by another run" in capsys.readouterr().err
    assert list((tmp_path / "headline").iterdir()) == []


def results_of_another_time(out):
    """As after a finished run with the default configuration."""
    a = run_toy.parser().parse_args(["--quick"])
    config = run_toy.configuration(run_toy.preset_of(a), a)
    run_toy.claim_folder(out / "headline", config)
    checkpoint.write_atomic(out / "headline" / "result.json", "{}")
    return config


@pytest.mark.parametrize(
    "argv",
    [
        ["--quick", "--lr", "1e-4"],
        ["--quick", "--n-sink", "512"],
        ["--quick", "--corpus", "pydoc"],
        [],
    ],
)
def test_results_of_another_configuration_are_never_overwritten(argv, tmp_path, capsys):
    results_of_another_time(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "headline").iterdir()}
    with pytest.raises(SystemExit) as e:
        run_toy.main([*argv, "--out", str(tmp_path)])
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert (
        "headline holds results of another configuration; choose another --out, or delete " in err
    )
    assert err.count("\n") == 1
    assert {p.name: p.read_bytes() for p in (tmp_path / "headline").iterdir()} == before


def test_an_experiment_is_described_by_the_settings_that_it_uses():
    """Of text and fig6 those of their own corpus, changed by the command line as for every other."""
    a = run_toy.parser().parse_args(["all", "--lr", "0.01", "--n-sink", "512", "--delete", "3"])
    used = {
        name: run_toy.configuration(run_toy.preset_of(a, name), a)
        for name in ("headline", "text", "fig6")
    }
    assert {name: c["preset"]["settings"]["data"]["corpus"] for name, c in used.items()} == {
        "headline": "stories",
        "text": "pydoc",
        "fig6": "domains",
    }
    assert {name: c["preset"]["settings"]["data"]["n_ctx"] for name, c in used.items()} == {
        "headline": 32,
        "text": 64,
        "fig6": 32,
    }
    for config in used.values():
        assert config["preset"]["settings"]["train"]["lr"] == 0.01
        assert config["preset"]["sinks"]["n_sink"] == 512
        assert config["delete"] == 3
    a = run_toy.parser().parse_args(
        ["all", "--corpus", "my.txt"]
    )  # those with a corpus of their own keep it
    corpora = {
        name: run_toy.preset_of(a, name).settings.data.corpus
        for name in ("headline", "text", "fig6")
    }
    assert corpora == {"headline": "my.txt", "text": "pydoc", "fig6": "domains"}
    a = run_toy.parser().parse_args(["text", "--corpus", "my.txt"])
    assert run_toy.preset_of(a, "text").settings.data.corpus == "my.txt"


def test_other_seeds_and_versions_and_a_run_without_results_are_no_obstacle(tmp_path):
    config = results_of_another_time(tmp_path)
    run_toy.claim_folder(tmp_path / "headline", config | {"seeds": 5, "versions": {}})
    old = json.loads((tmp_path / "headline" / "config.json").read_text())
    assert old["seeds"] == 1  # it describes the results that are there, until there are others
    (tmp_path / "headline" / "result.json").unlink()
    run_toy.claim_folder(tmp_path / "headline", config | {"preset": "another"})
    assert json.loads((tmp_path / "headline" / "config.json").read_text())["preset"] == "another"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"preset"', "\0"])
def test_a_damaged_description_of_results_is_refused(text, tmp_path):
    config = results_of_another_time(tmp_path)
    (tmp_path / "headline" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json is damaged; delete .*headline"):
        run_toy.claim_folder(tmp_path / "headline", config)
