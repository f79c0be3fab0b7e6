"""What a model answers to typed words, against one token at a time."""

import io
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.config import ConfigError, DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import cli, headline, methods, talk
from memsinks_np.experiments.methods import PRESETS, SINKS, methods_of, quick
from memsinks_np.experiments.report.claims import QUICK
from memsinks_np.sinks import NO_SINKS, all_scaled, own, sink_mask
from memsinks_np.trained import Model
from plain import continued, strong_params, word_losses

PEOPLE = DataConfig(corpus="people", n_ctx=29, n_repeated=127, n_heldout=5, seed=3)
SETTINGS = Settings(data=PEOPLE, train=TrainConfig(), d_model=10, n_heads=2)
POOL = SinkConfig(n_sink=15, n_active=5, seed=3)


def random_model(data=PEOPLE, pool=POOL):
    corpus = load_corpus(data)
    method = Method(name="any", n_shared=7, sinks=pool)
    cfg = replace(SETTINGS, data=data).model(method, len(corpus.vocab))
    params = {name: (3 if ".sink." in name else 1) * w for name, w in strong_params(cfg, 7).items()}
    return Model(params, cfg, corpus.vocab, corpus.separator, [], corpus)


MODEL = random_model()
CORPUS = MODEL.corpus
WORLD = CORPUS.facts.world


def rows_of(text):
    """Return the table of an answer, a list of cells per line, and its lines before the table."""
    before, _, lines = text.partition("\n\n")
    head, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines.split("\n"))
    return before.split("\n"), head, rows


@pytest.mark.parametrize("n_typed", [1, 4, 25, 29])
def test_replies_are_greedy_with_their_probabilities(n_typed):
    typed = CORPUS.repeated[5, :n_typed]
    each = {
        "own": (own(POOL, CORPUS.repeated_ids[[5]]), sink_mask(POOL, CORPUS.repeated_ids[[5]])[0]),
        "all": (all_scaled(POOL), np.full(POOL.n_sink, POOL.density)),
        "removed": (NO_SINKS, np.zeros(POOL.n_sink)),
    }
    said = set()
    for selection, factors in each.values():
        tokens, p = talk.reply(MODEL, typed, selection)
        want = continued(MODEL.params, MODEL.cfg, typed, min(12, 30 - n_typed), factors)
        assert tokens.tolist() == want
        losses = word_losses(MODEL.params, MODEL.cfg, want, factors)
        np.testing.assert_allclose(p, np.exp(-losses), rtol=1e-6)
        said.add(str(tokens))
    assert len(said) == 3 or n_typed == 29


def test_a_document_is_found_by_words_in_a_row():
    documents = np.array([[1, 2, 3, 4], [0, 2, 3, 9], [3, 9, 3, 9]])
    places = {(2, 3): (0, 1), (2, 3, 9): (1, 1), (3, 9): (1, 2), (1,): (0, 0), (3, 2): None}
    assert {words: talk.find(documents, np.array(words)) for words in places} == places


