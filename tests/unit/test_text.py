"""Texts are cut into windows that occur only once; an unusable text is refused in one line."""

import os

import numpy as np
import pytest

from memsinks_np._internal.ids import hash_ints, id_of, integers
from memsinks_np.config import ConfigError, DataConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.text import UNUSUAL, encode, occurrences, read_text, window_hashes

SMALL = {"n_ctx": 15, "batch_size": 16, "n_repeated": 10, "n_heldout": 20}
FEW = {"n_ctx": 15, "batch_size": 16, "n_repeated": 4, "n_heldout": 6}


def rows(tokens):
    return {tuple(row) for row in tokens.tolist()}


def write(tmp_path, data):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    return str(path)


def random_text(n):
    letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(letters[i] for i in (hash_ints(7, integers(n)) % np.uint64(53)).tolist())


def test_no_crop_of_a_text_is_a_window_that_was_cut_out(tmp_path):
    path = write(tmp_path, random_text(1000).encode())
    corpus = load_corpus(DataConfig(corpus=path, **FEW))
    crops, _ = corpus.draw(integers(20_000))  # enough to start at every position
    assert len(rows(crops)) > 700
    assert not rows(crops) & (rows(corpus.repeated) | rows(corpus.heldout))


def test_windows_that_occur_twice_are_not_cut_out(tmp_path):
    text = random_text(2000)  # all but the beginning occurs again, at another offset
    with pytest.raises(ConfigError, match="only 1 windows"):
        load_corpus(DataConfig(corpus=write(tmp_path, (text + text[5:]).encode()), **FEW))


@pytest.mark.parametrize("width", [1, 2, 5, 8, 13])
def test_occurrences_are_those_of_a_plain_count(width, monkeypatch):
    monkeypatch.setattr("memsinks_np.data.text.CHUNK", 50)  # windows cross its borders
    tokens = (hash_ints(3, integers(300 + width)) % np.uint64(3)).astype(np.uint8)
    text, starts = tokens.tobytes(), integers(301)[::3]  # the last window is a chunk of its own
    windows = [text[j : j + width] for j in range(len(text) - width + 1)]
    want = [windows.count(windows[i]) for i in starts.tolist()]
    assert occurrences(tokens, width, starts).tolist() == want
    assert len(np.unique(window_hashes(tokens, width))) == len(set(windows))


@pytest.mark.slow
def test_encoding_does_not_depend_on_the_chunks(monkeypatch):
    text = read_text("pydoc")[:5000] + "é☃"
    vocab, tokens = encode(text)
    monkeypatch.setattr("memsinks_np.data.text.CHUNK", 7)
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
    common = "".join(chr(ord("!") + i) * 3 for i in range(94)) + "\n" * 3
    vocab, tokens = encode(common + "é☃é" + UNUSUAL)
    assert len(vocab) == 96
    assert vocab[0] == UNUSUAL
    assert tokens[-4:].tolist() == [0, 0, 0, 0]
    assert "".join(vocab[i] for i in tokens[:-4]) == common


def mixed(n_rare):
    """A text of 10,000 characters, of which `n_rare` are none of the most frequent."""
    frequent = "".join(chr(0x100 + d % 94) for d in hash_ints(integers(10_000 - n_rare)).tolist())
    return frequent + "".join(chr(0x4E00 + i) for i in range(n_rare)) + UNUSUAL * 1000


def load_text(tmp_path, text):
    return load_corpus(DataConfig(corpus=write(tmp_path, text.encode()), **FEW))


@pytest.mark.parametrize("n_rare", [0, 110])
def test_texts_with_few_unusual_characters_are_silent(n_rare, tmp_path):
    assert len(load_text(tmp_path, mixed(n_rare)).vocab) == 95


@pytest.mark.parametrize(("n_rare", "fraction"), [(111, "1.0%"), (1000, "9.1%"), (1100, "10.0%")])
def test_a_text_with_many_unusual_characters_is_announced(n_rare, fraction, tmp_path):
    with pytest.warns(UserWarning, match=f"{fraction} of corpus .* share one token") as caught:
        load_text(tmp_path, mixed(n_rare))
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


@pytest.mark.parametrize("n_rare", [1101, 5000])
def test_a_text_of_unusual_characters_is_refused(n_rare, tmp_path):
    with pytest.raises(ConfigError, match=r"share one token; at most 10% may") as e:
        load_text(tmp_path, mixed(n_rare))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least"),
        (b"x", "has 1 characters but at least"),
        (b"a" * 1_000_000, "only 0 windows of 16 characters that occur once"),
        ("naïve ".encode("latin-1") * 9999, "not UTF-8 .byte 2."),
        (b"again and again. " * 900, "occur once"),
    ],
)
def test_unusable_texts_are_refused_in_one_line(tmp_path, data, message):
    path = write(tmp_path, data)
    with pytest.raises(ConfigError, match=message) as e:
        load_corpus(DataConfig(corpus=path, **SMALL))
    assert "\n" not in str(e.value)
    assert path in str(e.value)


@pytest.mark.parametrize("path", [".", "a" * 5000, "no\0where", "", "/dev/null", "absent.txt"])
def test_other_paths_are_refused_in_one_line(path):
    message = r"corpus '.*' (not found|cannot be read .*); use .* path of a UTF-8 text file$"
    with pytest.raises(ConfigError, match=message) as e:
        load_corpus(DataConfig(corpus=path, **SMALL))
    assert "\n" not in str(e.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "secret.txt"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match=r"cannot be read .Permission denied."):
        load_corpus(DataConfig(corpus=str(path), **SMALL))


def test_non_latin_text_is_read(tmp_path):
    random = hash_ints(integers(9000)).tolist()
    text = "".join(chr(0x430 + d % 32) + "ü, "[d % 3] for d in random)
    corpus = load_corpus(DataConfig(corpus=write(tmp_path, text.encode()), **SMALL))
    assert corpus.text(corpus.heldout[0]) in text
