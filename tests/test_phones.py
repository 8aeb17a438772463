"""Phones: pronunciations by a voice, the inventory, and phones that stand for ones that are not in it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from asr.config import TokensConfig
from asr.errors import ConfigError, DataError, PackageError, TextError
from asr.text import Normaliser, PhoneTokenizer, build_tokenizer
from asr.text.build import tokenizer_from_mapping
from asr.text.ipa import NearestPhones, plain
from asr.text.voice import Voice

ENGLISH = " 'abcdefghijklmnopqrstuvwxyz"
# "The North Wind and the Sun", which the International Phonetic Association prints for every language; with a few more sounds.
NORTH_WIND = [
    "The North Wind and the Sun were disputing which was the stronger, when a traveler came along wrapped in a warm cloak.",
    "They agreed that the one who first succeeded in making the traveler take his cloak off should be considered stronger.",
    "Then the North Wind blew as hard as he could, but the more he blew the more closely did the traveler fold his cloak",
    "around him; and at last the North Wind gave up the attempt. Then the Sun shined out warmly.",
    "Joy, vision, church, judge, thing, near, poor, little, better, you",
]


def built(texts: Sequence[str] = NORTH_WIND, **settings: Any) -> PhoneTokenizer:
    tokenizer = build_tokenizer(TokensConfig(kind="phones", **settings), lambda: texts)
    assert isinstance(tokenizer, PhoneTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PhoneTokenizer:
    return built()


def said(word: str, voice: str = "en-us", stress: bool = False) -> list[str]:
    return [" ".join(phones) for phones in Voice(voice, stress).look_up([word])[word]]


@pytest.mark.parametrize(
    ("word", "pronunciations"),
    [
        ("hello", ["h ə l oʊ"]),
        ("thing", ["θ ɪ ŋ"]),
        ("choice", ["tʃ ɔɪ s"]),
        ("pleasure", ["p l ɛ ʒ ɚ"]),
        ("don't", ["d oʊ n t"]),
        ("o'clock", ["ə k l ɑː k"]),
        ("happy", ["h æ p iː"]),
        ("certain", ["s ɜː t ə n"]),
        ("about", ["ə b aʊ t"]),
        ("a", ["ə", "eɪ"]),
        ("the", ["ð ə", "ð iː"]),
        ("to", ["t ə", "t uː"]),
        ("bbc", ["b iː b iː s iː"]),
        ("xiv", ["f ɔːɹ t iː n"]),
        ("'", []),
        ("", []),
    ],
)
def test_american_english(word: str, pronunciations: list[str]) -> None:
    assert said(word) == pronunciations


def test_stress_is_kept_where_it_is_asked_for() -> None:
    assert said("hello", stress=True) == ["h ə l ˈoʊ"]
    assert said("idea", stress=True) == ["aɪ d ˈiː ə"]  # a vowel in two parts has its stress on the first
    assert "ˈoʊ" in built(stress="keep").token_names
    assert not any(mark in name for name in built().token_names for mark in "ˈˌ")


def test_what_is_merged_in_english_is_left_to_other_languages() -> None:
    assert said("schön", "de") == ["ʃ øː n"]
    assert said("a", "de") == ["ɑː"]
    assert said("perro", "es") == ["p e r o"]


def test_inventory(tokenizer: PhoneTokenizer) -> None:
    names = tokenizer.token_names
    assert names[:2] == ("<blank>", "|")
    assert tokenizer.boundary == 1
    assert not tokenizer.writes_words
    assert 40 <= len(names) <= 60
    assert {"p", "tʃ", "dʒ", "ŋ", "aɪ", "oʊ", "ɑːɹ", "ɚ", "ɾ", "əl", "ʒ"} < set(names)
    assert not {"ɐ", "ᵻ", "i", "ɔ", "ʔ"} & set(names)


def test_rare_phones_are_replaced() -> None:
    common, rare = ["she sells sea shells"] * 3000, ["loch"]  # ends in a sound of Scots
    assert "x" in built([*common[:10], *rare], voice="en-gb-scotland").token_names
    tokenizer = built([*common, *rare], voice="en-gb-scotland")
    assert "x" not in tokenizer.token_names
    assert tokenizer.spell("loch")


def test_targets_have_boundaries_between_words_only(tokenizer: PhoneTokenizer) -> None:
    tokens = tokenizer.encode("The sun, the wind!")
    assert " ".join(tokenizer.token_names[token] for token in tokens) == "ð ə | s ʌ n | ð ə | w ɪ n d"
    assert tokenizer.decode([1, *tokens, 1, 1, tokens[0]]) == "ðə sʌn ðə wɪnd ð"
    assert tokenizer.decode([]) == tokenizer.reference("") == ""
    for index in (0, len(tokenizer), -1):
        with pytest.raises(ValueError, match="token index"):
            tokenizer.decode([3, index])


def test_words_that_cannot_be_pronounced(tokenizer: PhoneTokenizer) -> None:
    assert tokenizer.spell("'") == tokenizer.spell("room7") == tokenizer.spell("two words") == []
    long = "x" * 101
    with pytest.raises(TextError, match=f"no pronunciation of '{long}' in 'rock {long[:71]}"):
        tokenizer.encode(f"rock {long} roll")
    with pytest.raises(TextError, match="'7'"):
        tokenizer.encode("room 7")
    assert tokenizer.unknown(f"rock {long} ' roll") == long
    assert tokenizer.unknown(f"room 7 {long}") == "7"
    assert tokenizer.unknown("rock and roll") == ""
    assert tokenizer.reference("sun 7 wind") == "sʌn 7 wɪnd"  # what can never be written counts as an error


def test_hostile_words_are_spelled_or_not_but_break_nothing(tokenizer: PhoneTokenizer) -> None:
    words = ["a" * 100, "a" * 5000, "'" * 50, "zzz", "qxqxqx", "w'w'w'", "don''t", "[[h@]]", "<audio>", "\0", "\ud800", "日本"]
    for word, spellings in tokenizer.spell_many(words).items():
        assert all(0 < token < len(tokenizer) and token != 1 for tokens in spellings for token in tokens), word
    assert not tokenizer.spell("a" * 5000)


def test_phones_outside_the_inventory_are_spelled_with_the_nearest() -> None:
    tokenizer = built(["see the cat knit"])
    assert tokenizer.reference("gad") == "kæt"  # k and t sound most alike of what there is
    assert tokenizer.reference("judge") == "tsəts"
    assert not tokenizer.spell("map")  # nothing is made with the lips
    for word in ("bach", "llan", "atelier", "provence", "denouement", "utrecht"):  # none of the inventory of English
        assert built().spell(word), word


@pytest.mark.parametrize(
    ("phone", "inventory", "expected"),
    [
        ("k", ["k", "t"], "k"),
        ("ˈiː", ["iː", "ˌiː"], "iː"),
        ("i", ["iː", "ɪ"], "iː"),
        ("aɪɚ", ["aɪ", "ɚ", "a", "ɪ"], "aɪ ɚ"),
        ("ɑ̃", ["ɑː", "n"], "ɑː"),
        ("x", ["t", "k", "h"], "k"),
        ("ɬ", ["l", "s"], "l"),
        ("ç", ["s", "ʃ"], "ʃ"),
        ("ʒ", ["s", "ʃ"], "ʃ"),
        ("ð", ["d", "z"], "d"),
        ("t͡ʃ", ["tʃ", "t"], "tʃ"),
        ("tʃ", ["t", "ʃ"], "t ʃ"),
        ("ʘ", ["p", "b"], None),  # a click: nothing is like it
        ("ː", ["p"], None),
        ("", ["p"], None),
        ("p", [], None),
    ],
)
def test_nearest_phones(phone: str, inventory: list[str], expected: str | None) -> None:
    found = NearestPhones(inventory).find(phone)
    assert (found and " ".join(found)) == expected


def test_every_letter_has_a_neighbour_that_is_a_vowel_or_consonant_as_well() -> None:
    from asr.text.ipa import _NEIGHBOURS

    assert {letter for neighbours in _NEIGHBOURS.values() for letter in neighbours} <= _NEIGHBOURS.keys()
    inventory = [name for name in built().token_names[2:] if len(plain(name)) == 1]
    for letter in _NEIGHBOURS:
        assert NearestPhones(inventory).find(letter), letter


def test_saved_and_loaded_is_the_same(tokenizer: PhoneTokenizer) -> None:
    words = ["sun", "wind", "to", "schadenfreude", "loch"]
    for stress in ("keep", "remove"):
        before = built(stress=stress)
        loaded = tokenizer_from_mapping(before.to_mapping(), "tokenizer.json")
        assert loaded.token_names == before.token_names
        assert loaded.spell_many(words) == before.spell_many(words)
    assert pickle.loads(pickle.dumps(tokenizer)).encode("the sun") == tokenizer.encode("the sun")  # for decoding processes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phones": []}, "list of 1 to"),
        ({"phones": "abc"}, "list of 1 to"),
        ({"phones": ["a", 1]}, "list of 1 to"),
        ({"phones": ["a", "b c"]}, "list of 1 to"),
        ({"phones": ["a", "|"]}, "list of 1 to"),
        ({"phones": ["a" * 17]}, "list of 1 to"),
        ({"phones": list(map(str, range(1001)))}, "list of 1 to"),
        ({"phones": ["a", "a"]}, "twice"),
        ({"stress": "loud"}, "keep or remove"),
        ({"stress": None}, "voice and stress"),
        ({"voice": "../../etc"}, "no name of a voice"),
        ({"extra": "x"}, "voice and stress"),
        ({"dictionary": "x"}, "dictionary and pronunciations"),
    ],
)
def test_mappings_that_cannot_be(tokenizer: PhoneTokenizer, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PackageError, match=rf"tokenizer\.json: .*{message}"):
        tokenizer_from_mapping(tokenizer.to_mapping() | change, "tokenizer.json")


def test_what_cannot_be_built() -> None:
    with pytest.raises(ConfigError, match="no voice 'xx'"):
        built(voice="xx")
    with pytest.raises(ConfigError, match="none are given"):
        build_tokenizer(TokensConfig(kind="phones"))
    with pytest.raises(DataError, match="no word of the transcripts has a pronunciation"):
        built(["'", "7"])


def test_words_are_looked_up_once(tokenizer: PhoneTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = Voice.look_up

    def look_up(self: Voice, words: Any) -> Any:
        words = list(words)
        asked.extend(words)
        return original(self, words)

    monkeypatch.setattr(Voice, "look_up", look_up)
    fresh = PhoneTokenizer(Normaliser(ENGLISH), tokenizer.token_names[2:], Voice("en-us"))
    fresh.encode("the sun and the wind")
    fresh.encode("the sun")
    assert asked == ["the", "sun", "and", "wind"]
