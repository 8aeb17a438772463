"""What a kind of damaged file is: what is made, and what is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fuzzing.watched import Handle


@dataclass(frozen=True)
class Mutant:
    """Something damaged that lies on the disk.

    Attributes
    ----------
    path
        The file or folder, of which errors must name the path.
    group
        What it was made from: a row of the table.
    mutation
        What was done to it.
    """

    path: Path
    group: str
    mutation: str


class Kind(Protocol):
    """A kind of files; made with a folder for what the mutants are made of and tried with, which it may fill.

    Attributes
    ----------
    number
        How many mutants there are unless another number is asked for.
    limit_s
        Time for one (s).
    """

    number: int
    limit_s: float

    def load(self) -> Handle:
        """Return what deals with a mutant's path; called in the watched process, so the object has to be pickled.

        It raises :class:`fuzzing.watched.Silent` where something was wrong and nothing was said.
        """

    def mutant(self, index: int, seed: int, folder: Path) -> Mutant:
        """Write one of a seed's mutants to a folder, whatever the others are."""
