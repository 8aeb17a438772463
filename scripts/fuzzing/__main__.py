"""``scripts/fuzz KIND ...``: finds the kind, and runs its mutants through a watched process."""

from __future__ import annotations

import argparse
import importlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fuzzing.kind import Kind
from fuzzing.watched import ACCEPTED, KINDS, Outcome, Watched

NAMES = {
    "audio": "audio files of every format, transcribed",
    "packages": "model packages, loaded and used",
    "checkpoints": "checkpoints of both kinds of training, gone on from",
    "recordings": "films, joined files, streams from pipes, odd time stamps and lengths, read; compared with FFmpeg",
}
"""Kinds with their summaries; each is a module with a class ``Fuzzed``, a :class:`fuzzing.kind.Kind`."""

_DESCRIPTION = """\
Give asr damaged files of a kind in a watched process. Each must be dealt with as a whole one is, or end in a clear error
that names it, within its time and 2 GiB of memory.

kinds:
"""


def fuzz(kind: Kind, scratch: Path, number: int, seed: int, keep: Path | None) -> int:
    """Run the mutants through, print what became of them, and return the number of failures.

    Parameters
    ----------
    kind
        What is damaged.
    scratch
        Folder for the mutants, each while it is tried.
    number, seed
        How many, and of which seed.
    keep
        Receives those that failed.
    """
    counts: dict[str, Counter[str]] = {}
    outcomes: dict[str, Outcome] = {}
    with Watched(kind.load, limit_s=kind.limit_s) as watched:
        for index in range(number):
            mutant = kind.mutant(index, seed, scratch)
            name = f"{mutant.path.name} ({mutant.group}, {mutant.mutation})"
            outcome = outcomes[name] = watched.outcome(mutant.path)
            counts.setdefault(mutant.group, Counter())[outcome.kind] += 1
            if not outcome.accepted:
                print(f"{name}: {outcome.kind}: {outcome.detail}", flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (shutil.copytree if mutant.path.is_dir() else shutil.copy)(mutant.path, keep / mutant.path.name)
            shutil.rmtree(mutant.path) if mutant.path.is_dir() else mutant.path.unlink(missing_ok=True)
            if (index + 1) % 100 == 0:
                print(f"{index + 1} of {number}, {_failures(counts)} failures", flush=True)
    _print_table(counts)
    slowest = max(outcomes, key=lambda name: outcomes[name].seconds)
    largest = max(outcomes, key=lambda name: outcomes[name].peak_bytes)
    print(f"slowest: {outcomes[slowest].seconds:.2f} s, {slowest}")
    print(f"most memory: {outcomes[largest].peak_bytes / 2**30:.2f} GiB, {largest}")
    return _failures(counts)


def _failures(counts: Mapping[str, Counter[str]]) -> int:
    return sum(n for row in counts.values() for kind, n in row.items() if kind not in ACCEPTED)


def _print_table(counts: Mapping[str, Counter[str]]) -> None:
    print(f"{'of':16}" + "".join(f"{kind:>12}" for kind in KINDS))
    for group, row in (*counts.items(), ("all", sum(counts.values(), Counter()))):
        print(f"{group:16}" + "".join(f"{row[kind] or '':>12}" for kind in KINDS))


def main() -> int:
    """Read the arguments; 1 where there were failures."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=_DESCRIPTION + "\n".join(f"  {name:12} {summary}" for name, summary in NAMES.items()),
        epilog="The same seed makes the same mutants, whatever their number, but for what libraries draw by themselves.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=NAMES, metavar="KIND", help="one of the above")
    parser.add_argument(
        "number", nargs="?", type=int, metavar="NUMBER", help="how many mutants; by default as many as the kind says"
    )
    parser.add_argument("seed", nargs="?", type=int, default=1, metavar="SEED", help="of the mutants (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="receives the mutants that failed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kind: Kind = importlib.import_module(f"fuzzing.{args.kind}").Fuzzed(Path(scratch))
        number = kind.number if args.number is None else max(1, args.number)
        return 1 if fuzz(kind, Path(scratch), number, args.seed, args.keep) else 0
