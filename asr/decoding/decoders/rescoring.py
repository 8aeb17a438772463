"""N-best lists of a beam search, ranked by an LSTM language model as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import islice

import torch

from asr.config import DecodingConfig
from asr.decoding.decoders.beam import BeamDecoder, best_of
from asr.decoding.decoders.decoder import Decoder
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.scorers.lstm import LstmReader
from asr.decoding.scorers.word_models import WordSession
from asr.language.lstm import LstmModel

# Texts whose scores are remembered, some 300 bytes each: more than a development set's lists hold.
_MAX_REMEMBERED = 1 << 18
# Texts that are read together.
_TEXTS = 4096


class RescoringDecoder(Decoder):
    """Adds an LSTM's log-probabilities to the scores of a first search (log-linear combination).

    The first search needs the n-gram model's full weight to find good lists; in the sum, part of it may go to the LSTM, which
    knows more of the context (``rescore_lm_scale``).

    Where that search adds no word score, it is added here: without it the LSTM would favour short texts.

    Parameters
    ----------
    first
        Makes the lists.
    config
        The decoder's settings.
    scores
        Of the LSTM.
    """

    def __init__(self, first: BeamDecoder, config: DecodingConfig, scores: SentenceScores) -> None:
        super().__init__(first.tokenizer)
        self._first = first
        self._config = config
        self._scores = scores
        self._word_score = 0.0 if first.counts_words else config.word_score

    @property
    def writes_words(self) -> bool:
        return self._first.writes_words

    @property
    def vocabulary(self) -> frozenset[str] | None:
        return self._first.vocabulary

    @property
    def signature(self) -> str:
        config = self._config
        parts = [self._first.signature, f"lstm={self._scores.lstm.signature}", f"lstm_weight={config.lstm_weight:g}"]
        parts += [] if self._first.counts_words else [f"word_score={config.word_score:g}"]
        parts += [f"rescore_lm_scale={config.rescore_lm_scale:g}"] if config.lm is not None else []
        return ",".join([*parts, f"rescore_n={config.rescore_n}"])

    def decode(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> list[Hypothesis]:
        """Return the best hypothesis of each utterance; errors as for :meth:`asr.decoding.decoders.beam.BeamDecoder.decode`."""
        lists = [found[: self._config.rescore_n] for found in self._first.lists(log_probs, n_frames)]
        scores = self._scores({hypothesis.text for found in lists for hypothesis in found})
        return [best_of([self._rescored(one, scores[one.text]) for one in found], self._config.n_best) for found in lists]

    def _rescored(self, hypothesis: Hypothesis, lstm: float) -> Hypothesis:
        config = self._config
        score = hypothesis.score + config.lstm_weight * lstm + self._word_score * len(hypothesis.text.split())
        score += (config.rescore_lm_scale - 1.0) * config.lm_weight * hypothesis.language
        return dataclasses.replace(hypothesis, lstm=lstm, score=score)


class SentenceScores:
    """Natural log-probabilities that an LSTM gives texts; those asked for last are remembered.

    Parameters
    ----------
    lstm
        Over units of any kind; texts are brought into its form. See :class:`asr.decoding.scorers.lstm.LstmReader` for units
        that it does not know.
    """

    def __init__(self, lstm: LstmModel) -> None:
        self.lstm = lstm
        self._known: dict[str, float] = {}

    def __call__(self, texts: Iterable[str]) -> dict[str, float]:
        """Return the log-probability of each text with its end."""
        found = {text: self._known.pop(text, None) for text in dict.fromkeys(texts)}
        # Neighbours have their beginnings in common, which are read once.
        new = sorted(text for text, score in found.items() if score is None)
        for first in range(0, len(new), _TEXTS):
            part = new[first : first + _TEXTS]
            found.update(zip(part, self._score(part), strict=True))
        scores = {text: score for text, score in found.items() if score is not None}
        self._known.update(scores)
        for text in list(islice(self._known, max(0, len(self._known) - _MAX_REMEMBERED))):
            self._known.pop(text, None)  # another thread may have been here first
        return scores

    def _score(self, texts: Sequence[str]) -> list[float]:
        lstm = self.lstm
        sentences = [list(map(lstm.index, lstm.units.split(lstm.normalise(text)))) for text in texts]
        session = WordSession([(LstmReader(lstm, [(unit,) for unit in range(len(lstm))]), 1.0)])
        contexts = [0] * len(texts)
        for place in range(max(map(len, sentences))):
            rows = [row for row, units in enumerate(sentences) if place < len(units)]
            after, _ = session.score([contexts[row] for row in rows], [sentences[row][place] for row in rows])
            for row, context in zip(rows, after, strict=True):
                contexts[row] = context
            session.retain(contexts)
        _, totals = session.finish(contexts)
        return [total for (total,) in totals]
