"""What several files of tests share."""

import pytest

import run_toy
from commands import bytes_of, run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """What comes out when nothing happens."""
    out = tmp_path_factory.mktemp("whole")
    done = run(out)
    assert done.returncode == 0, done.stderr
    return bytes_of(out)


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """Two experiments' results."""
    folder = tmp_path_factory.mktemp("runs")
    assert (
        run_toy.main(["headline", "theory", "--quick", "--steps", "3", "--out", str(folder)]) == 0
    )
    return folder
