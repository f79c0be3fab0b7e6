"""Fixtures that several test files share."""

import pytest

from commands import bytes_of, run
from memsinks_np.experiments import cli
from tutorials.toy import model_cache


@pytest.fixture(scope="session")
def models():
    """The cache of trained models that the pages use, so that nothing is trained twice."""
    return model_cache()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The bytes that a run writes when nothing happens to it."""
    out = tmp_path_factory.mktemp("undisturbed")
    done = run(out)
    assert done.returncode == 0, done.stderr
    return bytes_of(out)


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """A folder with the results of two experiments."""
    folder = tmp_path_factory.mktemp("runs")
    argv = ["headline", "theory", "--quick", "--steps", "3", "--out", str(folder)]
    assert cli.main(argv) == 0
    return folder
