"""Phones: the network writes sounds, and a lexicon knows which words they spell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from asr.errors import DataError, TextError
from asr.text.dictionary import MAX_PHONE_LENGTH, MAX_PHONES, Dictionary
from asr.text.ipa import STRESS, NearestPhones
from asr.text.normaliser import Normaliser, shortened
from asr.text.tokenizer import BOUNDARY, Tokenizer
from asr.text.voice import Voice

# A phone that makes up less of the training text is replaced by the ones nearest to it: the network could not learn it.
_RARE = 1e-4


class PhoneTokenizer(Tokenizer):
    """One token a phone, and one for the boundary between words, which targets have between words only.

    Parameters
    ----------
    form
        Brings texts into the form whose words are looked up.
    phones
        The phones, in the order of their indices from 2.
    source
        Where pronunciations come from. One with a phone that is not in the inventory is spelled with the nearest ones.
    """

    kind = "phones"
    writes_words = False
    boundary = 1

    def __init__(self, form: Normaliser, phones: Sequence[str], source: Voice | Dictionary) -> None:
        super().__init__(form, (BOUNDARY, *phones))
        self.source = source
        self._indices = {name: index for index, name in enumerate(self.token_names) if index > 1}
        self._nearest = NearestPhones(phones)
        self._replaced: dict[str, tuple[int, ...]] = {}
        self._spellings: dict[str, list[tuple[int, ...]]] = {}

    @property
    def remedy(self) -> str:
        return self.source.remedy

    def encode(self, text: str) -> list[int]:
        words = self._words(text)
        spellings = self.spell_many(words)
        missing = [word for word in words if not spellings[word]]
        if missing:
            raise TextError(
                f"no pronunciation of {', '.join(map(repr, dict.fromkeys(missing)))} in {shortened(' '.join(words))!r}"
            )
        tokens: list[int] = []
        for word in words:
            tokens += [self.boundary, *spellings[word][0]]
        return tokens[1:]

    def _words(self, text: str) -> list[str]:
        normalised = self.normalise(text)
        if self.form.unknown(normalised):
            raise TextError(self.form.unknown_message(normalised))
        return normalised.split()

    def decode(self, tokens: Sequence[int]) -> str:
        self.check_tokens(tokens)
        joined = "".join(" " if index == self.boundary else self.token_names[index] for index in tokens)
        return " ".join(joined.split())

    def unknown(self, text: str) -> str:
        normalised = self.normalise(text)
        spellings = self.spell_many(normalised.split())
        return self.form.unknown(normalised) or " ".join(word for word, found in spellings.items() if not found)

    def spell_many(self, words: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
        words = list(words)
        new = [word for word in dict.fromkeys(words) if word not in self._spellings]
        found = self.source.look_up(filter(self.spellable, new))
        for word in new:
            indices = map(self._to_indices, found.get(word, []))
            self._spellings[word] = list(dict.fromkeys(tokens for tokens in indices if tokens))
        return {word: list(self._spellings[word]) for word in words}

    def _to_indices(self, pronunciation: Sequence[str]) -> tuple[int, ...]:
        """Return the tokens of a pronunciation; none where one of its phones has no stand-in."""
        tokens: list[int] = []
        for phone in pronunciation:
            if phone not in self._replaced:
                index = self._indices.get(phone)
                names = (self._nearest.find(phone) or ()) if index is None else (phone,)
                self._replaced[phone] = tuple(self._indices[name] for name in names)
            if not self._replaced[phone]:
                return ()
            tokens += self._replaced[phone]
        return tuple(tokens)

    def reference(self, text: str) -> str:
        """Return the phones of each word, words separated by spaces; a word without a pronunciation stands as it is."""
        words = self.normalise(text).split()
        spellings = self.spell_many(words)
        return " ".join(self.decode(spellings[word][0]) if spellings[word] else word for word in words)

    def fields(self) -> dict[str, Any]:
        return {"phones": list(self.token_names[2:]), **self.source.fields()}

    @classmethod
    def from_fields(cls, form: Normaliser, fields: Mapping[str, Any]) -> Self:
        rest = dict(fields)
        phones = rest.pop("phones", None)
        if not isinstance(phones, list) or not phones or len(phones) > MAX_PHONES or not all(map(_is_name, phones)):
            raise ValueError(f"'phones' is not a list of 1 to {MAX_PHONES} names without spaces")
        if len(set(phones)) < len(phones):
            raise ValueError("'phones' holds a name twice")
        source = Dictionary.from_fields(rest) if "dictionary" in rest else Voice.from_fields(rest)
        return cls(form, phones, source)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.split() == [name] and len(name) <= MAX_PHONE_LENGTH and name != BOUNDARY


def build_phones(form: Normaliser, source: Voice | Dictionary, texts: Iterable[str]) -> PhoneTokenizer:
    """Build the tokenizer of the phones that the training transcripts hold; words that have none are passed over.

    Parameters
    ----------
    form, source
        As for :class:`PhoneTokenizer`.
    texts
        Training transcripts.

    Raises
    ------
    DataError
        No word has a pronunciation.
    """
    words = Counter(word for text in texts for word in form.normalise(text).split())
    counts: Counter[str] = Counter()
    for word, found in source.look_up(word for word in words if not form.unknown(word)).items():
        counts.update({phone: words[word] * n for phone, n in Counter(found[0] if found else ()).items()})
    if not counts:
        raise DataError(f"corpus.train: no word of the transcripts has a pronunciation. {source.remedy}")
    return PhoneTokenizer(form, source.inventory(_frequent(counts)), source)


def _frequent(counts: Mapping[str, int]) -> list[str]:
    """Return the phones that are not rare, in order of their letters, stress last."""
    enough = math.ceil(_RARE * sum(counts.values()))
    return sorted((phone for phone, n in counts.items() if n >= enough), key=lambda phone: (phone.strip(STRESS), phone))