@pytest.mark.parametrize("document", [0, 60])
def test_either_phrasing_finds_a_document_that_states_the_fact(document):
    fact, name = CORPUS.facts.repeated[document, 2], CORPUS.repeated[document, 12:14]
    ours, other = (WORLD.phrases[(WORLD.relation[fact] + i) % 4] for i in (0, 1))
    for phrase in ours:
        found, place, _ = talk.choose(MODEL, np.array([*name, *phrase]), "auto")
        assert CORPUS.facts.repeated[found, place // 6] == fact
        _, _, rows = rows_of(talk.answer(MODEL, np.array([*name, *phrase]), "auto"))
        assert [row[0] for row in rows[2:5]] == [
            CORPUS.vocab[t] for t in (*phrase, WORLD.value[fact])
        ]
    typed = np.array([*name, *other[0], WORLD.value[fact]])
    assert talk.choose(MODEL, typed, "auto")[:2] == (0, None)
    assert talk.answer(MODEL, typed, "auto").startswith("no document has these words\n")


@pytest.mark.parametrize(
    ("who", "labels"),
    [
        ("auto", ["sinks of 0", "sinks removed"]),
        ("3", ["sinks of 3", "sinks removed"]),
        ("all", ["all sinks", "sinks removed"]),
        ("none", ["sinks removed"]),
    ],
)
def test_answers_stand_side_by_side_and_next_to_the_document(who, labels):
    typed, n = CORPUS.repeated[0, 6:10], 4
    before, head, rows = rows_of(talk.answer(MODEL, typed, who))
    assert head == ["typed" if who == "3" else "document 0", *labels]
    document = typed if who == "3" else CORPUS.repeated[0, 6:22]
    words = CORPUS.text(document).split()
    assert [row[0] for row in rows] == words + [""] * (16 - len(words))
    *_, sinks = talk.choose(MODEL, typed, who)
    said = ["document", "3", "does", "not", "have", "these", "words"] if who == "3" else []
    for column, (label, selection) in enumerate(sinks.items(), start=1):
        tokens, p = talk.reply(MODEL, typed, selection)
        said += [*label.split(), *CORPUS.text(tokens[n:]).split()]
        cells = [row[column].split() for row in rows]
        assert [cell[0] for cell in cells[n:]] == CORPUS.text(tokens[n:]).split()
        assert [cell[-1] for cell in cells[1:]] == [f"{x:.0%}" for x in p]
        assert [len(cell) for cell in cells] == [0, 1, 1, 1] + [2] * 12
    assert " ".join(before).split() == said
    assert max(map(len, before)) <= 80


def test_the_chosen_sinks_stay_on_and_refused_lines_are_one_line():
    text = CORPUS.text(CORPUS.repeated[0, :4])
    lines = [text, "/id 3", text.upper().replace(" ", "\t "), "/id 127", "", "anna knows xyz", text]
    answered = talk.answers(MODEL, [*lines, "/help", "/quit", text], "0")
    first, chosen, third, refused, unknown, last, help_text = answered
    assert help_text == talk.HELP
    of = lambda who: talk.answer(MODEL, CORPUS.repeated[0, :4], who)
    assert (first, chosen, third, last) == (of("0"), "sinks: 3", of("3"), of("3"))
    assert refused == "no document '127'; choose one from 0 to 126, or none, all or auto"
    assert unknown == "'knows', 'xyz' not in the vocabulary"


@pytest.mark.parametrize("who", ["", "-1", "007", "127", "3 4", "٣", "²", "9" * 5000])
def test_only_the_number_of_a_document_is_one(who):
    with pytest.raises(ConfigError, match=f"^no document '{who}'; choose one from 0 to 126"):
        talk.check_who(CORPUS, who)


def test_a_text_is_typed_by_characters_and_control_characters_are_visible(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(map(str, range(12_000))))
    model = random_model(DataConfig(corpus=str(path), n_ctx=20, n_repeated=4, n_heldout=4))
    typed = talk.encode_typed(model.corpus, "1 2".replace(" ", "\n"))
    *_, rows = rows_of(talk.answer(model, typed, "none"))
    assert [row[0] for row in rows[:3]] == ["1", "↵", "2"]
    with pytest.raises(ConfigError, match="21 tokens; type at least 1 and at most 20"):
        talk.encode_typed(model.corpus, 7 * "123")


def test_methods_are_those_of_the_headline_that_have_sinks():
    made = methods_of(PRESETS["people"])
    assert list(talk.METHODS) == [name for name in headline.METHODS if made[name].sinks]


def test_the_command_answers_once_or_until_the_input_ends(tmp_path, capsys, monkeypatch):
    argv = ["talk", "--quick", "--steps", "2", "--out", str(tmp_path)]
    assert cli.main([*argv, "--once", "anna found"]) == 0
    once, trained = capsys.readouterr()
    assert trained.startswith("sinks seed 0: 2 steps  recall, stated in 1: ")
    assert "| sinks removed |" in once
    assert once.startswith(QUICK)
    (model,) = tmp_path.rglob("*.npz")
    written = model.stat().st_mtime_ns
    monkeypatch.setattr("sys.stdin", io.StringIO("anna found\nxyz\n"))
    assert cli.main(argv) == 0
    out, trained = capsys.readouterr()
    assert trained == ""  # it is in the cache
    assert once.partition("\n")[2] in out
    assert "document 0:" in out
    first = load_corpus(methods.job(quick(PRESETS["people"]), SINKS, 0, len).settings.data)
    assert first.text(first.repeated[0]) in " ".join(out.split())
    assert out.endswith("'xyz' not in the vocabulary\n\n")

    def interrupted(prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert cli.main(argv) == 0
    assert model.stat().st_mtime_ns == written
    assert cli.main([*argv, "--fresh", "--once", "anna"]) == 0
    assert model.stat().st_mtime_ns > written
