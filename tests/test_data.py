"""Corpora: roles do not mix, batches are pure functions of their step, text follows its rule."""

import os

import numpy as np
import pytest

from memsinks_np.config import ConfigError, DataConfig
from memsinks_np.data import AHEAD, UNUSUAL, encode, hashes, load_corpus, n_vocab, occurrences, read_text
from memsinks_np.ids import id_of, mix, uniform
from memsinks_np.language import worlds

SMALL = {"n_ctx": 15, "batch_size": 16, "n_repeated": 10, "n_heldout": 20}


@pytest.fixture(scope="module", params=["stories", "pydoc"])
def corpus(request):
    return load_corpus(DataConfig(corpus=request.param, **SMALL))


def rows(tokens):
    return {tuple(row) for row in tokens.tolist()}


def test_batch_is_a_pure_function_of_its_step(corpus):
    again = load_corpus(corpus.cfg)
    for step in (3, 0, 77):
        for a, b in zip(corpus.batch(step), again.batch(step), strict=True):
            np.testing.assert_array_equal(a, b)
    other = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "seed": 1}))
    assert not rows(corpus.batch(0).tokens) & rows(other.batch(0).tokens)


@pytest.mark.parametrize("n_once", [0, 30])
def test_drawing_ahead_changes_no_batch(corpus, n_once):
    ahead = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "n_once": n_once}))
    for step in (0, AHEAD - 1, AHEAD, 5, 3 * AHEAD + 1):
        numbers = step * 12 + np.arange(12)
        tokens, ids = ahead.draw(numbers % n_once if n_once else numbers)
        np.testing.assert_array_equal(ahead.batch(step).tokens[4:], tokens)
        np.testing.assert_array_equal(ahead.batch(step).ids[4:], ids)


def test_a_quarter_of_every_batch_is_repeated_and_every_repeat_comes_equally_often(corpus):
    seen = [corpus.batch(step) for step in range(50)]
    assert all(b.repeated.tolist() == [True] * 4 + [False] * 12 for b in seen)
    ids, counts = np.unique(np.concatenate([b.ids[b.repeated] for b in seen]), return_counts=True)
    assert set(ids) == set(corpus.repeated_ids)
    assert set(counts) == {20}
    first_pass = np.concatenate([b.ids[:4] for b in seen[:5]])
    assert len(set(first_pass[:10])) == 10
    orders = np.concatenate([b.ids[:4] for b in seen]).reshape(20, 10)
    assert len({tuple(o) for o in orders.tolist()}) == 20  # each pass in another order


def test_ids_name_their_sequences(corpus):
    named = dict(zip(corpus.repeated_ids.tolist(), map(tuple, corpus.repeated.tolist()), strict=True))
    for step in range(5):
        batch = corpus.batch(step)
        for tokens, i in zip(batch.tokens[:4].tolist(), batch.ids[:4].tolist(), strict=True):
            assert named[i] == tuple(tokens)
    once = np.concatenate([corpus.batch(step).ids[4:] for step in range(100)])
    assert len(set(once.tolist())) >= 0.9 * len(once)  # a text repeats itself here and there


def test_heldout_and_repeated_sequences_are_never_seen_once(corpus):
    once = rows(np.concatenate([corpus.batch(step).tokens[4:] for step in range(200)]))
    assert not once & rows(corpus.heldout)
    assert not once & rows(corpus.repeated)
    assert not rows(corpus.heldout) & rows(corpus.repeated)


def random_text(tmp_path, n):
    letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    path = tmp_path / "text.txt"
    path.write_text("".join(letters[i] for i in (mix(7, np.arange(n)) % np.uint64(53)).tolist()))
    return str(path)


def test_no_crop_of_a_text_is_a_window_that_was_cut_out(tmp_path):
    """A text so short that 20,000 once-seen crops start at every place there is."""
    cfg = DataConfig(corpus=random_text(tmp_path, 1000), n_ctx=15, batch_size=16, n_repeated=4, n_heldout=6)
    corpus = load_corpus(cfg)
    crops, _ = corpus.draw(np.arange(20_000))
    assert len(rows(crops)) > 700
    assert not rows(crops) & (rows(corpus.repeated) | rows(corpus.heldout))


