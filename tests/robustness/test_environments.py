"""The commands in many environments: one line at most, the right exit code, nothing half on disk.

A row is a shell command and how it ends: exit code, and a part of what it prints.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from commands import ROOT

pytestmark = pytest.mark.slow

PAGE = "report.html: all results on one page"
GRADIENTS = "2 of 2 gradients agree"
USAGE = "usage: "
FULL = "No space left on device"
THREADS = "no more processes or threads are allowed here"
# $OUT holds the results and cached models of headline and fig3, $NEW does not exist
ROWS = [
    # standard streams
    ("$RUN headline --out $OUT </dev/null", 0, PAGE),
    ("$RUN headline --out $OUT <&-", 0, PAGE),
    ("$RUN fig3 --out $NEW <&-", 0, PAGE),
    ("$RUN headline --out $OUT >&-", 0, ""),
    ("$RUN fig3 --out $NEW >&-", 0, ""),
    ("$RUN headline --out $OUT 2>&-", 0, PAGE),
    ("$RUN fig3 --out $NEW <&- >&- 2>&-", 0, ""),
    ("$RUN headline --out $OUT >/dev/full", 1, FULL),
    ("$RUN report --out $OUT >/dev/full", 74, FULL),
    ("$RUN --list >/dev/full", 74, FULL),
    ("$RUN --help >/dev/full", 74, FULL),
    ("$GRAD >/dev/full", 74, FULL),
    ("$REFRESH --help >/dev/full", 74, FULL),
    ("$RUN --list >/dev/full 2>/dev/full", 120, ""),
    ("$RUN --list >&-", 0, ""),
    ("$GRAD >&-", 0, ""),
    ("$REFRESH --help >&-", 0, ""),
    ("(sleep 3; $RUN --list) | true", 74, ""),
    ("(sleep 3; $GRAD) | true", 74, ""),
    ("(sleep 3; $RUN headline --out $OUT) | true", 74, ""),
    ("echo xyz | $RUN talk --out $OUT", 0, "'xyz' not in the vocabulary"),
    ("printf '\\xff\\n' | $RUN talk --out $OUT", 0, r"'\\xff' not in the vocabulary"),
    ("$RUN talk --out $OUT <&-", 0, "Type words."),
    ("$RUN talk --once anna --out $OUT >/dev/full", 74, FULL),
    ('script -qec "$RUN fig3 --out $NEW" /dev/null', 0, PAGE),
    # encodings, locales, terminals
    ("PYTHONIOENCODING=ascii $RUN fig3 --seeds 2 --out $OUT", 0, r" \xb1 "),
    ("LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 $RUN fig3 --seeds 2 --out $OUT", 0, PAGE),
    ("LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 $RUN --out $OUT claims", 0, "claims hold"),
    ("LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 $GRAD", 0, GRADIENTS),
    ("LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 $REFRESH --help", 0, USAGE),
    ("$RUN fig3 --out $NEW/$'caf\\xe9'", 0, PAGE),
    ("COLUMNS=1 $RUN --help", 0, USAGE),
    ("TERM=dumb COLUMNS=none $RUN --help", 0, USAGE),
    # folders
    ("cd / && $RUN headline --out $OUT", 0, PAGE),
    ("cd $T && $RUN fig3 --out new", 0, PAGE),
    ("mkdir $T/d && cd $T/d && rmdir $T/d && $RUN fig3 --out $NEW", 1, "No such file"),
    ("mkdir $T/d && cd $T/d && rmdir $T/d && $RUN fig3 --out new", 2, "cannot write there"),
    ("clone 'a:b' && $PY $T/'a:b'/run_toy.py fig3 $QUICK --out $NEW", 0, PAGE),
    ("clone 'a b' && cd $T/'a b' && $PY run_toy.py fig3 $QUICK --out $NEW", 0, PAGE),
    ("clone 'ü' && LC_ALL=C $PY $T/ü/run_toy.py fig3 $QUICK --out $NEW", 0, PAGE),
    ("cd $T && shadow numpy random socket && $RUN fig3 --out $NEW", 0, PAGE),
    ("cd $T && shadow random socket tempfile && script_of yes && $PY s/s.py", 0, PAGE),
    ("cd $T && script_of no && $PY s/s.py 2>&1 | tail -1 >&2", 1, "__main__"),
    ("cd $T && script_of no && $PY <s/s.py 2>&1 | tail -1 >&2", 1, "__main__"),
    ("umask 077 && $RUN fig3 --out $NEW", 0, PAGE),
    ("umask 777 && $RUN fig3 --out $NEW", 0 if os.geteuid() == 0 else 2, ""),
    ("TMPDIR=/none $RUN fig3 --out $NEW", 0, PAGE),
    ("$RUN fig3 --out /dev/null", 2, "cannot write there"),
    # systems without fcntl, shared memory and hooks of a fork, such as Windows and WebAssembly
    ("bare && $RUN fig3 --out $NEW", 0, PAGE),
    ("bare && $GRAD", 0, GRADIENTS),
    # the user's home and matplotlib
    ("HOME=/proc $RUN fig3 --out $NEW 2>$T/told", 0, PAGE),
    ("env -u HOME $RUN fig3 --out $NEW", 0, PAGE),
    ("HOME=/none XDG_CONFIG_HOME=/none $RUN headline --out $OUT", 0, PAGE),
    ("MPLBACKEND=module://matplotlib_inline.backend_inline $RUN fig3 --out $NEW", 0, PAGE),
    ("MPLBACKEND=none $RUN fig3 --out $NEW", 0, PAGE),
    ("MPLBACKEND=none $REFRESH --help", 0, USAGE),
    ("cd $T && echo 'font.size: 30' >matplotlibrc && $RUN fig3 --out $NEW", 0, PAGE),
    # limits
    ("ulimit -n 12; $RUN fig3 --out $NEW", 1, "Too many open files"),
    ("ulimit -n 30; $RUN fig3 --out $NEW", 0, PAGE),
    ("ulimit -v 300000; $RUN fig3 --d-model 2048 --out $NEW", 1, "finished runs are saved"),
    ("ulimit -v 200000; $RUN --list", 0, "headline"),
    ("ulimit -f 100; $RUN fig3 --out $NEW", 1, "File too large"),
    ("ulimit -f 0; $RUN fig3 --out $NEW", 2, "File too large"),
    ("pids 5 $RUN fig3 --out $NEW", 1, THREADS),
    ("pids 3 $RUN fig3 --out $NEW", 1, THREADS),
    ("pids 40 $RUN fig3 --out $NEW", 0, PAGE),
    ("taskset -c 0 $PY $ROOT/run_toy.py fig3 --quick --steps 2 --out $NEW", 0, PAGE),
    ("OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=64 $RUN fig3 --out $NEW", 0, PAGE),
    # Python's own switches
    ("$PY -W error $ROOT/run_toy.py headline $QUICK --out $OUT", 0, PAGE),
    ("$PY -OO $ROOT/run_toy.py headline $QUICK --out $OUT", 0, PAGE),
    ("$PY -OO $ROOT/tutorials/refresh.py --help", 0, USAGE),
    ("$PY -B -s $ROOT/run_toy.py fig3 $QUICK --out $NEW", 0, PAGE),
    ("PYTHONWARNINGS=error PYTHONDEVMODE=1 $RUN headline --out $OUT", 0, PAGE),
]

FUNCTIONS = r"""
set -o pipefail
QUICK="--quick --steps 2 --workers 2"
RUN="$PY $ROOT/run_toy.py $QUICK"
GRAD="$PY -m memsinks_np.gradcheck --op linear"
REFRESH="$PY $ROOT/tutorials/refresh.py"
clone() { mkdir "$T/$1" && cp -r $ROOT/memsinks_np $ROOT/run_toy.py "$T/$1"; }
shadow() { for name; do echo "raise SystemExit('imported')" >$name.py; done; }
bare() { # take from Python, also in workers, what other systems lack
    mkdir $T/bare && export PYTHONPATH=$T/bare:$ROOT && cat >$T/bare/sitecustomize.py <<END
import os, sys, _multiprocessing, _posixshmem
sys.modules["fcntl"] = None
del os.fork, os.register_at_fork, _multiprocessing.SemLock, _posixshmem.shm_open
END
}
script_of() { # has it a main guard?
    mkdir s && echo "from memsinks_np.experiments.cli import main" >s/s.py
    [ $1 = no ] || echo 'if __name__ == "__main__":' >>s/s.py
    echo " main('fig3 $QUICK --out $NEW'.split())" | sed "$([ $1 = yes ] || echo 's/^ //')" >>s/s.py
}
pids() { # run a command that may have so many threads and processes
    group=/sys/fs/cgroup/pids/memsinks$$
    mkdir $group 2>/dev/null || exit 77
    echo $1 >$group/pids.max && shift
    (echo $BASHPID >$group/cgroup.procs; export OPENBLAS_NUM_THREADS=1; exec "$@")
    code=$?
    until rmdir $group 2>/dev/null; do sleep 0.1; done # until no process is left
    return $code
}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the results of two experiments, and their models."""
    out = tmp_path_factory.mktemp("finished") / "out"
    for words in ("headline", "fig3 --seeds 2"):
        argv = [*words.split(), "--quick", "--steps", "2", "--out", str(out)]
        subprocess.run([sys.executable, str(ROOT / "run_toy.py"), *argv], check=True)
    return out


def assert_whole(out):
    """Assert that no file is half written, and that results are complete or absent."""
    assert not list(out.rglob("*.part"))
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    for path in out.rglob("*.npz"):
        assert zipfile.ZipFile(path).testzip() is None
    for path in out.rglob("result.json"):
        folder = path.parent
        names = {"claims.json", "config.json", "numbers.md", f"{folder.name}.svg"}
        assert names <= {p.name for p in folder.iterdir()}
        assert (folder / f"{folder.name}.svg").read_text().endswith("</svg>\n")
        assert (folder.parent / "report.html").read_text().endswith("</html>\n")


@pytest.mark.parametrize(("command", "code", "text"), ROWS, ids=[row[0] for row in ROWS])
def test_a_command_ends_well_in_any_environment(command, code, text, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out", copy_function=os.link)  # files are only replaced
    places = {"T": tmp_path, "OUT": tmp_path / "out", "NEW": tmp_path / "new"}
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MPL", "LC_", "PYTHON"))}
    env |= {k: str(v) for k, v in (places | {"PY": sys.executable, "ROOT": ROOT}).items()}
    env |= {"PYTHONPATH": "" if command.startswith("clone") else str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", FUNCTIONS + command], env=env, cwd=ROOT, capture_output=True, timeout=120
    )
    out, err = (text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr))
    if done.returncode in (77, 127):
        pytest.skip(f"not possible here: {err}")
    assert done.returncode == code, out + err
    assert text in (err if code else out)
    assert "Traceback" not in out + err
    assert err.count("\n") <= (1 if code else 0), err
    assert_whole(tmp_path)
