"""What every decoder returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of a hypothesis with its place.

    Attributes
    ----------
    text
        The word as it is written.
    start_s, end_s
        Its place, in seconds from the start of the waveform.
    confidence
        Estimated probability that the word is right, in [0, 1].
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    Attributes
    ----------
    text
        The transcript.
    tokens
        Token indices, blanks and repeats removed; word boundaries as the decoder wrote them.
    frames
        For each token, the output frame at which it first appears.
    acoustic
        Natural logarithm of what the network gives the reading: the probability of the best path, or of all paths where the
        decoder adds them up; blank penalty and priors included.
    language
        Natural logarithm of the n-gram model's probability, not weighted; 0 without one.
    score
        What the hypothesis was ranked by: ``acoustic`` with the weighted ``language`` and ``lstm`` and the decoder's other
        terms.
    word_ends
        Positions in ``tokens`` behind the last token of a word, where they do not follow from the tokens alone.
    words
        Words with times and confidences, where they were asked for.
    lstm
        Natural logarithm of the LSTM language model's probability, not weighted; 0 without one.
    n_best
        All hypotheses, best first and this one included, where more than one was asked for.
    """

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    acoustic: float
    language: float
    score: float
    word_ends: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()
    lstm: float = 0.0
    n_best: tuple[Hypothesis, ...] = ()


SILENCE = Hypothesis("", (), (), 0.0, 0.0, 0.0)
"""Of an utterance without frames."""