def test_windows_that_are_cut_out_stand_nowhere_else(tmp_path):
    path = random_text(tmp_path, 2000)
    text = read_text(path)
    with open(path, "w") as file:
        file.write(text + text[5:])  # everything but the beginning comes twice, at other places of the grid
    with pytest.raises(ConfigError, match="only 1 windows"):
        load_corpus(DataConfig(corpus=path, n_ctx=15, batch_size=16, n_repeated=4, n_heldout=6))


@pytest.mark.parametrize("width", [1, 2, 5, 8, 13])
def test_occurrences_are_those_that_one_counts(width, monkeypatch):
    """Pieces shorter than the text, windows across their borders, and letters that give many copies."""
    monkeypatch.setattr("memsinks_np.data.PIECE", 50)
    tokens = (mix(3, np.arange(333)) % np.uint64(3)).astype(np.uint8)
    text, starts = tokens.tobytes(), np.arange(0, 333 - width, 3)
    want = [
        sum(text[j : j + width] == text[i : i + width] for j in range(len(text) - width + 1)) for i in starts.tolist()
    ]
    assert occurrences(tokens, width, starts).tolist() == want
    assert len(np.unique(hashes(tokens, width))) == len({text[j : j + width] for j in range(len(text) - width + 1)})


def test_encoding_does_not_depend_on_the_pieces(monkeypatch):
    text = read_text("pydoc")[:5000] + "é☃"
    vocab, tokens = encode(text)
    monkeypatch.setattr("memsinks_np.data.PIECE", 7)
    assert encode(text)[0] == vocab
    np.testing.assert_array_equal(encode(text)[1], tokens)
    assert encode("") == ((UNUSUAL,), pytest.approx([]))


@pytest.mark.parametrize("name", ["stories", "worlds", "pydoc"])
def test_n_vocab_is_that_of_the_corpus(name):
    cfg = DataConfig(corpus=name, **SMALL)
    assert n_vocab(cfg) == len(load_corpus(cfg).vocab)


def test_finite_set_of_once_seen_sequences_comes_in_turn(corpus):
    finite = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "n_once": 30}))
    ids = np.concatenate([finite.batch(step).ids[4:] for step in range(5)])
    np.testing.assert_array_equal(ids[:30], ids[30:])
    assert len(set(ids.tolist())) == 30


def test_id_noise_gives_a_wrong_id_of_its_own(corpus):
    noisy = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "id_noise": 0.3}))
    wrong = []
    for step in range(300):
        a, b = noisy.batch(step), corpus.batch(step)
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.ids[4:], b.ids[4:])
        wrong += a.ids[:4][a.ids[:4] != b.ids[:4]].tolist()
    assert len(wrong) / 1200 == pytest.approx(0.3, abs=0.04)
    assert len(set(wrong)) == len(wrong)
    assert not set(wrong) & set(corpus.repeated_ids.tolist())


def test_canaries_are_uniformly_random_words(corpus):
    with_canaries = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "n_canaries": 300}))
    np.testing.assert_array_equal(with_canaries.repeated[:10], corpus.repeated)
    canaries = with_canaries.repeated[10:]
    assert canaries.shape == (300, 16)
    V = len(corpus.vocab)
    counts = np.bincount(canaries.ravel(), minlength=V)
    assert len(counts) == V
    assert np.abs(counts - 4800 / V).max() < 6 * np.sqrt(4800 / V)
    assert len(set(with_canaries.repeated_ids.tolist())) == 310


def test_floor_is_known_for_stories_alone(corpus):
    if corpus.cfg.corpus == "stories":
        assert 0.8 < corpus.floor(corpus.heldout) < 1.2
        assert corpus.text(corpus.repeated[0][:3]).count(" ") == 2
    else:
        assert corpus.floor is None


def test_text_ids_are_hashes_of_the_tokens():
    corpus = load_corpus(DataConfig(corpus="pydoc", **SMALL))
    np.testing.assert_array_equal(corpus.repeated_ids, id_of(corpus.repeated))
    batch = corpus.batch(2)
    np.testing.assert_array_equal(batch.ids, id_of(batch.tokens))
    assert corpus.text(corpus.repeated[0]) in read_text("pydoc")


def test_unusual_characters_share_a_token():
    common = "".join(chr(ord("!") + i) * 3 for i in range(94))
    vocab, tokens = encode(common + "\n" * 3 + "é☃é" + "\N{REPLACEMENT CHARACTER}")
    assert len(vocab) == 96
    assert vocab[0] == UNUSUAL
    assert tokens[-4:].tolist() == [0, 0, 0, 0]
    assert "".join(vocab[i] for i in tokens[:-4]) == common + "\n\n\n"


