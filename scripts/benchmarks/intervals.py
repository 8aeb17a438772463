"""How often the 95 % intervals of error rates hold the truth, by simulation."""

from __future__ import annotations

import argparse

import numpy as np

from asr.commands.numbers import positive
from asr.scoring.intervals import ResamplingUnits, bootstrap_interval, choose_units
from benchmarks.measure import markdown

DESCRIPTION = __doc__ or ""

_MANY = 40_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--trials", type=positive, default=2000, metavar="N", help="corpora drawn (%(default)s)")
    parser.add_argument(
        "--speakers", type=positive, nargs="+", default=[10, 20, 40, 100], metavar="N", help="speakers of a corpus"
    )


def run(args: argparse.Namespace) -> None:
    """Draw corpora of speakers who make errors differently often, a fifth of all words on average, and count."""
    rng = np.random.default_rng(1)
    errors, words, _ = _draw(rng, _MANY)
    truth = errors.sum() / words.sum()
    rows = []
    for n_speakers in args.speakers:
        held = np.zeros(2)
        for _ in range(args.trials):
            errors, words, index = _draw(rng, n_speakers)
            for column, units in enumerate(
                (ResamplingUnits("speaker", index, n_speakers, n_speakers), choose_units(len(errors)))
            ):
                found = bootstrap_interval(errors, words, units)
                held[column] += found.low <= truth <= found.high
        rows.append([str(n_speakers), *(f"{100 * share:.1f} %" for share in held / args.trials)])
    print(markdown(["speakers", "interval over speakers", "over utterances"], *rows))


def _draw(rng: np.random.Generator, n_speakers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return errors, words and speaker of each utterance."""
    n_utterances = rng.integers(5, 40, n_speakers)
    speaker = np.repeat(np.arange(n_speakers), n_utterances)
    words = rng.integers(3, 30, len(speaker))
    rates = np.clip(rng.normal(rng.beta(2, 8, n_speakers)[speaker], 0.05), 0, 1)
    return rng.binomial(words, rates), words, speaker
