"""Reading and normalising texts, units, vocabularies."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import ConfigError, DataError, PackageError
from asr.language.corpus import named_sources, prepare_corpus
from asr.language.texts import find_sources, read_text, sentences
from asr.language.units import Characters, Pieces, Words, plain_units
from asr.language.vocabulary import Vocabulary, limit, read_vocabulary
from asr.text import BpeTokenizer, Normaliser

ENGLISH = Normaliser(" 'abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_text_is_read_plain_and_compressed(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack("\ufeffIt’s one,\r\ntwo\n\n — \nthree".encode()))
    [source] = find_sources([str(path)], tmp_path)
    read: list[int] = []
    assert list(sentences([source], ENGLISH, read.append)) == ["it's one", "two", "three"]
    assert sum(read) == source.n_bytes


def test_ids_are_left_out(tmp_path: Path) -> None:
    named, other = tmp_path / "84-1.trans.txt", tmp_path / "text"
    named.write_text("84-1-0001 HELLO WORLD\n84-1-0002\n")
    other.write_text("id HELLO\n")
    assert list(sentences(find_sources([str(named), str(other)], tmp_path), ENGLISH)) == ["hello world", "id hello"]
    assert list(sentences(find_sources([str(other)], tmp_path, text_ids=True), ENGLISH)) == ["hello"]
    packed = tmp_path / "84-2.trans.txt.xz"
    packed.write_bytes(lzma.compress(named.read_bytes()))
    assert list(sentences(find_sources([str(packed)], tmp_path), ENGLISH)) == ["hello world"]


def test_manifest_gives_its_transcripts(tmp_path: Path, write_corpus: Callable[..., Path]) -> None:
    from asr.cli import main

    table = write_corpus([0.5, 0.6])
    assert main(["prepare", "table", str(table), "--name", "mine/all", "--manifests", str(tmp_path / "m")]) == 0
    [source] = find_sources(["mine/all"], tmp_path / "m")
    assert source.kind == "manifest"
    assert list(read_text(source)) == ["text 0", "text 1"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt.xz", lzma.compress(b"hello\n" * 10000)[:60], "cannot be read"),
        ("a.txt.gz", gzip.compress(b"hello\n" * 10000)[:60], "cannot be read"),
        ("a.txt.gz", b"hello", "cannot be read"),
        ("a.txt.bz2", b"hello", "cannot be read"),
        ("a.txt", b"hello\nb\xff", "not UTF-8"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        list(read_text(find_sources([str(path)], tmp_path)[0]))
    assert str(path) in str(caught.value)


def test_what_is_neither_file_nor_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file, and no such manifest"):
        find_sources(["novels"], tmp_path)
    with pytest.raises(DataError, match="not a file"):
        find_sources([str(tmp_path)], tmp_path)
    with pytest.raises(ConfigError, match="text is empty"):
        named_sources([], "text", str(tmp_path), False)


def test_corpus_counts_and_keeps_what_was_normalised(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The cat. The dog\n?\nA cat\n")
    corpus = prepare_corpus(find_sources([str(path)], tmp_path), ENGLISH, tmp_path / "work")
    assert corpus.counts == {"the": 2, "cat": 2, "dog": 1, "a": 1}
    assert (corpus.n_sentences, corpus.n_words) == (2, 6)
    assert list(corpus.sentences()) == [["the", "cat", "the", "dog"], ["a", "cat"]]
    path.write_text("?\n!\n")
    with pytest.raises(DataError, match="no sentence is left"):
        prepare_corpus(find_sources([str(path)], tmp_path), ENGLISH, tmp_path / "work")


def pieces() -> Pieces:
    names = ["▁to", "▁t", "om", "▁", *"abcdefghijklmnopqrstuvwxyz'"]
    return Pieces(BpeTokenizer(ENGLISH, names))


@pytest.mark.parametrize(
    ("units", "words", "split"),
    [
        (Words(), ["to", "tom"], ["to", "tom"]),
        (Characters(), ["to", "me"], ["t", "o", "|", "m", "e"]),
        (pieces(), ["to", "mom"], ["▁to", "▁", "m", "om"]),
    ],
)
def test_units_are_split_joined_and_counted(units: Words | Characters | Pieces, words: list[str], split: list[str]) -> None:
    assert units.split(words) == split
    assert units.join(split) == words
    assert units.split([]) == units.join([]) == []
    counts = dict.fromkeys(words, 2)
    expected: dict[str, int] = {}
    for unit in 2 * split:
        expected[unit] = expected.get(unit, 0) + 1
    assert units.count(counts, n_sentences=2) == expected


def test_piece_model_calls_a_word_that_cannot_be_spelled_unknown() -> None:
    assert pieces().split(["to", "é"]) == ["▁to", "<unk>"]


def test_units_that_the_alphabet_does_not_allow_are_refused() -> None:
    with pytest.raises(ConfigError, match="no space"):
        plain_units("word", Normaliser("abc"))
    with pytest.raises(ConfigError, match="stands between words"):
        plain_units("character", Normaliser(" ab|"))


def test_vocabulary_is_limited_by_frequency_and_alphabet() -> None:
    counts = {"b": 5, "a": 5, "c": 9, "1": 99, "<unk>": 50, "d": 1}
    vocabulary = limit(counts, 3, "abcd<unk>")
    assert vocabulary.units == ("c", "a", "b")
    assert vocabulary.counts == (9, 5, 5)
    assert limit(counts, 0, "abcd").units == ("c", "a", "b", "d")


def test_vocabulary_file_is_read_back_and_checked(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("it's", "é"), (3, 0))
    vocabulary.save(tmp_path)
    assert (tmp_path / "vocabulary.txt").read_text(encoding="utf-8") == "it's\t3\né\t0\n"
    assert read_vocabulary(tmp_path) == vocabulary
    for content, words in (("a\t1\nb\n", "line 2"), ("a\t-1\n", "line 1"), ("a\t1\na\t1\n", "twice"), ("<s>\t1\n", "line 1")):
        (tmp_path / "vocabulary.txt").write_text(content)
        with pytest.raises(PackageError, match=words):
            read_vocabulary(tmp_path)
    with pytest.raises(PackageError, match="not found"):
        read_vocabulary(tmp_path / "absent")
