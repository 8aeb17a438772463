"""Word and character error rates: counts, confidence intervals, signatures."""

from __future__ import annotations

from asr.scoring.counts import Counts
from asr.scoring.score import ErrorRate, Score, UtteranceScore, score
from asr.scoring.signature import corpus_hash, signature

__all__ = ["Counts", "ErrorRate", "Score", "UtteranceScore", "corpus_hash", "score", "signature"]
