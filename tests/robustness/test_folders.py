"""Several runs in one folder: locks, partial files, and results that are never overwritten."""

import json
import subprocess
import sys
import threading

import pytest

from commands import ROOT
from memsinks_np._internal import files
from memsinks_np._internal.files import exclusive_lock, shared_lock, wait_for_lock, write_atomic
from memsinks_np.config import ConfigError
from memsinks_np.experiments import cli
from memsinks_np.experiments.registry import Context

HOLDER = """
import sys, time
from pathlib import Path
from memsinks_np._internal.files import exclusive_lock

with exclusive_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_lock_has_one_holder_and_ends_with_its_process(tmp_path):
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT)
    holder.stdout.readline()
    match = "is in use by another run; wait until it ends, or choose another --out"
    with pytest.raises(ConfigError, match=match), exclusive_lock(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    for _ in range(2):
        with exclusive_lock(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


LEFT = ["result.json.4242.part", "headline.svg.7.part", "0a1b.npz.99999.part"]
LEFT += ["0a1b.33cd.json.1.part", "r.html.5.part"]
NOT_OURS = ["notes.part", "film.avi.3.part", "result.json.part", "result.json.x.part"]
NOT_OURS += ["result.json", "4.npz.4.part.bak"]
LOCKS = [exclusive_lock, wait_for_lock, shared_lock]


def leave_parts(folder):
    """Leave partial files, and other files with similar names."""
    for name in (*LEFT, *NOT_OURS):
        (folder / name).write_text("half a fi")
    (folder / "a folder.json.1.part").mkdir()
    (folder / "a link.json.1.part").symlink_to(folder / "notes.part")


@pytest.mark.parametrize("lock", LOCKS)
def test_partial_files_are_removed_and_nothing_else(tmp_path, monkeypatch, lock):
    leave_parts(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "fcntl", None)  # without locks nothing is removed
        with lock(tmp_path):
            assert len(list(tmp_path.iterdir())) == len(LEFT + NOT_OURS) + 2
    others = sorted([*NOT_OURS, "a folder.json.1.part", "a link.json.1.part"])
    with lock(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == others


def test_partial_files_of_processes_that_run_are_kept(tmp_path):
    part = tmp_path / LEFT[0]
    with shared_lock(tmp_path):
        part.write_text("half a fi")
        with shared_lock(tmp_path):
            pass
        with pytest.raises(ConfigError, match="is in use"), exclusive_lock(tmp_path):
            pass
        assert part.exists()
    with shared_lock(tmp_path):
        assert not part.exists()


def test_the_last_page_of_two_runs_has_the_results_of_both(tmp_path, monkeypatch):
    """The first has read all results and is slow to write; meanwhile the second finishes."""
    has_read, second_done = threading.Event(), threading.Event()

    def page(out):
        names = sorted(p.parent.name for p in out.glob("*/result.json"))
        if not has_read.is_set():
            has_read.set()
            second_done.wait(0.5)
        return " ".join(names)

    def finish(name):
        write_atomic(tmp_path / name / "result.json", "{}")
        cli.write_page(tmp_path)

    monkeypatch.setattr(cli, "report_page", page)
    first = threading.Thread(target=finish, args=("fig3",))
    first.start()
    assert has_read.wait(10)
    finish("fig5")
    second_done.set()
    first.join()
    assert (tmp_path / "report.html").read_text() == "fig3 fig5"


def run_and_refuse(argv, out, capsys):
    """Run a command that is refused; the folder of results keeps every byte. Return the line."""
    before = {p.name: p.read_bytes() for p in (out / "headline").iterdir()}
    with pytest.raises(SystemExit) as e:
        cli.main([*argv, "--out", str(out)])
    err = capsys.readouterr().err
    assert e.value.code == 2
    assert err.count("\n") == 1
    assert {p.name: p.read_bytes() for p in (out / "headline").iterdir()} == before
    return err


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, capsys):
    with exclusive_lock(tmp_path / "headline"):
        assert "headline is in use by another run" in run_and_refuse(["--quick"], tmp_path, capsys)


def context_of(*argv, name="headline"):
    a = cli.make_parser().parse_args([*argv])
    return Context(cli.preset_of(a, name), a.seeds, a.quick, a.delete_id)


def earlier_results(out):
    """Leave a folder as after a finished run; return its configuration."""
    config = cli.configuration(context_of("--quick"))
    cli.claim_folder(out / "headline", config)
    write_atomic(out / "headline" / "result.json", "{}")
    return config


@pytest.mark.parametrize("argv", ["--quick --lr 1e-4", "--quick --n-sink 1024", ""])
def test_results_of_another_configuration_are_kept(argv, tmp_path, capsys):
    earlier_results(tmp_path)
    err = run_and_refuse(argv.split(), tmp_path, capsys)
    assert "holds results of another configuration; choose another --out, or delete " in err


def test_an_experiment_is_described_by_the_settings_it_uses():
    """headline, text and fig6 have a corpus of their own; a flag changes all experiments."""
    names = ("headline", "fig3", "text", "fig6")
    flags = ["all", "--lr", "0.01", "--n-sink", "768", "--delete-id", "3"]
    used = {name: cli.configuration(context_of(*flags, name=name)) for name in names}
    data = [config["preset"]["settings"]["data"] for config in used.values()]
    assert [d["corpus"] for d in data] == ["people", "stories", "pydoc", "domains"]
    assert [d["n_ctx"] for d in data] == [29, 32, 64, 32]
    for config in used.values():
        assert config["preset"]["settings"]["train"]["lr"] == 0.01
        assert config["preset"]["sinks"]["n_sink"] == 768
        assert config["delete_id"] == 3
    corpus = lambda name, *argv: context_of(*argv, name=name).preset.settings.data.corpus
    own_text = ["--corpus", "my.txt"]
    every = [corpus(n, "all", *own_text) for n in names]
    assert every == ["people", "my.txt", "pydoc", "domains"]
    assert corpus("text", "text", *own_text) == "my.txt"


def test_other_seeds_versions_or_no_results_are_no_obstacle(tmp_path):
    config = earlier_results(tmp_path)
    cli.claim_folder(tmp_path / "headline", config | {"seeds": 5, "versions": {}})
    stored = lambda: json.loads((tmp_path / "headline" / "config.json").read_text())
    assert stored()["seeds"] == 1, "it describes the results that are there"
    (tmp_path / "headline" / "result.json").unlink()
    cli.claim_folder(tmp_path / "headline", config | {"preset": "another"})
    assert stored()["preset"] == "another"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"preset"', "\0"])
def test_a_damaged_description_of_results_is_refused(text, tmp_path):
    config = earlier_results(tmp_path)
    (tmp_path / "headline" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json is damaged; delete .*headline"):
        cli.claim_folder(tmp_path / "headline", config)
