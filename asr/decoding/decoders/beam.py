"""Decoders that keep many hypotheses: a search, and what joins those of its hypotheses that are the same text."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.decoding.decoders.decoder import Decoder
from asr.decoding.decoders.emissions import Adjustment, Emissions
from asr.decoding.hypothesis import SILENCE, Hypothesis
from asr.decoding.search import process_pool
from asr.decoding.search.beam_search import BeamSearch, SearchHypothesis, SearchOptions
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
        Finds hypotheses.
    texts
        Text of each label where the search writes words of a closed vocabulary; None where the tokens are the text.
    counts_words
        Whether the search adds the word score for each word.
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
        search: BeamSearch,
        *,
        texts: Sequence[str] | None = None,
        counts_words: bool = False,
        models: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer)
        self.config = config
        self._search = search
        self._texts = texts
        self.counts_words = counts_words
        self._models = models
        self._adjustment = Adjustment(config, len(tokenizer))
        self._options = SearchOptions(
            beam=config.beam,
            threshold=config.beam_threshold,
            tokens=config.beam_tokens,
            n_best=config.rescore_n if config.kind == "rescore" else config.n_best,
            log_add=config.log_add,
            lm_weight=config.lm_weight,
            word_score=config.word_score,
        )

    @property
    def writes_words(self) -> bool:
        return self._texts is not None or super().writes_words

    @property
    def vocabulary(self) -> frozenset[str] | None:
        return None if self._texts is None else frozenset(self._texts)

    @property
    def signature(self) -> str:
        config = self.config
        parts = [*self._models, f"beam={config.beam}", f"threshold={config.beam_threshold:g}"]
        parts += [f"tokens={config.beam_tokens}"] if config.beam_tokens else []
        has_ngram = config.kind != "beam" and config.lm is not None
        parts += [f"lm_weight={config.lm_weight:g}"] if has_ngram else []
        parts += [f"word_score={config.word_score:g}"] if self.counts_words else []
        parts += [f"unknown_score={config.unknown_score:g}"] if self.counts_words and self._texts is None else []
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
        return [best_of(found, self.config.n_best) for found in self.lists(log_probs, n_frames)]

    def lists(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> list[list[Hypothesis]]:
        """Return all hypotheses that are left of each utterance, each with another text; as :meth:`decode` otherwise."""
        self.check(log_probs, n_frames)
        emissions = self._adjustment.emissions(log_probs, n_frames)
        spoken = [part for part in emissions if len(part.frames)]
        found = iter(process_pool.run(self._search, [part.log_probs for part in spoken], self._options, self.config.jobs))
        return [self._joined(next(found), part) if len(part.frames) else [SILENCE] for part in emissions]

    def _joined(self, found: Sequence[SearchHypothesis], emissions: Emissions) -> list[Hypothesis]:
        """Return a hypothesis of each text that a search found, best first."""
        groups: dict[str, list[SearchHypothesis]] = {}
        for hypothesis in found:
            groups.setdefault(self._text(hypothesis), []).append(hypothesis)
        return [self._hypothesis(text, group, emissions.frames) for text, group in groups.items()]

    def _text(self, hypothesis: SearchHypothesis) -> str:
        if self._texts is None:
            return self.tokenizer.decode(hypothesis.tokens)
        return " ".join(self._texts[label - 1] for label in hypothesis.labels)

    def _hypothesis(self, text: str, group: Sequence[SearchHypothesis], frames: np.ndarray) -> Hypothesis:
        """Join hypotheses, best first, that differ in their tokens; of those that differ in their words, the best counts."""
        best = group[0]
        acoustic, score = best.acoustic, best.score
        if self._options.log_add:
            alike = [hypothesis for hypothesis in group if hypothesis.labels == best.labels]
            acoustic, score = (_log_sum([getattr(hypothesis, name) for hypothesis in alike]) for name in ("acoustic", "score"))
        places = tuple(frames[list(best.frames)].tolist())
        ends = best.word_ends if self.config.optional_boundary else ()
        return Hypothesis(text, best.tokens, places, acoustic, best.language, score, ends, lstm=best.lstm)


def best_of(hypotheses: Sequence[Hypothesis], n_best: int) -> Hypothesis:
    """Return the hypothesis with the highest score, with the best ones in ``n_best`` where that is more than one."""
    found = sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:n_best]
    return found[0] if n_best == 1 else dataclasses.replace(found[0], n_best=tuple(found))


def _log_sum(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
