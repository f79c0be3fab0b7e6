"""Each planted bug applies, is found by its command, and is not there without its patch."""

import pytest

from tutorials import bugs
from tutorials.bugs.solutions import SOLUTIONS


def test_every_patch_changes_one_function_of_the_package(tmp_path):
    """The fast test: patches apply to the code of today, and their names say nothing."""
    assert bugs.NUMBERS == tuple(range(1, 11)) == tuple(SOLUTIONS)
    assert {p.name for p in bugs.HERE.glob("*.patch")} == {f"{n:02d}.patch" for n in range(1, 11)}
    for number in bugs.NUMBERS:
        patch = bugs.patch_of(number)
        name, hunks = bugs.parse(patch)
        folder = tmp_path / str(number)
        (folder / name).parent.mkdir(parents=True)
        source = (bugs.ROOT / name).read_text(encoding="utf-8")
        (folder / name).write_text(source, encoding="utf-8")
        bugs.apply(patch, folder)
        planted = (folder / name).read_text(encoding="utf-8")
        assert planted != source
        compile(planted, name, "exec")
        assert bugs.function_of(patch) in source
        with pytest.raises(ValueError, match="exactly once"):
            bugs.apply(patch, folder)
        assert all(old != new for old, new in hunks)


PYTEST = [c.removeprefix("pytest ") for c, _ in SOLUTIONS.values() if c.startswith("pytest ")]
FILES = " ".join(command.partition(" ")[0] for command in PYTEST)
WORDS = " or ".join(command.rpartition(" ")[2] for command in PYTEST)


@pytest.mark.slow
@pytest.mark.parametrize("number", SOLUTIONS)
def test_each_bug_is_found_by_its_command(number):
    command, part = SOLUTIONS[number]
    patch = bugs.patch_of(number)
    code, lines = bugs.run(patch, command)
    assert code == 1
    assert any(part in line for line in lines)
    if "gradcheck" in command:
        assert lines[-1].endswith(f", {bugs.function_of(patch)}")
    else:  # gradcheck compares a backward with its forward, so it cannot see these
        code, lines = bugs.run(patch, "memsinks_np.gradcheck --op training")
        assert code == 0, lines


WRONG_GELU = """
--- a/memsinks_np/ops.py
+++ b/memsinks_np/ops.py
@@
-GELU_B = 0.044715 * GELU_A
+GELU_B = 0.05 * GELU_A
"""


@pytest.mark.slow
def test_gradcheck_accepts_a_wrong_forward_that_fits():
    """Exercise 2 of page 16."""
    assert bugs.run(WRONG_GELU, "memsinks_np.gradcheck --op gelu")[0] == 0
    assert bugs.run(WRONG_GELU, "pytest tests/unit/test_ops.py -k gelu")[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["memsinks_np.gradcheck", f"pytest {FILES} -k '{WORDS}'"])
def test_without_a_bug_the_commands_stay_green(command):
    code, lines = bugs.run("", command)
    assert code == 0, lines
