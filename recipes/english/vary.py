#!/usr/bin/env python
"""Vary spelled letters and numbers, so that a language model learns that any may follow any.

usage: python recipes/english/vary.py TIMES < TEXT > VARIED

Each line of TEXT is written TIMES times, each time with other letters, digits, teens and tens in place of its own. Seed 1.
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
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    rng = random.Random(1)
    for line in sys.stdin.read().lower().splitlines():
        words = line.split()
        spelled = sum(word in OTHERS for word in words) > 1  # a lone "i" or "a" is a word
        for _ in range(int(sys.argv[1])):
            print(" ".join(rng.choice(OTHERS[word]) if spelled and word in OTHERS else word for word in words))


if __name__ == "__main__":
    main()
