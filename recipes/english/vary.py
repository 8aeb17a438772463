#!/usr/bin/env python
"""Vary spelled letters and numbers, so that a language model learns that any may follow any.

usage: python recipes/english/vary.py TIMES [SHARE] < TEXT > VARIED

Each line of TEXT is written TIMES times, each time with other letters, digits, teens and tens in place of its own: of all of
them, or of the SHARE (0 to 1) that chance picks, where the text's own spellings are to stay likelier than others. Seed 1.
"""

from __future__ import annotations

import random
import sys

KINDS = (
    [*"bcdefghjklmnopqrstuvwxyz", "a", "i"],
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    ["zero", "oh"],
    ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
)
OTHERS = {word: kind for kind in KINDS for word in kind}


def main() -> None:
    """Read standard input and write standard output."""
    times, share = _arguments(sys.argv[1:])
    rng = random.Random(1)
    for line in sys.stdin.read().lower().splitlines():
        words = line.split()
        spelled = sum(word in OTHERS for word in words) > 1  # a lone "i" or "a" is a word
        for _ in range(times):
            varied = (spelled and word in OTHERS and (share == 1.0 or rng.random() < share) for word in words)
            print(" ".join(rng.choice(OTHERS[word]) if vary else word for word, vary in zip(words, varied, strict=True)))


def _arguments(given: list[str]) -> tuple[int, float]:
    """Read TIMES and SHARE."""
    try:
        times, share = int(given[0]), float(given[1]) if len(given) > 1 else 1.0
    except (IndexError, ValueError):
        sys.exit(__doc__)
    if len(given) > 2 or times < 1 or not 0.0 <= share <= 1.0:
        sys.exit(__doc__)
    return times, share


if __name__ == "__main__":
    main()
