"""KenLM's files by strangers: forged ones are refused before its C++ code follows them.

``tests/ngrams`` has a small model of n-grams up to 3 in three of KenLM's formats, as its ``build_binary`` wrote them.
"""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import PackageError
from asr.language import NgramModel, load_language_model
from asr.language.kenlm import check_file, read_header
from asr.language.ngram import load_kenlm

NGRAMS = Path(__file__).parent / "ngrams"
FORMATS = ("trie", "quantised", "probing")
COUNTS = (13, 49, 77)
TABLES = 136  # where the tables begin: the header has 88 + 20 + 3 * 8 bytes, and goes on to a multiple of 8
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_the_same(format: str) -> None:
    header = read_header(NGRAMS / f"{format}.bin")
    assert header.counts == COUNTS
    model, other = load_kenlm(NGRAMS / f"{format}.bin"), load_kenlm(NGRAMS / "trie.bin")
    assert sorted(model.words) == sorted(WORDS)
    for text in (["one", "two", "three"], ["four"], ["ten", "ten"], [], ["six", "nothing", "two"]):
        [score], [expected] = model.score([text]), other.score([text])
        # Three bits a value make up for a part of what was there.
        assert score.log_prob == pytest.approx(expected.log_prob, abs=1e-4 if format != "quantised" else 3.0)


def forged(format: str, tmp_path: Path, change: Callable[[bytearray], object]) -> Path:
    content = bytearray((NGRAMS / f"{format}.bin").read_bytes())
    change(content)
    path = tmp_path / f"{format}.bin"
    path.write_bytes(content)
    return path


def put(at: int, form: str, value: float) -> Callable[[bytearray], object]:
    return lambda content: struct.pack_into(form, content, at, value)


UNIGRAMS = TABLES + 8 + 8 * COUNTS[0]  # behind the number of words and their hashes
BIGRAMS = UNIGRAMS + 16 * (COUNTS[0] + 2)
HASHED = TABLES + 8 + 12 * 19  # hash tables have 1.5 places for each entry


@pytest.mark.parametrize(
    ("format", "change", "words"),
    [
        ("trie", put(TABLES, "<Q", 10**9), "table of words has 1,000,000,001, its header says 13"),
        ("trie", put(TABLES + 8, "<Q", 2**64 - 1), "words are not in order"),
        ("trie", put(UNIGRAMS, "<f", 0.1), "probability of a word"),
        ("trie", put(UNIGRAMS + 4, "<f", float("nan")), "back-off of a word"),
        ("trie", put(UNIGRAMS + 8 + 16 * 5, "<Q", 2**40), "point outside"),
        ("trie", put(UNIGRAMS + 8 + 16 * 13, "<Q", 48), "do not point to all|point outside"),
        ("trie", put(BIGRAMS, "<Q", 2**64 - 1), "2-grams hold a word that is none"),
        ("trie", put(108 + 8, "<Q", 50), "it ends before|do not point to all|behind its tables"),
        ("trie", put(96, "<i", 3), "values are of version"),
        ("trie", put(96, "<i", 0), "header of this KenLM file is corrupt"),
        ("quantised", put(UNIGRAMS, "<B", 3), "values are of version 3, not 2"),
        ("quantised", put(UNIGRAMS + 1, "<B", 0), "impossible number of bits"),
        ("quantised", put(UNIGRAMS + 1, "<B", 25), "it ends before"),
        ("quantised", put(UNIGRAMS + 2, "<B", 200), "impossible number of bits"),
        ("quantised", put(UNIGRAMS + 8 + 4, "<f", float("nan")), "probability of a 2-gram"),
        ("probing", put(TABLES, "<I", 1), "version 1, not 0"),
        ("probing", put(TABLES + 4, "<I", 15), "table of words has 15"),
        ("probing", lambda content: content.__setitem__(slice(TABLES + 8, HASHED), b"\1" * (HASHED - TABLES - 8)), "is full"),
        ("probing", put(92, "<f", 1.0), "it ends before|behind its tables|is none|is full"),
        ("probing", put(HASHED, "<f", float("inf")), "a value of a word is none"),
    ],
)
def test_forged_numbers_are_refused(format: str, change: Callable[[bytearray], object], words: str, tmp_path: Path) -> None:
    path = forged(format, tmp_path, change)
    with pytest.raises(PackageError, match=words) as caught:
        load_kenlm(path)
    assert str(path) in str(caught.value)


_MANY_BYTES = """
import pathlib, sys
from asr.errors import AsrError
from asr.language.kenlm import open_kenlm
source, path, *names = sys.argv[1:]
content, path, words = pathlib.Path(source).read_bytes(), pathlib.Path(path), range(len(names))
n_good = 0
for at in range(108, len(content) - 40, 1 + len(content) // 1000):
    for mask in (0xFF, 1 << at % 8):
        path.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
        try:
            model = open_kenlm(path, names)
        except AsrError:
            continue
        one = [model.score(model.start(True), word)[0] for word in words]
        two = [model.score(state, word)[0] for state in one for word in words]
        n_good += all(model.score(state, word)[1] <= 1e30 for state in two[::3] for word in words)
print(n_good)
"""


@pytest.mark.parametrize("format", FORMATS)
def test_no_forged_byte_ends_the_process(format: str, tmp_path: Path) -> None:
    """Bytes of counts and tables take two other values each; what is still read is used."""
    command = [sys.executable, "-c", _MANY_BYTES, str(NGRAMS / f"{format}.bin"), str(tmp_path / "forged.bin"), *WORDS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-1000:]
    assert int(result.stdout) > 50  # other probabilities are no mistake


def test_a_file_is_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    path = forged("trie", tmp_path, lambda content: None)
    check_file(path, read_header(path))
    os.utime(forged("trie", tmp_path, put(UNIGRAMS + 4, "<f", float("nan"))), ns=(1, 1))
    with pytest.raises(PackageError, match="back-off"):
        check_file(path, read_header(path))


def test_text_that_is_endless_once_unpacked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.language.arpa.MAX_BYTES", 1 << 20)
    head = "\\data\\\nngram 1=20000000\nngram 2=20000000\n\n\\1-grams:\n"
    for name, text, words in (
        ("line", head + "-1\t" + "a" * (1 << 19), "expected 4,096"),
        ("lines", head + "-1\ta\n" * (1 << 18), "more than 1,048,576 bytes"),
        ("blank", head + "\n" * (1 << 21), "more than 1,048,576 bytes"),
    ):
        path = tmp_path / f"{name}.arpa.gz"
        path.write_bytes(gzip.compress(text.encode()))
        with pytest.raises(PackageError, match=words):
            check_file(path, read_header(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.arpa")
    with pytest.raises(PackageError, match=r"not found|a pipe"):
        load_language_model(tmp_path / "pipe.arpa")
    with pytest.raises(PackageError, match="a pipe; expected a file"):
        read_header(tmp_path / "pipe.arpa")
    with open(tmp_path / "sparse.bin", "wb") as stream:
        stream.truncate(200 << 30)
    with pytest.raises(PackageError, match=r"214,748,364,800 bytes; expected 4,294,967,296 at most"):
        load_language_model(tmp_path / "sparse.bin")
    assert isinstance(load_language_model(NGRAMS / "trie.bin"), NgramModel)
