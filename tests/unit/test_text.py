"""A text is cut into windows that stand nowhere else, and whatever is no text is refused in one line."""

import os

import numpy as np
import pytest

from memsinks_np._internal.ids import hash_ints, id_of, uniform
from memsinks_np.config import ConfigError, DataConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.text import UNUSUAL, encode, hashes, occurrences, read_text

SMALL = {"n_ctx": 15, "batch_size": 16, "n_repeated": 10, "n_heldout": 20}


def rows(tokens):
    return {tuple(row) for row in tokens.tolist()}


def random_text(tmp_path, n):
    letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    path = tmp_path / "text.txt"
    path.write_text(
        "".join(letters[i] for i in (hash_ints(7, np.arange(n)) % np.uint64(53)).tolist())
    )
    return str(path)


def test_no_crop_of_a_text_is_a_window_that_was_cut_out(tmp_path):
    """A text so short that 20,000 once-seen crops start at every place there is."""
    cfg = DataConfig(
        corpus=random_text(tmp_path, 1000), n_ctx=15, batch_size=16, n_repeated=4, n_heldout=6
    )
    corpus = load_corpus(cfg)
    crops, _ = corpus.draw(np.arange(20_000))
    assert len(rows(crops)) > 700
    assert not rows(crops) & (rows(corpus.repeated) | rows(corpus.heldout))


def test_windows_that_are_cut_out_stand_nowhere_else(tmp_path):
    path = random_text(tmp_path, 2000)
    text = read_text(path)
    with open(path, "w") as file:
        file.write(
            text + text[5:]
        )  # all_scaled but the beginning comes twice, at other places of the grid
    with pytest.raises(ConfigError, match="only 1 windows"):
        load_corpus(DataConfig(corpus=path, n_ctx=15, batch_size=16, n_repeated=4, n_heldout=6))


@pytest.mark.parametrize("width", [1, 2, 5, 8, 13])
def test_occurrences_are_those_that_one_counts(width, monkeypatch):
    """Pieces shorter than the text, windows across their borders, and letters that give many copies."""
    monkeypatch.setattr("memsinks_np.data.text.PIECE", 50)
    tokens = (hash_ints(3, np.arange(333)) % np.uint64(3)).astype(np.uint8)
    text, starts = tokens.tobytes(), np.arange(0, 333 - width, 3)
    want = [
        sum(text[j : j + width] == text[i : i + width] for j in range(len(text) - width + 1))
        for i in starts.tolist()
    ]
    assert occurrences(tokens, width, starts).tolist() == want
    assert len(np.unique(hashes(tokens, width))) == len(
        {text[j : j + width] for j in range(len(text) - width + 1)}
    )


def test_encoding_does_not_depend_on_the_pieces(monkeypatch):
    text = read_text("pydoc")[:5000] + "é☃"
    vocab, tokens = encode(text)
    monkeypatch.setattr("memsinks_np.data.text.PIECE", 7)
    assert encode(text)[0] == vocab
    np.testing.assert_array_equal(encode(text)[1], tokens)
    assert encode("") == ((UNUSUAL,), pytest.approx([]))


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
    with pytest.raises(
        ConfigError, match=r"path of a UTF-8 text file, not .* which (is not a file|cannot be read)"
    ):
        load_corpus(DataConfig(corpus=path, **SMALL))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "secret.txt"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match=r"cannot be read .Permission denied."):
        load_corpus(DataConfig(corpus=str(path), **SMALL))


@pytest.mark.parametrize(
    "data", [bytes(range(128)) * 99, "\ufeffword\r\n".encode() * 999, b"\0" * 9999], ids=repr
)
def test_odd_characters_are_characters(tmp_path, data):
    """Control characters, a byte order mark, CRLF: tokens like all others, or refused for what they repeat."""
    (tmp_path / "text.txt").write_bytes(
        bytes(uniform(5, np.arange(9000)).tobytes().hex(), "ascii") + data
    )
    corpus = load_corpus(DataConfig(corpus=str(tmp_path / "text.txt"), **SMALL))
    assert corpus.batch(0).tokens.max() < len(corpus.vocab)


def test_any_utf8_file_will_do(tmp_path):
    text = "".join(chr(0x430 + d % 32) + "ü, "[d % 3] for d in hash_ints(np.arange(9000)).tolist())
    corpus = load_corpus(DataConfig(corpus=write(tmp_path / "t.txt", text.encode()), **SMALL))
    assert corpus.text(corpus.heldout[0]) in text
