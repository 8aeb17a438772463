"""Edit counts of aligned texts, through jiwer's Python API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True)
class Counts:
    """Errors against a reference.

    Attributes
    ----------
    substitutions, deletions, insertions
        Edits of a cheapest alignment.
    reference
        Units (words or characters) in the reference.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0

    @property
    def errors(self) -> int:
        """All edits together."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference + other.reference,
        )

    def to_mapping(self) -> dict[str, int]:
        """Return the counts under the customary letters S, D, I, N."""
        return {"S": self.substitutions, "D": self.deletions, "I": self.insertions, "N": self.reference}


def count_words(references: Sequence[str], hypotheses: Sequence[str]) -> list[Counts]:
    """Return the word errors of each pair of texts; either may be empty."""
    output = jiwer.process_words(_spaced(references), _spaced(hypotheses)) if references else None
    return [_counts(chunks) for chunks in output.alignments] if output else []


def count_characters(references: Sequence[str], hypotheses: Sequence[str]) -> list[Counts]:
    """Return the character errors of each pair of texts, single spaces between words counted as characters."""
    output = jiwer.process_characters(_spaced(references), _spaced(hypotheses)) if references else None
    return [_counts(chunks) for chunks in output.alignments] if output else []


def _spaced(texts: Sequence[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


def _counts(chunks: Sequence[jiwer.AlignmentChunk]) -> Counts:
    lengths = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        is_insertion = chunk.type == "insert"
        lengths[chunk.type] += (
            chunk.hyp_end_idx - chunk.hyp_start_idx if is_insertion else chunk.ref_end_idx - chunk.ref_start_idx
        )
    n_reference = lengths["equal"] + lengths["substitute"] + lengths["delete"]
    return Counts(lengths["substitute"], lengths["delete"], lengths["insert"], n_reference)
