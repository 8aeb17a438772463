"""What a search finds, and what it is told; nothing here needs torch, so that processes which do without it start quickly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SearchHypothesis:
    """One hypothesis of a search.

    Attributes
    ----------
    tokens, frames
        Token indices, and the frame in which each first appears.
    labels
        Labels of the words.
    acoustic, language, score, word_ends, lstm
        As in :class:`asr.decoding.hypothesis.Hypothesis`.
    """

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    labels: tuple[int, ...]
    acoustic: float
    language: float
    score: float
    word_ends: tuple[int, ...] = ()
    lstm: float = 0.0


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search.

    Attributes
    ----------
    beam
        Hypotheses kept for each utterance after each frame.
    threshold
        Hypotheses further below the best are dropped (nats).
    tokens
        Tokens beside the blank tried in each frame, the likeliest ones; 0 is all. Beside them, one that was there in the frame
        before may go on.
    n_best
        Hypotheses wanted of each utterance; a search may return more.
    log_add
        Add up the probabilities of the alignments of a hypothesis; otherwise the best one counts.
    lm_weight
        Weight of the language model's natural log-probabilities.
    word_score
        Added for each word (nats).
    """

    beam: int
    threshold: float
    tokens: int = 0
    n_best: int = 1
    log_add: bool = True
    lm_weight: float = 0.0
    word_score: float = 0.0


class BeamSearch(ABC):
    """Finds the best hypotheses of utterances; it can be sent to other processes."""

    @abstractmethod
    def run(self, utterances: Sequence[np.ndarray], options: SearchOptions) -> list[list[SearchHypothesis]]:
        """Return the hypotheses of each utterance, best first, at least one.

        Parameters
        ----------
        utterances
            Each ``(frame, token)`` float32, finite log-probabilities of one frame or more.
        options
            Settings.
        """
