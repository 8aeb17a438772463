"""Pronunciations from a file in CMUdict's format."""

from __future__ import annotations

import base64
import lzma
from pathlib import Path
from typing import Any

import pytest

from asr.config import TokensConfig
from asr.errors import ConfigError, DataError, PackageError
from asr.text import Normaliser, PhoneTokenizer, build_tokenizer
from asr.text.build import tokenizer_from_mapping
from asr.text.dictionary import Dictionary

# Lines of CMUdict: the old form in capitals with its head, the newer one in small letters with notes.
CMUDICT = """\
;;; # CMUdict  --  Major Version: 0.07
!EXCLAMATION-POINT  EH2 K S K L AH0 M EY1 SH AH0 N P OY2 N T
HELLO  HH AH0 L OW1
HELLO(1)  HH EH0 L OW1
A  AH0
A(1)  EY1
A.  EY1

aalborg AO1 L B AO0 R G # place, danish
read R EH1 D
read(2) R IY1 D
don't D OW1 N T
world W ER1 L D
"""
FORM = Normaliser(" 'abcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "words.dict"
    path.write_text(CMUDICT)
    return path


def built(path: Path, texts: list[str], **settings: Any) -> PhoneTokenizer:
    tokenizer = build_tokenizer(TokensConfig(kind="phones", dictionary=str(path), **settings), lambda: texts)
    assert isinstance(tokenizer, PhoneTokenizer)
    return tokenizer


def test_entries(path: Path) -> None:
    assert Dictionary.read(path, FORM).entries == {
        "hello": [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")],
        "a": [("AH",), ("EY",)],
        "aalborg": [("AO", "L", "B", "AO", "R", "G")],
        "read": [("R", "EH", "D"), ("R", "IY", "D")],
        "don't": [("D", "OW", "N", "T")],
        "world": [("W", "ER", "L", "D")],
    }
    assert Dictionary.read(path, FORM, stress=True).entries["hello"][0] == ("HH", "AH0", "L", "OW1")


def test_variants_that_differ_in_stress_alone_are_one(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_text("record R EH1 K ER0 D\nrecord(2) R EH0 K ER1 D\n")
    assert len(Dictionary.read(path, FORM).entries["record"]) == 1
    assert len(Dictionary.read(path, FORM, stress=True).entries["record"]) == 2


def test_the_whole_dictionary_can_be_spelled(path: Path) -> None:
    tokenizer = built(path, ["hello world"])
    names = tokenizer.token_names
    assert [[names[token] for token in tokens] for tokens in tokenizer.spell("read")] == [["R", "EH", "D"], ["R", "IY", "D"]]
    assert tokenizer.reference("Hello, a world!") == "HHAHLOW AH WERLD"
    assert tokenizer.spell("absent") == []
    assert tokenizer.unknown("hello absent world missing") == "absent missing"


def test_it_travels_with_the_model(path: Path) -> None:
    for stress in ("keep", "remove"):
        before = built(path, ["hello"], stress=stress)
        mapping = before.to_mapping()
        path_gone = tokenizer_from_mapping(mapping, "tokenizer.json")
        assert path_gone.token_names == before.token_names
        assert path_gone.to_mapping() == mapping
        words = ["hello", "a", "read", "don't", "absent"]
        assert path_gone.spell_many(words) == before.spell_many(words)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"hello", r"line 3: no phones in 'hello'; expected .*HELLO  HH AH0 L OW1"),
        (b"hello # HH", "line 3: no phones"),
        (b"hello HH | OW", r"line 3: the phone '\|'"),
        (b"hello " + b"H" * 17, "line 3: the phone 'HHHH"),
        (b"d\xe9j\xe0 D EY1", "line 3: not UTF-8 text.*convert"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "words.dict"
    path.write_bytes(b"world W ER1 L D\n\n" + line + b"\n")
    with pytest.raises(DataError, match=rf"words\.dict, {message}"):
        Dictionary.read(path, FORM)


def test_wrong_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"tokens\.dictionary=.*absent: cannot be read: No such file"):
        Dictionary.read(tmp_path / "absent", FORM)
    path = tmp_path / "words.dict"
    for content in ("", ";;; nothing\n", "42 F AO1 R T IY0 T UW1\n"):
        path.write_text(content)
        with pytest.raises(DataError, match="no word of it"):
            Dictionary.read(path, FORM)
    path.write_text("".join(f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)} P{i}X\n" for i in range(1001)))
    with pytest.raises(DataError, match="1001 different phones"):
        Dictionary.read(path, FORM)
    path.write_text(CMUDICT)
    monkeypatch.setattr("asr.text.dictionary._MAX_PACKED_BYTES", 100)
    with pytest.raises(DataError, match="too many for a model package"):
        Dictionary.read(path, FORM)
    monkeypatch.setattr("asr.text.dictionary._MAX_BYTES", 100)
    with pytest.raises(DataError, match="100 at most"):
        Dictionary.read(path, FORM)


def packed(text: bytes) -> str:
    return base64.b64encode(lzma.compress(text)).decode()


@pytest.mark.parametrize(
    ("pronunciations", "message"),
    [
        (7, "expected the texts"),
        ("***", "compressed text"),
        ("", "compressed text"),
        (base64.b64encode(b"no lzma").decode(), "compressed text"),
        (packed(b"hello\tHH")[:40], "compressed text"),
        (packed(b"\xff\xfe"), "compressed text"),
        (packed(b"\0" * ((1 << 24) + 1)), "of more than 16777216 bytes"),
        (packed(b"a\tb\n" * ((1 << 20) + 1)), "of more than 1048576 pronunciations"),
    ],
)
def test_broken_or_hostile_dictionaries_of_packages(path: Path, pronunciations: object, message: str) -> None:
    mapping = built(path, ["hello"]).to_mapping() | {"pronunciations": pronunciations}
    with pytest.raises(PackageError, match=rf"tokenizer\.json: .*{message}"):
        tokenizer_from_mapping(mapping, "tokenizer.json")
