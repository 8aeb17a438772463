"""Decoders that keep many hypotheses: a search, and what makes hypotheses of its readings."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.decoding import pool
from asr.decoding.decoder import Decoder
from asr.decoding.frames import Adjustment, Utterance
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.reading import Reading, Search, SearchOptions
from asr.text import Tokenizer


class BeamDecoder(Decoder):
    """Beam search.

    Parameters
    ----------
    tokenizer
        Names the tokens.
    config
        The decoder's settings.
    search
        Finds the readings.
    texts
        Text of each label where the search writes words of a closed vocabulary; None where the tokens are the text.
    models
        Signatures of the models and lists on which the text depends beside the settings.

    Raises
    ------
    ConfigError
        Where there is not one prior for each token.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: DecodingConfig,
        search: Search,
        *,
        texts: Sequence[str] | None = None,
        models: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer)
        self.config = config
        self._search = search
        self._texts = texts
        self._models = models
        self._adjustment = Adjustment(config, len(tokenizer))
        with_model = config.kind != "beam"
        self._options = SearchOptions(
            beam=config.beam,
            threshold=config.beam_threshold,
            n_best=config.n_best,
            log_add=config.log_add,
            lm_weight=config.lm_weight if with_model else 0.0,
            word_score=config.word_score if with_model else 0.0,
        )

    @property
    def writes_words(self) -> bool:
        return self._texts is not None or super().writes_words

    @property
    def signature(self) -> str:
        config = self.config
        parts = [*self._models, f"beam={config.beam}", f"threshold={config.beam_threshold:g}"]
        if config.kind != "beam":
            parts += [f"lm_weight={config.lm_weight:g}", f"word_score={config.word_score:g}"]
            parts += [f"unknown_score={config.unknown_score:g}"] if self._texts is None else []
        if config.hot_words:
            digest = hashlib.sha256("\n".join(config.hot_words).encode()).hexdigest()[:12]
            parts += [f"hot_words={len(config.hot_words)}-{digest}", f"hot_word_score={config.hot_word_score:g}"]
        parts += [f"blank_skip={config.blank_skip:g}"] if config.blank_skip < 1.0 else []
        parts += [] if config.log_add else ["best-alignment"]
        return f"{config.kind}:{','.join(parts)}{self._adjustment.signature}"

    def decode(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> list[Hypothesis]:
        """Return the best hypothesis of each utterance, with the others in ``n_best`` where more than one is asked for.

        Raises
        ------
        ValueError
            Where the shapes do not fit each other or the tokenizer.
        Failure
            Where a log-probability is NaN, or a process that decodes has died.
        """
        self.check(log_probs, n_frames)
        utterances = self._adjustment.utterances(log_probs, n_frames)
        spoken = [utterance for utterance in utterances if len(utterance.frames)]
        found = iter(pool.run(self._search, [part.log_probs for part in spoken], self._options, self.config.jobs))
        return [self._best(next(found), part) if len(part.frames) else self._silence() for part in utterances]

    def _silence(self) -> Hypothesis:
        nothing = Hypothesis("", (), (), 0.0, 0.0, 0.0)
        return nothing if self._options.n_best == 1 else dataclasses.replace(nothing, n_best=(nothing,))

    def _best(self, readings: Sequence[Reading], utterance: Utterance) -> Hypothesis:
        """Return the hypothesis of the best text; readings of one text are one hypothesis."""
        groups: dict[str, list[Reading]] = {}
        for reading in readings:
            groups.setdefault(self._text(reading), []).append(reading)
        found = [self._hypothesis(text, group, utterance.frames) for text, group in groups.items()]
        found = sorted(found, key=lambda hypothesis: -hypothesis.score)[: self._options.n_best]
        return found[0] if self._options.n_best == 1 else dataclasses.replace(found[0], n_best=tuple(found))

    def _text(self, reading: Reading) -> str:
        if self._texts is None:
            return self.tokenizer.decode(reading.tokens)
        return " ".join(self._texts[label - 1] for label in reading.labels)

    def _hypothesis(self, text: str, group: Sequence[Reading], frames: np.ndarray) -> Hypothesis:
        """Join readings, best first, that differ in their tokens; of those that differ in their words, the best counts."""
        best = group[0]
        acoustic, score = best.acoustic, best.score
        if self._options.log_add:
            alike = [reading for reading in group if reading.labels == best.labels]
            acoustic, score = (_log_sum([getattr(reading, name) for reading in alike]) for name in ("acoustic", "score"))
        places = tuple(frames[list(best.frames)].tolist())
        ends = best.word_ends if self.config.optional_boundary else ()
        return Hypothesis(text, best.tokens, places, acoustic, best.language, score, ends)


def _log_sum(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
