#!/usr/bin/env python
"""Vary spelled letters and numbers, so that a language model learns that any may follow any.

usage: python recipes/english/vary.py TIMES [SHARE ...] < TEXT > VARIED

Each line of TEXT is written TIMES times, each time with other letters, digits, teens and tens in place of its own: of all of
them, or of the SHARE (0 to 1) that chance picks, where the text's own spellings are to stay likelier than others; with several
shares, TIMES times for each. Seed 1.
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
    try:
        times, shares = int(sys.argv[1]), [float(share) for share in sys.argv[2:]] or [1.0]
    except (IndexError, ValueError):
        sys.exit(__doc__)
    if times < 1 or not all(0.0 <= share <= 1.0 for share in shares):
        sys.exit(__doc__)
    lines = sys.stdin.read().lower().splitlines()
    for share in shares:
        rng = random.Random(1)
        for line in lines:
            write(line.split(), times, share, rng)


def write(words: list[str], times: int, share: float, rng: random.Random) -> None:
    """Write one line's variants."""
    spelled = sum(word in OTHERS for word in words) > 1  # a lone "i" or "a" is a word
    for _ in range(times):
        varied = (spelled and word in OTHERS and (share == 1.0 or rng.random() < share) for word in words)
        print(" ".join(rng.choice(OTHERS[word]) if vary else word for word, vary in zip(words, varied, strict=True)))


if __name__ == "__main__":
    main()
