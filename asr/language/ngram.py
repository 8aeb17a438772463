"""N-gram models, read by the KenLM that flashlight-text brings along."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr.language.kenlm import LOG_10, Header, open_kenlm, read_header, read_words
from asr.language.model import LanguageModel, SentenceScore
from asr.language.units import UNKNOWN, Units, Words
from asr.text import Normaliser


class NgramModel(LanguageModel):
    """An n-gram model.

    Parameters
    ----------
    path
        KenLM's file, ARPA or binary.
    header
        What its beginning says.
    units, words, form
        As for :class:`asr.language.model.LanguageModel`.
    digest
        The file's SHA-256 in hexadecimal digits, where it is known.

    Raises
    ------
    PackageError
        The file holds what no such file does, or KenLM cannot read it.
    """

    def __init__(
        self, path: Path, header: Header, units: Units, words: Sequence[str], form: Normaliser | None, digest: str | None = None
    ) -> None:
        super().__init__(units, words, form)
        self.path = path
        self._digest = digest
        self.order = header.order
        self._kenlm = open_kenlm(path, [*words, UNKNOWN])
        # KenLM's index of the unknown word comes right after the words; the sentence's end has a call of its own.
        self._unknown_entry = len(words)

    @property
    def signature(self) -> str:
        return f"ngram{self.order}-{self.unit}-{len(self.words)}-{self.hash}"

    @property
    def description(self) -> str:
        return f"{self.order}-gram model of {len(self.words):,} {self.unit}s"

    @cached_property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the file's SHA-256."""
        return (self._digest or file_hash(self.path))[:12]

    def score(self, sentences: Sequence[Sequence[str]]) -> list[SentenceScore]:
        return [self._score(sentence) for sentence in sentences]

    def _score(self, sentence: Sequence[str]) -> SentenceScore:
        units = self.units.split(sentence)
        state = self._kenlm.start(False)
        total = unknown_total = 0.0
        n_unknown = 0
        indices, unknown = self._indices, self._unknown_entry
        for unit in units:
            index = indices.get(unit, unknown)
            state, log10 = self._kenlm.score(state, index)
            total += log10
            if index == unknown:
                n_unknown += 1
                unknown_total += log10
        total += self._kenlm.finish(state)[1]
        return SentenceScore(total * LOG_10, len(sentence), len(units) + 1, n_unknown, unknown_total * LOG_10)

    def _begin(self) -> Any:
        return self._kenlm.start(False)

    def _extend(self, state: Any, index: int) -> Any:
        return self._kenlm.score(state, self._unknown_entry if index == self.unknown else index)[0]

    def _log_probs(self, state: Any) -> np.ndarray:
        score = self._kenlm.score
        log10 = [score(state, index)[1] for index in range(len(self.words))]
        log10 += [self._kenlm.finish(state)[1], score(state, self._unknown_entry)[1]]
        return np.array(log10) * LOG_10

    def unigram_order(self) -> list[str]:
        """Return the words, those of the highest probability by themselves first."""
        state = self._kenlm.start(True)
        log10 = [self._kenlm.score(state, index)[1] for index in range(len(self.words))]
        return [self.words[index] for index in np.argsort(-np.array(log10), kind="stable")]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_kenlm(path: Path) -> NgramModel:
    """Read a KenLM file that is not in a language model package; its words become the vocabulary, most frequent first.

    Raises
    ------
    PackageError
        It is no such file, or a broken one.
    """
    header = read_header(path)
    words = read_words(path, header)
    model = NgramModel(path, header, Words(), words, None)
    if header.format == "arpa":
        return model
    return NgramModel(path, header, Words(), model.unigram_order(), None)
