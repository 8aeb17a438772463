"""How far the times of recognised words lie from those that the forced alignment of the transcript gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.decoding.hypothesis import Word
from asr.scoring.calibration import right_words


@dataclass(frozen=True, eq=False)
class TimeErrors:
    """Distances of the edges of the words that were recognised rightly.

    Attributes
    ----------
    starts_s, ends_s
        ``(word,)`` recognised time less the transcript's (s).
    n_left_out
        Utterances whose transcript could not be aligned with the audio.
    """

    starts_s: np.ndarray
    ends_s: np.ndarray
    n_left_out: int = 0

    def summary(self) -> str:
        """Return median, mean and 90th percentile of the distances as one line."""
        left_out = f"; {self.n_left_out} transcripts could not be aligned" if self.n_left_out else ""
        if not len(self.starts_s):
            return f"word times: no right words to compare{left_out}"
        parts = [f"{name} {_milliseconds(errors)}" for name, errors in (("starts", self.starts_s), ("ends", self.ends_s))]
        return f"word times against the aligned transcripts: {'; '.join(parts)}; {len(self.starts_s)} right words{left_out}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a report file holds; without right words the numbers are ``None``."""
        mapping: dict[str, Any] = {"words": len(self.starts_s), "left_out": self.n_left_out}
        for name, errors in (("start", self.starts_s), ("end", self.ends_s)):
            distances = np.abs(errors)
            for label, value in (
                ("median", _percentile(distances, 50)),
                ("mean", float(distances.mean()) if len(distances) else math.nan),
                ("p90", _percentile(distances, 90)),
            ):
                mapping[f"{name}_{label}_s"] = round(value, 4) if math.isfinite(value) else None
        return mapping


def _percentile(distances: np.ndarray, share: float) -> float:
    return float(np.percentile(distances, share)) if len(distances) else math.nan


def _milliseconds(errors: np.ndarray) -> str:
    distances = 1000 * np.abs(errors)
    return (
        f"median {_percentile(distances, 50):.0f} ms, mean {distances.mean():.0f} ms, "
        f"90 % within {_percentile(distances, 90):.0f} ms"
    )


def time_errors(pairs: Iterable[tuple[Sequence[Word], Sequence[Word]]], n_left_out: int = 0) -> TimeErrors:
    """Compare the edges of the words that are right.

    Parameters
    ----------
    pairs
        For each utterance, the words of the aligned transcript and the recognised ones, both normalised.
    n_left_out
        Utterances that are not among the pairs because their transcript could not be aligned.
    """
    starts, ends = [], []
    for said, found in pairs:
        for i, j in right_words(" ".join(word.text for word in said), " ".join(word.text for word in found)):
            starts.append(found[j].start_s - said[i].start_s)
            ends.append(found[j].end_s - said[i].end_s)
    return TimeErrors(np.array(starts, dtype=np.float64), np.array(ends, dtype=np.float64), n_left_out)
