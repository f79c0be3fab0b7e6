"""Spoilers: for each bug of page 16, a command that finds it, and the line that names it."""

from tutorials.bugs import patch_of, run

SOLUTIONS = {  # bug -> command after `python -m`, part of the line of output
    1: ("memsinks_np.gradcheck --op masked_sink", "pattern"),
    2: ("memsinks_np.gradcheck --op layernorm", "pattern"),
    3: ("memsinks_np.gradcheck --op attention", "pattern"),
    4: ("memsinks_np.gradcheck --op block", "right  "),
    5: ("memsinks_np.gradcheck --op coalesce", "pattern"),
    6: ("memsinks_np.gradcheck --op optimizer", "pattern"),
    7: ("pytest tests/unit/test_model.py -k causality", "test_causality[none]"),
    8: ("pytest tests/unit/test_golden.py -k masks", "[int64-stratified]"),
    9: ("pytest tests/unit/test_metrics.py -k evaluation", "removed "),
    10: ("pytest tests/unit/test_data.py -k overlap", "overlap[pydoc]"),
}


def solution(number: int) -> tuple[str, str]:
    """Return a command that fails on a bug, and the last line of its output that names the bug."""
    command, part = SOLUTIONS[number]
    code, lines = run(patch_of(number), command)
    named = [line.removeprefix("E").strip() for line in lines if part in line]
    if code != 1 or not named:
        raise AssertionError("\n".join([f"{command}: exit code {code}", *lines]))
    line = named[-1]
    return f"python -m {command}", line.split(" - ")[0] if line.startswith("FAILED") else line
