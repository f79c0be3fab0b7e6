"""A result is kept for the source that made it, however that source is imported."""

import pytest
from memsinks_np.experiments.runner.sources import source

from memsinks_np.experiments.runner import sources


def test_an_experiment_depends_on_what_it_imports_but_not_on_how_numbers_are_shown():
    found = sources.imports(sources.PACKAGE / "experiments" / "headline.py")
    assert {path.stem for path in found} == {
        "samples",
        "methods",
        "data",
        "comparison",
        "memory_map",
    }
    assert source("memsinks_np.experiments.headline") != source(
        "memsinks_np.experiments.comparison"
    )
    assert source("memsinks_np.experiments.text") != source("memsinks_np.experiments.headline")


@pytest.mark.parametrize(
    "spelling",
    ["import metric", "import metric as m", "from metric import f", "from . import metric"],
)
@pytest.mark.parametrize("changed", ["metric", "deeper"])
def test_a_change_in_what_lies_beside_a_module_is_noticed(spelling, changed, tmp_path, monkeypatch):
    name = f"mine_{abs(hash((spelling, changed)))}"
    folder = tmp_path / name
    folder.mkdir()
    for file, text in (
        ("run", spelling),
        ("metric", "from deeper import g\nf = 1"),
        ("deeper", "g = 2"),
    ):
        (folder / f"{file}.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(tmp_path)
    before = source(f"{name}.run")
    (folder / f"{changed}.py").write_text(
        "g = f = 3\n" if changed == "deeper" else "from deeper import g\nf = 2\n"
    )
    source.cache_clear()
    sources.files.cache_clear()
    assert source(f"{name}.run") != before


@pytest.mark.parametrize(
    "spelling",
    [
        "import memsinks_np._internal.ids as i",
        "from memsinks_np import ids",
        "from memsinks_np._internal.ids import hash_ints",
    ],
)
def test_every_spelling_leads_to_the_same_file(spelling, tmp_path):
    (tmp_path / "mine.py").write_text(spelling)
    assert [path.stem for path in sources.imports(tmp_path / "mine.py")] == ["ids"]


def test_relative_imports_are_followed(tmp_path):
    (tmp_path / "outer.py").touch()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "mine.py").write_text("from .. import outer\nfrom ..outer import x\n")
    assert sources.imports(tmp_path / "inside" / "mine.py") == {tmp_path / "outer.py"}
