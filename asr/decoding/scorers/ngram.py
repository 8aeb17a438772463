"""Language models as a search asks for them: many contexts and words at once, natural logarithms."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.decoding.scorers.word_models import WordModel, WordReader
from asr.language.config import MAX_ORDER
from asr.language.kenlm import LOG_10, open_kenlm

_BEGIN = -1
_MAX_REMEMBERED = 1 << 18


class NgramWords(WordModel):
    """A KenLM model over words.

    Parameters
    ----------
    path
        ARPA or binary file.
    words
        For each label its words, several in a phrase. Label 0 is that of unknown words.
    strangers
        Words that the model does not know and that shall not count as unknown ones: each has the median probability of those
        that it knows, in every context.

    Raises
    ------
    PackageError
        The file is not there or not a KenLM model.
    """

    def __init__(self, path: Path, words: Sequence[Sequence[str]], strangers: Collection[str] = ()) -> None:
        self._arguments = (path, words, strangers)
        names = {name: index for index, name in enumerate(dict.fromkeys(name for label in words for name in label))}
        self.lm = open_kenlm(path, list(names))
        empty = self.lm.start(True)
        single = [label[0] for label in words[1:] if len(label) == 1]
        known = [self.lm.score(empty, names[name])[1] * LOG_10 for name in single if name not in strangers]
        rare = float(np.median(known)) if known else 0.0
        self.parts = [[(names[name], rare if name in strangers else None) for name in label] for label in words]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def unigrams(self) -> list[float]:
        empty = self.lm.start(True)
        return [sum(self._score(empty, part)[1] for part in label) for label in self.parts]

    def _score(self, state: Any, part: tuple[int, float | None]) -> tuple[Any, float]:
        index, guess = part
        state, log10 = self.lm.score(state, index)
        return state, log10 * LOG_10 if guess is None else guess

    def reader(self) -> WordReader:
        return _NgramReader(self)


class _NgramReader(WordReader):
    def __init__(self, model: NgramWords) -> None:
        self._model = model
        self._states = {0: model.lm.start(False)}

    def read(self, contexts: Sequence[int], labels: Sequence[int], after: Sequence[int]) -> list[float]:
        return [self._read(*word) for word in zip(contexts, labels, after, strict=True)]

    def _read(self, context: int, label: int, after: int) -> float:
        state, score = self._states[context], 0.0
        for part in self._model.parts[label]:
            state, part_score = self._model._score(state, part)
            score += part_score
        self._states[after] = state
        return score

    def finish(self, contexts: Sequence[int]) -> list[float]:
        return [self._model.lm.finish(self._states[context])[1] * LOG_10 for context in contexts]

    def retain(self, contexts: Collection[int]) -> None:
        self._states = {context: state for context, state in self._states.items() if context in contexts}


class NgramTokens:
    """A KenLM model over the network's own tokens; it can be sent to other processes.

    Parameters
    ----------
    path
        ARPA or binary file.
    names
        For each token of the network, the blank first, its name in the language model.
    boundary
        The token between words, or None.

    Raises
    ------
    PackageError
        The file is not there or not a KenLM model.
    """

    def __init__(self, path: Path, names: Sequence[str], boundary: int | None) -> None:
        self._arguments = (path, names, boundary)
        self.lm = open_kenlm(path, names)
        self.boundary = boundary
        self._sessions = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def session(self) -> TokenSession:
        """Return this thread's session, which remembers scores from one search to the next."""
        session: TokenSession | None = getattr(self._sessions, "session", None)
        if session is None or session.n_scores > _MAX_REMEMBERED:
            session = self._sessions.session = TokenSession(self)
        return session


class TokenSession:
    """Scores of tokens; a context is the index of the tokens on which the next score depends, 0 that of none.

    A sentence has no boundary at its end, whether a search ended in one or not: :meth:`finish` takes its score back.
    """

    def __init__(self, model: NgramTokens) -> None:
        self._lm = model.lm
        self._boundary = model.boundary
        self._states = [model.lm.start(False)]
        self._histories: list[tuple[int, ...]] = [(_BEGIN,)]
        self._contexts: dict[tuple[int, ...], int] = {(_BEGIN,): 0}
        self._known: dict[tuple[int, int], tuple[Any, float]] = {}
        self._finish: dict[int, float] = {}

    @property
    def n_scores(self) -> int:
        """How many scores are remembered."""
        return len(self._known)

    def score(self, contexts: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Return the natural log-probability of each token after its context."""
        known = self._known
        return [(known.get(pair) or self._add(pair))[1] for pair in zip(contexts, tokens, strict=True)]

    def _add(self, pair: tuple[int, int]) -> tuple[Any, float]:
        state, log10 = self._lm.score(self._states[pair[0]], pair[1])
        self._known[pair] = (state, log10 * LOG_10)
        return self._known[pair]

    def advance(self, contexts: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """Return the context after each token."""
        return [self._advance(pair) for pair in zip(contexts, tokens, strict=True)]

    def _advance(self, pair: tuple[int, int]) -> int:
        context, token = pair
        # One token more in front of a boundary, so that what came before it is known when its score is taken back.
        kept = MAX_ORDER if token == self._boundary else MAX_ORDER - 1  # tokens further back change no score
        history = (*self._histories[context], token)[-kept:]
        if history not in self._contexts:
            self._contexts[history] = len(self._states)
            self._states.append((self._known.get(pair) or self._add(pair))[0])
            self._histories.append(history)
            if token == self._boundary:
                self._finish[self._contexts[history]] = self.finish([context])[0] - self.score([context], [token])[0]
        return self._contexts[history]

    def total(self, tokens: Sequence[int]) -> float:
        """Return the natural log-probability of a sequence of tokens, without the sentence's end."""
        context, result = 0, 0.0
        for token in tokens:
            result += self.score([context], [token])[0]
            context = self._advance((context, token))
        return result

    def finish(self, contexts: Sequence[int]) -> list[float]:
        """Return the natural log-probability of the sentence's end after each context."""
        for context in contexts:
            if context not in self._finish:
                self._finish[context] = self._lm.finish(self._states[context])[1] * LOG_10
        return [self._finish[context] for context in contexts]
