"""Beam search with a lexicon and an n-gram language model over words, by flashlight-text's decoder in C++.

It is made for words that end in a boundary token: when a word has ended and its last token goes on in the next frame, it looks
for the boundary in its place. So every spelling here ends in the boundary, and a frame is added behind the last in which only
the boundary can be; it completes the last word. Kahn et al., "Flashlight: enabling innovation in tools for machine learning",
2022.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.decoding.search.beam_search import BeamSearch, SearchHypothesis, SearchOptions
from asr.language.kenlm import LOG_10, open_kenlm

logger = logging.getLogger(__name__)
# flashlight's trie keeps no more words than this with one spelling.
_MOST_HOMOPHONES = 6
_NEVER = -1e4


class LexiconSearch(BeamSearch):
    """Search among the words of a lexicon.

    Parameters
    ----------
    lm
        KenLM file, ARPA or binary.
    words
        The words as the language model knows them, the most frequent first; the label of each is its place, from 1.
    spellings
        Token sequences without boundary, with labels. Of more than six words with one spelling, the first six are kept.
    n_tokens
        Tokens of the network, blank included; the blank is 0.
    boundary
        The token between words.
    """

    def __init__(
        self,
        lm: Path,
        words: Sequence[str],
        spellings: Sequence[tuple[tuple[int, ...], int]],
        n_tokens: int,
        boundary: int,
    ) -> None:
        from flashlight.lib.text.decoder import SmearingMode, Trie

        self._arguments = (lm, words, spellings, n_tokens, boundary)
        self._n_tokens = n_tokens
        self._boundary = boundary
        self._n_words = len(words)
        self._lm = open_kenlm(lm, words)
        self._trie = Trie(n_tokens, boundary)
        empty = self._lm.start(True)
        unigrams = [self._lm.score(empty, index)[1] for index in range(len(words))]
        n_homophones: dict[tuple[int, ...], int] = {}
        self.n_left_out = 0
        for tokens, label in sorted(spellings, key=lambda spelling: spelling[1]):
            n_homophones[tokens] = n_homophones.get(tokens, 0) + 1
            if n_homophones[tokens] > _MOST_HOMOPHONES:
                self.n_left_out += 1
            else:
                self._trie.insert([*tokens, boundary], label - 1, unigrams[label - 1])
        # Words compete from their first token on, each prefix with the probability of its best word.
        self._trie.smear(SmearingMode.MAX)
        if self.n_left_out:
            logger.info(
                "%d spellings left out: %d more frequent words are spelled the same way", self.n_left_out, _MOST_HOMOPHONES
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def run(self, utterances: Sequence[np.ndarray], options: SearchOptions) -> list[list[SearchHypothesis]]:
        from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions

        settings = LexiconDecoderOptions(
            beam_size=options.beam,
            beam_size_token=(options.tokens or self._n_tokens) + 1,  # one place for the blank
            beam_threshold=options.threshold,
            lm_weight=options.lm_weight * LOG_10,
            word_score=options.word_score,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=options.log_add,
            criterion_type=CriterionType.CTC,
        )
        decoder = LexiconDecoder(settings, self._trie, self._lm, self._boundary, 0, self._n_words, [], False)
        return [self._search(decoder, utterance, options) for utterance in utterances]

    def _search(self, decoder: Any, log_probs: np.ndarray, options: SearchOptions) -> list[SearchHypothesis]:
        emissions = np.full((len(log_probs) + 1, self._n_tokens + 1), _NEVER, dtype=np.float32)
        emissions[:-1, :-1] = log_probs
        emissions[-1, self._boundary] = 0.0
        # Where the blank is not among the likeliest tokens, one that no word has takes the place kept for it.
        n_likelier = (log_probs > log_probs[:, :1]).sum(axis=1)
        emissions[:-1, -1][n_likelier > options.tokens] = -_NEVER
        results = decoder.decode(emissions.ctypes.data, *emissions.shape)
        return [self._hypothesis(result, options) for result in results[: options.n_best]]

    def _hypothesis(self, result: Any, options: SearchOptions) -> SearchHypothesis:
        # What stands before the first frame, in the added one and behind it is not the network's.
        tokens, words = np.array(result.tokens), np.array(result.words)
        written = tokens[1:-2]
        labels = words[words >= 0] + 1
        score = result.score
        if tokens[-2] != self._boundary:  # no hypothesis had complete words alone, so the last one is cut off
            score -= _NEVER
            written = written[: np.flatnonzero(words >= 0).max(initial=0)]
        is_new = written != np.append(-1, written[:-1])
        frames = np.flatnonzero(is_new & (written != 0))
        # A boundary that opens the utterance or follows another says nothing.
        is_boundary = written[frames] == self._boundary
        frames = frames[~is_boundary | ~np.append(True, is_boundary[:-1])]
        language = result.lmScore * LOG_10
        acoustic = score - options.lm_weight * language - options.word_score * len(labels)
        return SearchHypothesis(
            tuple(written[frames].tolist()), tuple(frames.tolist()), tuple(labels.tolist()), acoustic, language, score
        )
