"""Which word of a hypothesis stands for which of the reference, and what is confused with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer

Pair = tuple[str | None, str | None]
"""A word of the reference and the one that stands for it; None on the right is a deletion, on the left an insertion."""


def align_words(references: Sequence[str], hypotheses: Sequence[str]) -> list[tuple[Pair, ...]]:
    """Return the words of each pair of texts side by side, by the alignment that the counts are of.

    Examples
    --------
    >>> align_words(["the cat sat"], ["a cat sat down"])
    [(('the', 'a'), ('cat', 'cat'), ('sat', 'sat'), (None, 'down'))]
    """
    if not references:
        return []
    said, heard = ([text.split() for text in texts] for texts in (references, hypotheses))
    output = jiwer.process_words([" ".join(words) for words in said], [" ".join(words) for words in heard])
    return [_pairs(*row) for row in zip(said, heard, output.alignments, strict=True)]


def _pairs(reference: list[str], hypothesis: list[str], chunks: Iterable[jiwer.AlignmentChunk]) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for chunk in chunks:
        left: Sequence[str | None] = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        right: Sequence[str | None] = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        length = max(len(left), len(right))
        pairs += zip([*left, *[None] * (length - len(left))], [*right, *[None] * (length - len(right))], strict=True)
    return tuple(pairs)


@dataclass(frozen=True)
class Confusions:
    """What is taken for what, most frequent first, ties in the order of the alphabet.

    Attributes
    ----------
    substituted
        Pairs of a reference's word and what was written for it, with how often.
    deleted, inserted
        Words with how often.
    of
        What they are: ``words`` or ``sounds``.
    """

    substituted: tuple[tuple[str, str, int], ...]
    deleted: tuple[tuple[str, int], ...]
    inserted: tuple[tuple[str, int], ...]
    of: str = "words"

    def lines(self, top: int) -> list[str]:
        """Return the first of each as a line."""
        lines = []
        for name, rows in (
            ("substituted", [(f"{left} > {right}", n) for left, right, n in self.substituted]),
            ("deleted", self.deleted),
            ("inserted", self.inserted),
        ):
            if rows:
                lines.append(f"{self.of} most often {name}: {', '.join(f'{text} ({n})' for text, n in rows[:top])}")
        return lines

    def to_mapping(self, top: int = 100) -> dict[str, Any]:
        """Return the first of each, as a summary file holds them."""
        return {
            "of": self.of,
            "substituted": [list(row) for row in self.substituted[:top]],
            "deleted": [list(row) for row in self.deleted[:top]],
            "inserted": [list(row) for row in self.inserted[:top]],
        }


def count_confusions(alignments: Iterable[Sequence[Pair]], of: str = "words") -> Confusions:
    """Count what stands for what over all utterances."""
    substituted: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for pairs in alignments:
        for left, right in pairs:
            if left is None and right is not None:
                inserted[right] += 1
            elif right is None and left is not None:
                deleted[left] += 1
            elif left is not None and right is not None and left != right:
                substituted[left, right] += 1
    return Confusions(
        tuple((*pair, n) for pair, n in _ranked(substituted)),
        tuple(_ranked(deleted)),
        tuple(_ranked(inserted)),
        of,
    )


def _ranked(counter: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))
