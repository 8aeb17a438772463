"""Text normalisation and the character tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TokensConfig
from asr.errors import ConfigError, PackageError, TextError
from asr.text import CharacterTokenizer, Normaliser, Tokenizer, build_tokenizer, load_tokenizer
from asr.text.quotes import without_single_quotes

ENGLISH = " 'abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def tokenizer() -> Tokenizer:
    return build_tokenizer(TokensConfig())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HELLO World", "hello world"),
        ("  a\t b\u00a0\n c ", "a b c"),
        ("don\u2019t, it\u02bcs `ere", "don't it's 'ere"),
        ("well-known \u2014 thing", "well known thing"),
        ("one,two;three/four", "one two three four"),
        ("wait...what\u2026", "wait what"),
        ("U.S.A. (yes) \u201cquoted\u201d", "usa yes quoted"),
        ("\ufb01ne \uff21", "fine a"),  # ligature and full-width letter
        ("so\u00adft\u200b\ufeff", "soft"),
        ("", ""),
        (" - . ", ""),
        ("...!? '", ""),
        ("Then.Next Mr.Smith", "then next mr smith"),  # no space was typed
        ('end.)Next said"yes a\u3002b no\u060cno word\u201dword', "end next said yes a b no no word word"),
        ("J.R.R.Tolkien in the U.S.,e.g. at nine a.m.The Ph.D. end", "jrr tolkien in the us eg at nine am the phd end"),
        ("Inc.'s word(s) (re)write foo(barn)", "inc's words rewrite foo barn"),
        ("he said 'hello' and 'Good bye,' \u2018twice.\u2019", "he said hello and good bye twice"),
        ("'Tis the dogs' bowl, 'em and rock 'n' roll", "'tis the dogs' bowl 'em and rock 'n' roll"),
        ("'It\u2019s the boys' fault,' he said, 'isn't it?'", "it's the boys' fault he said isn't it"),
        (
            "'what has your mean 'watching' of my conduct done?' asked he",
            "what has your mean watching of my conduct done asked he",
        ),
        ("the 'phone rang in 'th' old house", "the 'phone rang in th old house"),
        ("goin' o'er th' hill ''here'' the letter 'b' \u2019twas", "goin' o'er th' hill here the letter b 'twas"),
    ],
)
def test_normalise(tokenizer: Tokenizer, text: str, expected: str) -> None:
    assert tokenizer.normalise(text) == expected


@pytest.mark.parametrize(
    "text", ["3.5 km", "1,000", "-5", "a -.5", "10\u00b2", "3\u00bd", "3.\u200b5", "1/2", "10:30", "5-3", "1'000"]
)
def test_no_number_becomes_another(text: str) -> None:
    """Where the alphabet has digits, what makes another number of them stays, so that it is refused."""
    with pytest.raises(TextError):
        CharacterTokenizer(" 0123456789abcdefghijklmnopqrstuvwxyz").encode(text)


def test_marks_that_are_no_part_of_a_number() -> None:
    tokenizer = CharacterTokenizer(" .0123456789abcdefghijklmnopqrstuvwxyz")
    assert tokenizer.normalise("at 5, (7) or COVID-19: $") == "at 5 7 or covid 19 $"
    assert tokenizer.normalise("3.5 and 3(4) 1)2") == "3.5 and 3 4 1 2"


@pytest.mark.parametrize("text", ['צה"ל', "ինչո՞ւ", "l·l", "don't"])
def test_marks_inside_words_part_none(text: str) -> None:
    letters = "".join(sorted(filter(str.isalpha, text)))
    assert CharacterTokenizer(" " + "".join(dict.fromkeys(letters))).normalise(text) == "".join(filter(str.isalpha, text))


class Counted(str):
    """A text that counts the characters which are copied out of it."""

    n_copied = 0

    def __getitem__(self, key: SupportsIndex | slice) -> Counted:
        part = Counted(super().__getitem__(key))
        Counted.n_copied += len(part)
        return part

    def __format__(self, form: str) -> str:
        Counted.n_copied += len(self)
        return super().__format__(form)

    def translate(self, table: object) -> Counted:
        return Counted(super().translate(table))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "function"),
    [
        (["'mine' "], without_single_quotes),
        (["'once ", "upon the dogs' ", "bowl "], without_single_quotes),
        (["'once ", "more' "], without_single_quotes),
        (["well-known, and "], Normaliser(ENGLISH + ".(")._without_marks),
    ],
)
def test_work_grows_with_the_length_of_a_line(parts: list[str], function: Callable[[str], str]) -> None:
    """And not with its square: no mark costs a copy of the line."""
    line = Counted("".join(part * 300 for part in parts))
    Counted.n_copied = 0
    function(line)
    assert 0 < Counted.n_copied < 10 * len(line)


@pytest.mark.parametrize("depth", [10, 100])
def test_quotations_inside_each_other_are_found_at_once(depth: int) -> None:
    assert without_single_quotes("'once " * depth + "upon' " * depth) == "once " * depth + "upon " * depth


@given(st.text(st.one_of(st.characters(max_codepoint=127), st.sampled_from(".'\u2018\u2019ab5 -")), max_size=20))
def test_quick_way_is_the_whole_way(text: str) -> None:
    """Plain sentences are normalised by a translation."""
    for form in (
        Normaliser(ENGLISH),
        Normaliser(" ABC'-X", "upper"),
        Normaliser("abcx_", "keep"),
        Normaliser(" a.", punctuation="keep"),
    ):
        whole = text
        while (result := form._normalise_once(whole)) != whole:
            whole = result
        assert form.normalise(text) == whole


@given(st.text(), st.sampled_from(["lower", "upper", "keep"]), st.sampled_from(["remove", "keep"]))
def test_normalising_twice_changes_nothing(text: str, case: str, punctuation: str) -> None:
    tokenizer = CharacterTokenizer(" '.-123", case, punctuation)
    once = tokenizer.normalise(text)
    assert tokenizer.normalise(once) == once


@given(st.text(alphabet=ENGLISH))
def test_decode_undoes_encode(text: str) -> None:
    tokenizer = CharacterTokenizer(ENGLISH)
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalise(text)


def test_indices_follow_the_alphabet_after_the_blank(tokenizer: Tokenizer) -> None:
    assert tokenizer.blank == 0
    assert len(tokenizer) == 29
    assert tokenizer.token_names[:4] == ("<blank>", " ", "'", "a")
    assert tokenizer.encode("It's a") == [11, 22, 2, 21, 1, 3]


@pytest.mark.parametrize(("text", "named"), [("room 42", "'2', '4'"), ("caf\u00e9", "U+00E9"), ("50 % more", "'%'")])
def test_unknown_characters_are_refused_by_name(tokenizer: Tokenizer, text: str, named: str) -> None:
    with pytest.raises(TextError, match=r"tokens.alphabet") as caught:
        tokenizer.encode(text)
    assert named in str(caught.value)
    assert ("spell numbers" in str(caught.value)) == any(character.isdigit() for character in text)


def test_unknown_lists_each_character_once(tokenizer: Tokenizer) -> None:
    assert tokenizer.unknown("a1b21") == "12"
    assert tokenizer.unknown("fine") == ""


def test_punctuation_stays_unknown_where_it_is_kept() -> None:
    with pytest.raises(TextError, match="','"):
        CharacterTokenizer(ENGLISH, punctuation="keep").encode("one, two")


def test_punctuation_of_the_alphabet_stays() -> None:
    tokenizer = CharacterTokenizer(" ,.-abc")
    assert tokenizer.normalise("a-b, c... b!") == "a-b, c... b"


def test_upper_case() -> None:
    tokenizer = CharacterTokenizer(" ABCS", case="upper")
    assert tokenizer.decode(tokenizer.encode("a\u00df b")) == "ASS B"


def test_without_a_space_texts_are_unspaced() -> None:
    tokenizer = CharacterTokenizer("abc")
    assert tokenizer.encode("a b\tc") == [1, 2, 3]


@pytest.mark.parametrize(
    ("alphabet", "case", "message"),
    [
        ("", "lower", "at least one"),
        (" ", "lower", "at least one"),
        ("aba", "lower", "'a' more than once"),
        ("aB", "lower", "'B'"),
        ("a\u2019", "lower", "U\\+2019"),
        ("a\t", "lower", "no normalised text"),
        ("ab", "upper", "'a', 'b'"),
        ("a", "title", "case is"),
    ],
)
def test_alphabets_that_cannot_be(alphabet: str, case: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CharacterTokenizer(alphabet, case)


def test_decode_collapses_spaces_and_refuses_blanks(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([1, 3, 1, 1, 4, 1]) == "a b"
    assert tokenizer.decode([]) == ""
    for index in (0, 29, -1):
        with pytest.raises(ValueError, match="token index"):
            tokenizer.decode([3, index])


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(" \u00e4\u00f6AB", case="keep", punctuation="keep")
    path = tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.to_mapping() == tokenizer.to_mapping()
    assert loaded.token_names == tokenizer.token_names
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        json.dumps({"format": 2, "kind": "characters"}).encode(),
        json.dumps({"format": 1, "kind": "bpe"}).encode(),
        json.dumps({"format": 1, "kind": "characters", "alphabet": 7, "case": "lower", "punctuation": "keep"}).encode(),
        json.dumps({"format": 1, "kind": "characters", "alphabet": "aa", "case": "lower", "punctuation": "keep"}).encode(),
        json.dumps({"format": 1, "kind": "characters", "alphabet": "a", "case": "lower"}).encode(),
    ],
)
def test_broken_tokenizer_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(PackageError, match=r"tokenizer.json"):
        load_tokenizer(tmp_path)


def test_absent_tokenizer_file(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not found"):
        load_tokenizer(tmp_path)