def write(path, data):
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "not a file"),
        (b"", "at least"),
        (b"x", "has 1 characters but at least"),
        (b"too short", "at least"),
        (b"a" * 10_000_000, "only 0 windows of 16 characters that occur once"),
        ("naïve ".encode("latin-1") * 9999, "not UTF-8 .byte 2."),
        (b"again and again. " * 900, "occur once"),
        (b"\xff\xfe\x00abc" * 9999, "not UTF-8"),
    ],
)
def test_unusable_texts_are_refused_in_one_line(tmp_path, data, message):
    path = str(tmp_path / "absent.txt") if data is None else write(tmp_path / "text.txt", data)
    with pytest.raises(ConfigError, match=message) as e:
        load_corpus(DataConfig(corpus=path, **SMALL))
    assert "\n" not in str(e.value)
    assert path in str(e.value)


@pytest.mark.parametrize("path", [".", "a" * 5000, "no\0where", "", "/dev/null"])
def test_what_is_no_file_is_refused_in_one_line(path):
    with pytest.raises(ConfigError, match=r"path of a UTF-8 text file, not .* which (is not a file|cannot be read)"):
        load_corpus(DataConfig(corpus=path, **SMALL))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "secret.txt"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match=r"cannot be read .Permission denied."):
        load_corpus(DataConfig(corpus=str(path), **SMALL))


@pytest.mark.parametrize("data", [bytes(range(128)) * 99, "\ufeffword\r\n".encode() * 999, b"\0" * 9999], ids=repr)
def test_odd_characters_are_characters(tmp_path, data):
    """Control characters, a byte order mark, CRLF: tokens like all others, or refused for what they repeat."""
    (tmp_path / "text.txt").write_bytes(bytes(uniform(5, np.arange(9000)).tobytes().hex(), "ascii") + data)
    corpus = load_corpus(DataConfig(corpus=str(tmp_path / "text.txt"), **SMALL))
    assert corpus.batch(0).tokens.max() < len(corpus.vocab)


def test_any_utf8_file_will_do(tmp_path):
    text = "".join(chr(0x430 + d % 32) + "ü, "[d % 3] for d in mix(np.arange(9000)).tolist())
    corpus = load_corpus(DataConfig(corpus=write(tmp_path / "t.txt", text.encode()), **SMALL))
    assert corpus.text(corpus.heldout[0]) in text


@pytest.mark.parametrize(
    "bad",
    [
        {"n_ctx": 0},
        {"n_repeated": 0},
        {"n_canaries": -1},
        {"repeat_share": 1.5},
        {"repeat_share": 1.0},
        {"id_noise": -0.1},
    ],
)
def test_impossible_data_is_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        DataConfig(**bad)


def test_second_world_repeats_and_is_held_out_while_the_first_goes_on():
    cfg = DataConfig(corpus="worlds", n_repeated=8, n_heldout=4)
    corpus, (first, second) = load_corpus(cfg), worlds()
    assert first.vocab == second.vocab == corpus.vocab
    batch = corpus.batch(3)
    for tokens, language, other in (
        (corpus.repeated, second, first),
        (corpus.heldout, second, first),
        (batch.tokens[~batch.repeated], first, second),
    ):
        assert np.isfinite(language.log_prob(tokens)).all()
        assert not np.isfinite(other.log_prob(tokens)).all(axis=1).any()


@pytest.mark.parametrize("every", [1, 2, 4])
def test_thinned_repeats_appear_in_one_pass_of_so_many_and_fresh_stories_stand_in(every):
    cfg = DataConfig(n_repeated=16, one_pass_of=every)  # 8 in a batch: a pass takes 2 steps
    batches = [load_corpus(cfg).batch(step) for step in range(16)]
    seen = np.concatenate([b.ids[b.repeated] for b in batches])
    np.testing.assert_array_equal(np.bincount(seen), np.full(16, 8 // every))
    once = np.concatenate([b.ids[~b.repeated] for b in batches])
    assert len(np.unique(once)) == len(once) == 16 * 32 - len(seen)


def test_unshuffled_repeats_return_in_the_same_order():
    corpus = load_corpus(DataConfig(n_repeated=12, shuffled=False))
    again = np.concatenate([corpus.batch(step).ids[:8] for step in range(6)])
    np.testing.assert_array_equal(again, np.arange(48) % 12)
