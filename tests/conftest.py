"""What several files of tests share."""

import pytest
from runs import bytes_of, run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """What comes out when nothing happens."""
    out = tmp_path_factory.mktemp("whole")
    done = run(out)
    assert done.returncode == 0, done.stderr
    return bytes_of(out)
