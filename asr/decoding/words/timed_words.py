"""The words of a hypothesis, with their times and confidences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.words.alignment import FrameSpan, align
from asr.decoding.words.confidence import Calibration, word_evidence
from asr.decoding.words.word_edges import loudness, word_edges
from asr.text import Tokenizer
from asr.text.bpe import WORD_START


def words_of(
    hypothesis: Hypothesis,
    log_probs: torch.Tensor,
    tokenizer: Tokenizer,
    waveform: np.ndarray,
    *,
    sample_rate: int,
    frame_s: float,
    calibration: Calibration | None = None,
) -> tuple[Word, ...]:
    """Find times and confidences of a hypothesis' words by aligning its tokens with the audio.

    Parameters
    ----------
    hypothesis
        What a decoder made of ``log_probs``.
    log_probs
        ``(frame, token)`` natural logarithms of the utterance.
    tokenizer
        Names the tokens.
    waveform
        ``(sample,)`` in [-1, 1], the audio of the utterance; where it is quiet, words begin and end.
    sample_rate
        Samples a second.
    frame_s
        Seconds between output frames.
    calibration
        Turns the network's probabilities into confidences; by default they stay as they are.

    Returns
    -------
    tuple of Word
        One for each word of ``hypothesis.text``, in order of time and without overlap.
    """
    texts = hypothesis.text.split()
    words = word_positions(hypothesis.tokens, tokenizer, len(texts), hypothesis.word_ends)
    if not texts:
        return ()
    spans = align(log_probs, hypothesis.tokens)
    evidence = word_evidence(log_probs.float().cpu(), hypothesis.tokens, spans, words, tokenizer.boundary)
    confidences = (calibration or Calibration()).apply(evidence)
    frames = [FrameSpan(spans[word.start].start, spans[word.stop - 1].end) for word in words]
    edges = word_edges(frames, frame_s, len(waveform) / sample_rate, loudness(waveform, sample_rate))
    return tuple(
        Word(text, start_s, end_s, float(confidence))
        for text, (start_s, end_s), confidence in zip(texts, edges, confidences, strict=True)
    )


def align_text(
    text: str, log_probs: torch.Tensor, tokenizer: Tokenizer, waveform: np.ndarray, *, sample_rate: int, frame_s: float
) -> tuple[Word, ...]:
    """Find the times of the words of a known transcript, and how likely the network holds each of them.

    Parameters
    ----------
    text
        The transcript, which is normalised first.
    log_probs, tokenizer, waveform, sample_rate, frame_s
        As for :func:`words_of`.

    Raises
    ------
    TextError
        Where the text holds what the tokenizer does not know.
    DataError
        Where the audio is too short for it.
    """
    known = Hypothesis(tokenizer.normalise(text), tuple(tokenizer.encode(text)), (), 0.0, 0.0, 0.0)
    return words_of(known, log_probs, tokenizer, waveform, sample_rate=sample_rate, frame_s=frame_s)


def evidence_of(hypothesis: Hypothesis, log_probs: torch.Tensor, tokenizer: Tokenizer) -> np.ndarray:
    """Return ``(word, 2)``, the evidence for a hypothesis' words, to which a calibration is fitted.

    Parameters
    ----------
    hypothesis, log_probs, tokenizer
        As for :func:`words_of`.
    """
    words = word_positions(hypothesis.tokens, tokenizer, len(hypothesis.text.split()), hypothesis.word_ends)
    spans = align(log_probs, hypothesis.tokens)
    return word_evidence(log_probs.float().cpu(), hypothesis.tokens, spans, words, tokenizer.boundary)


def word_positions(tokens: Sequence[int], tokenizer: Tokenizer, n_words: int, ends: Sequence[int] = ()) -> list[range]:
    """Return, for each word, the positions of its tokens, boundaries not among them.

    Parameters
    ----------
    tokens
        Tokens of a hypothesis.
    tokenizer
        Says what separates words: a boundary token, or the mark of pieces that start one.
    n_words
        Words in the hypothesis' text. Tokens of one more word may follow: the audio broke off in it, and it was not written.
    ends
        Positions behind the last token of words, where the tokenizer alone cannot tell.

    Raises
    ------
    ValueError
        Where the tokens hold fewer words.
    """
    is_boundary = [token == tokenizer.boundary for token in tokens]
    is_start = [tokenizer.boundary is None and tokenizer.token_names[token].startswith(WORD_START) for token in tokens]
    breaks = {0, len(tokens), *ends}
    breaks |= {position for k, found in enumerate(is_boundary) if found for position in (k, k + 1)}
    breaks |= {k for k, found in enumerate(is_start) if found}
    words = [range(start, end) for start, end in pairwise(sorted(breaks)) if not is_boundary[start]]
    # A mark with no other piece after it is no word.
    words = [word for word in words if tokenizer.decode([tokens[k] for k in word])]
    if n_words == 1 and tokenizer.boundary is None and len(words) > 1:  # a language that is written without spaces
        words = [range(words[0].start, words[-1].stop)]
    if len(words) not in (n_words, n_words + 1):
        raise ValueError(f"the text has {n_words} words, its tokens {len(words)}")
    return words[:n_words]
