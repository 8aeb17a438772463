"""Byte-pair encoding: training by sentencepiece, and our encoding against its own."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TokensConfig
from asr.errors import ConfigError, DataError, TextError
from asr.text import BpeTokenizer, Normaliser, build_tokenizer
from asr.text.build import tokenizer_from_mapping

# Of Sennrich, Haddow and Birch (2016), algorithm 1.
SENNRICH = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
PROVERBS = [
    "all that glitters is not gold", "a rolling stone gathers no moss", "the early bird catches the worm",
    "don't count your chickens before they hatch", "the pen is mightier than the sword", "it's no use crying over spilt milk",
]  # fmt: skip


def trained(texts: Iterable[str], size: int, alphabet: str = " 'abcdefghijklmnopqrstuvwxyz") -> BpeTokenizer:
    tokenizer = build_tokenizer(TokensConfig(kind="bpe", size=size, alphabet=alphabet), lambda: texts)
    assert isinstance(tokenizer, BpeTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> BpeTokenizer:
    return trained(PROVERBS, 60)


@pytest.fixture(scope="module")
def original() -> sentencepiece.SentencePieceProcessor:
    """Sentencepiece's own model of the same texts, given as it reads them: whole sentences."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROVERBS), model_writer=model, model_type="bpe", vocab_size=60, character_coverage=1.0,
        required_chars="'abcdefghijklmnopqrstuvwxyz", normalization_rule_name="identity", unk_id=0, bos_id=-1, eos_id=-1,
        minloglevel=3,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def test_most_frequent_pairs_become_pieces() -> None:
    tokenizer = trained([" ".join(SENNRICH)], 20, alphabet=" deilnorstw")
    assert tokenizer.token_names[0] == "<blank>"
    assert {"es", "est", "lo"} < set(tokenizer.token_names[1:9])  # the paper's merges; ours have the word's start as well
    assert set("▁deilnorstw") < set(tokenizer.token_names)


def test_pieces_are_those_of_sentencepiece(tokenizer: BpeTokenizer, original: sentencepiece.SentencePieceProcessor) -> None:
    assert list(tokenizer.token_names[1:]) == [original.id_to_piece(index) for index in range(1, 60)]


@given(st.text(alphabet=" 'adeghilnorstw", max_size=60))
def test_encoding_is_that_of_sentencepiece(
    tokenizer: BpeTokenizer, original: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    assert tokenizer.encode(text) == original.encode(tokenizer.normalise(text))


def test_the_order_of_transcripts_changes_nothing(tokenizer: BpeTokenizer) -> None:
    assert trained(reversed(PROVERBS), 60).to_mapping() == tokenizer.to_mapping()
    assert trained(PROVERBS[:5], 60).to_mapping() != tokenizer.to_mapping()


def test_training_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    trained(PROVERBS, 50)
    with pytest.raises(ConfigError):
        trained(PROVERBS, 5000)
    assert capfd.readouterr() == ("", "")


def test_a_size_that_cannot_be_names_the_one_that_can() -> None:
    with pytest.raises(ConfigError, match=r"tokens\.size=500: too large; the 4 different words .* at most (\d+)") as caught:
        trained(SENNRICH, 500)
    largest = int(str(caught.value).split("at most ")[1].split()[0])
    assert len(trained(SENNRICH, largest)) == largest
    with pytest.raises(ConfigError, match="too large"):
        trained(SENNRICH, largest + 1)
    with pytest.raises(ConfigError, match=r"tokens\.size=28: too small; .* 27 characters take 29"):
        trained(SENNRICH, 28)
    assert len(trained(SENNRICH, 29)) == 29


def test_characters_that_the_transcripts_lack_can_be_written(tokenizer: BpeTokenizer) -> None:
    assert trained(["aa ab"], 29).decode(trained(["aa ab"], 29).encode("quiz zoo")) == "quiz zoo"
    with pytest.raises(TextError, match="'7'"):
        tokenizer.encode("room 7")
    assert tokenizer.spell("room7") == tokenizer.spell("") == tokenizer.spell("a b") == []


def test_words_with_unknown_characters_are_passed_over() -> None:
    assert trained([*PROVERBS, "caf\u00e9 7 7 7 7"], 60).to_mapping() == trained(PROVERBS, 60).to_mapping()
    with pytest.raises(DataError, match="no words"):
        trained(["7", ""], 60)


def test_unspaced_texts() -> None:
    tokenizer = trained(["abab cab", "abc"], 8, alphabet="abc")
    assert tokenizer.decode(tokenizer.encode("ab abc")) == "ababc"


def test_the_mark_of_a_words_start_cannot_be_a_letter() -> None:
    with pytest.raises(ConfigError, match=r"U\+2581"):
        trained(["ab"], 10, alphabet=" ab▁")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (None, "expected 'pieces'"),
        ([], "lack 'a', 'b'"),
        (["▁", "a"], "lack 'b'"),
        (["a", "b"], "U\\+2581"),
        (["▁", "a", "b", "ab", "ab"], "twice"),
        (["▁", "a", "b", 7], "other than texts"),
        (["▁", "a", "b", "a b"], "other than texts"),
        (["▁", "a", "b", ""], "other than texts"),
        (["▁", "a", "b", "a" * 65], "other than texts"),
        (["▁"] * 65537, "65536 texts at most"),
    ],
)
def test_pieces_that_cannot_be(pieces: object, message: str) -> None:
    mapping = {"format": 1, "kind": "bpe", "alphabet": " ab", "case": "lower", "punctuation": "remove", "pieces": pieces}
    with pytest.raises(Exception, match=message):
        tokenizer_from_mapping(mapping, "tokenizer.json")


def test_pieces_join_in_the_order_in_which_they_were_found() -> None:
    """Of "ab" and "bc" the earlier one is joined first, wherever it stands."""
    letters = ["▁", "a", "b", "c"]
    for first, second, expected in (("ab", "bc", ["▁", "ab", "c"]), ("bc", "ab", ["▁", "a", "bc"])):
        tokenizer = BpeTokenizer(Normaliser(" abc"), [first, second, *letters])
        assert [tokenizer.token_names[index] for index in tokenizer.encode("abc")] == expected


def test_of_equal_unions_the_leftmost_is_joined() -> None:
    tokenizer = BpeTokenizer(Normaliser(" ab"), ["aa", "▁", "a", "b"])
    assert [tokenizer.token_names[index] for index in tokenizer.encode("aaa")] == ["▁", "aa", "a"]
