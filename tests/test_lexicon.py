"""Lexicons: words with their spellings, as a text file; what decoders keep of the last one."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from asr.decoding import cache
from asr.errors import DataError
from asr.text import CharacterTokenizer, Lexicon, Normaliser, PhoneTokenizer
from asr.text.voice import Voice


@pytest.fixture
def tokenizer() -> PhoneTokenizer:
    return PhoneTokenizer(Normaliser(" abcdefghijklmnopqrstuvwxyz"), ["d", "iː", "ə", "ɛ", "ɹ", "ʌ"], Voice("en-us"))


def test_written_and_read_back(tmp_path: Path, tokenizer: PhoneTokenizer) -> None:
    lexicon = Lexicon({"read": [(6, 3, 2), (6, 5, 2)], "a": [(4,)]})
    path = lexicon.save(tmp_path / "lexicon.tsv", tokenizer)
    assert path.read_text(encoding="utf-8") == "read\tɹ iː d\nread\tɹ ɛ d\na\tə\n"
    loaded = Lexicon.load(path, tokenizer)
    assert dict(loaded) == dict(lexicon) == {"read": ((6, 3, 2), (6, 5, 2)), "a": ((4,),)}
    assert list(loaded) == ["read", "a"]


def test_lines_by_hand(tmp_path: Path, tokenizer: PhoneTokenizer) -> None:
    """Windows line ends, a byte order mark, blank lines, spaces, repeated lines, a word's lines apart."""
    path = tmp_path / "lexicon.tsv"
    path.write_bytes("\ufeffread\t ɹ iː  d \r\n\r\na\tə\r\nread\tɹ ɛ d\r\nread\tɹ iː d".encode())
    assert dict(Lexicon.load(path, tokenizer)) == {"read": ((6, 3, 2), (6, 5, 2)), "a": ((4,),)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("read\tɹ iː d\nred ɹ ɛ d\n", "line 2: expected a word, a tab"),
        ("red\t\n", "line 1: expected a word, a tab"),
        ("\tɹ ɛ d\n", "line 1: expected a word, a tab"),
        ("red dish\tɹ ɛ d\n", "line 1: expected a word, a tab"),
        ("red\tR EH D\n", "line 1: 'R' in the spelling of 'red' is no token of this model; expected some of d iː"),
        ("red\tɹ ɛ | d\n", r"line 1: '\|'"),
        ("red\tɹ <blank> d\n", "line 1: '<blank>'"),
        ("\n", "the lexicon is empty"),
        ("", "the lexicon is empty"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, tokenizer: PhoneTokenizer, content: str, message: str) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"lexicon\.tsv.*{message}"):
        Lexicon.load(path, tokenizer)


def test_files_that_cannot_be_read(tmp_path: Path, tokenizer: PhoneTokenizer) -> None:
    with pytest.raises(DataError, match="No such file"):
        Lexicon.load(tmp_path / "absent", tokenizer)
    (tmp_path / "latin1").write_bytes(b"\xe9\t\xe9")
    with pytest.raises(DataError, match="not UTF-8 text"):
        Lexicon.load(tmp_path / "latin1", tokenizer)


@pytest.mark.parametrize("entries", [{"": [(1,)]}, {"two words": [(1,)]}, {"a": []}, {"a": [()]}])
def test_entries_that_cannot_be(entries: dict[str, list[tuple[int, ...]]]) -> None:
    with pytest.raises(ValueError, match="expected a word and spellings"):
        Lexicon(entries)


def test_words_are_spelled_by_the_tokenizer() -> None:
    lexicon = Lexicon.spelled(["cab", "a7", "", "b"], CharacterTokenizer(" abc"))
    assert dict(lexicon) == {"cab": ((4, 2, 3),), "b": ((3,),)}
    assert "a7" not in lexicon
    assert len(lexicon) == 2


def test_a_thread_gets_its_own_of_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = cache.remembered

    class Recent(dict[str, tuple[str, str]]):
        def __setitem__(self, name: str, entry: tuple[str, str]) -> None:
            super().__setitem__(name, entry)
            if entry[1] == "mine":
                other.start()
                other.join(0.2)  # in vain where it has to wait for this thread

    theirs: list[str] = []
    other = Thread(target=lambda: theirs.append(remembered("words", ["their model"], lambda: "theirs")))
    monkeypatch.setattr(cache, "_RECENT", Recent())
    assert remembered("words", ["my model"], lambda: "mine") == "mine"
    other.join()
    assert theirs == ["theirs"]
    assert remembered("words", ["their model"], lambda: "made again") == "theirs"
