"""CONTRIBUTING's recipes for a method and a scheme, followed in a copy of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path("memsinks_np")
METHOD = {  # file -> a place, and the line that is added there
    "experiments/methods.py": [
        ("    methods = [\n", '        Method(name="halved", n_shared=width // 2),\n'),
        ("NAMES = {", '\n    "halved": ("width halved", "control"),'),
        ("HEADLINE = (", '\n    "halved",'),
        ("PLANE = {", '\n    "halved": "removed",'),
    ]
}
SCHEME = {
    "config.py": [('"disjoint", "bernoulli", "released"', ', "grouped"')],
    "sinks.py": [
        ("integers(A)\n", '    i = i // 4 if cfg.scheme == "grouped" else i  # four IDs share\n')
    ],
}
# prints tables, the texts of figures and their colors, on made-up numbers
DRAW = """
import sys
sys.path[:0] = ["tests/experiments", "tests/helpers"]
from test_figures import PRESET, TABLES, made_up, plots, test_no_two_lines_share_color_and_style
from memsinks_np.experiments import fig4, headline
from memsinks_np.experiments.comparison import compare, compare_jobs
from memsinks_np.experiments.methods import methods_of
from memsinks_np.experiments.recall import KS, Measured
from memsinks_np.experiments.registry import Context
from memsinks_np.metrics import BySinks, HistoryRow

loss = BySinks(1.0, 1.0, None)
rows = [HistoryRow(step, 1.0, loss, loss, recall=(0.5,) * len(KS[:-1])) for step in (0, 10)]
measured = Measured([[0.5]] * len(KS), [0.5] * len(KS[:-1]), [1.0] * len(KS), rows)
known = headline.Headline({name: [measured] for name in headline.METHODS}, {}, {})

chosen = {name: methods_of(PRESET)[name] for name in fig4.METHODS}
jobs = compare_jobs(Context(PRESET), PRESET, chosen)
compared = compare({key: made_up(job, {}) for key, job in jobs.items()})
plane = fig4.Fig4(compared.entropy, compared.methods, {}, {})

plots.save = lambda fig, *_: print(*[t.get_text().replace("\\n", " ") for t in fig.findobj(
    plots.Text) if t.get_color() == plots.ink_of("halved")], sep="\\n")
for table in TABLES:
    test_no_two_lines_share_color_and_style(table)
for experiment, result in ((headline, known), (fig4, plane)):
    print(experiment.tabulate(result))
    experiment.draw(result, None)
"""


def follow(recipe, copy):
    """Copy the repository and add the lines of a recipe."""
    ignored = shutil.ignore_patterns(".*", "runs", "figures", "__pycache__")
    for folder in ("memsinks_np", "tests", "tutorials"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, lines in recipe.items():
        path = copy / "memsinks_np" / name
        source = path.read_text(encoding="utf-8")
        for before, line in lines:
            assert source.count(before) == 1, before
            source = source.replace(before, before + line)
        path.write_text(source, encoding="utf-8")


def run(copy, *argv):
    """Run Python in the copy; return what it prints."""
    env = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *argv], cwd=copy, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_method_is_in_tables_figures_and_tests(tmp_path):
    follow(METHOD, tmp_path)
    assert len(METHOD) <= 2
    printed = run(tmp_path, "-c", DRAW)
    named = [line.split("  ")[0].strip("| ") for line in printed.splitlines() if "width" in line]
    # the headline: table, two panels; fig4: table, plane
    assert named == ["width halved"] * 5, printed


@pytest.mark.slow
def test_a_new_scheme_is_in_every_test_of_schemes(tmp_path):
    follow(SCHEME, tmp_path)
    assert len(SCHEME) <= 2
    settings = (
        "tests/robustness/test_bad_input.py::test_impossible_settings_are_refused_in_one_line"
    )
    tests = ["tests/unit/test_sinks.py", settings]
    printed = run(tmp_path, "-m", "pytest", "-vv", "-p", "no:cacheprovider", *tests)
    passed = [line for line in printed.splitlines() if "[grouped] PASSED" in line]
    assert len(passed) == 2
