"""Systems to be compared, from the files of their texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.scoring.compare import System
from asr.scoring.normalisers import ScoringNormaliser
from asr.scoring.score import score, score_best
from asr.scoring.texts import Texts, read_texts
from asr.scoring.timed import pair_by_time

_OWN = ("confidence", "word_times_s")
"""What a system says of its words, and not of the utterance."""


@dataclass(frozen=True)
class ScoredSystems:
    """Systems on the same utterances.

    Attributes
    ----------
    systems
        In the order in which they were given.
    attributes
        Of each system, what is known of an utterance, by its id: what any of the files says of the utterance, and what the
        system's own says of its words.
    notes
        What is to be known of the comparison.
    """

    systems: tuple[System, ...]
    attributes: tuple[Mapping[str, Mapping[str, Any]], ...]
    notes: tuple[str, ...] = ()

    @property
    def speakers(self) -> dict[str, str]:
        """Those that are known, by utterance id."""
        return {name: known["speaker"] for name, known in self.attributes[0].items() if "speaker" in known}


def read_systems(
    paths: Sequence[Path],
    references: Path | None = None,
    *,
    names: Sequence[str] | None = None,
    kind: str | None = None,
    normaliser: ScoringNormaliser | None = None,
) -> ScoredSystems:
    """Read and score what systems wrote.

    Parameters
    ----------
    paths
        A file a system.
    references
        What was said; by default the files hold it, as those of ``asr evaluate -o`` do.
    names
        Of the systems; by default what tells the paths apart.
    kind
        Of all files, one of :data:`asr.scoring.texts.KINDS`; by default what their endings say.
    normaliser
        Applied to both sides; by default they are compared as they are.

    Raises
    ------
    DataError
        A file cannot be read, the files are not of the same utterances, or they were normalised differently.
    """
    said = read_texts(references, kind) if references is not None else None
    if said is not None and said.words_alone:
        raise DataError(f"{said.path}: holds words with times, and no segments to score; give references as STM or SegLST")
    files = [read_texts(path, kind) for path in paths]
    notes = [] if normaliser is not None else _check_normalisers(files)
    apply = normaliser.apply if normaliser is not None else None
    pairs = [_pair(file, said, notes) for file in files]
    shared: dict[str, dict[str, Any]] = {}
    for _, _, known in pairs:
        for utterance, found in known.items():
            shared[utterance] = {**_without(found, _OWN), **shared.get(utterance, {})}
    speakers = {utterance: found["speaker"] for utterance, found in shared.items() if "speaker" in found}
    systems: list[System] = []
    for name, file, (wanted, heard, _) in zip(names or _names(paths), files, pairs, strict=True):
        wanted = _like_the_first(pairs[0][0], wanted, file.path)
        try:
            scored = score(wanted, heard, normalise=apply, speakers=speakers)
        except DataError as error:
            raise DataError(f"{file.path}: {error}") from None
        oracle = score_best(wanted, heard, file.n_best, normalise=apply, speakers=speakers)
        systems.append(System.of(name, scored, oracle))
    attributes = [{name: {**known.get(name, {}), **found} for name, found in shared.items()} for _, _, known in pairs]
    return ScoredSystems(tuple(systems), tuple(attributes), tuple(notes))


def _without(known: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name not in names}


_Pairs = tuple[Mapping[str, str], Mapping[str, str], Mapping[str, Mapping[str, Any]]]


def _pair(file: Texts, said: Texts | None, notes: list[str]) -> _Pairs:
    """Return references, hypotheses and attributes by utterance id."""
    if said is None:
        if file.references is None:
            raise DataError(f"{file.path}: holds no references beside its texts; give them with --references FILE")
        return file.references, file.by_id, file.attributes
    if said.timed is not None and file.timed is not None:
        absent = sorted({one.recording for one in said.timed} - {one.recording for one in file.timed})
        if absent:
            notes.append(
                f"{file.path}: has nothing of {len(absent)} recordings, such as {absent[0]}: all their words are missing"
            )
        if not file.words_alone:
            notes.append(f"{file.path}: has no times of words, which are spread evenly over their segments: pairing is a guess")
        try:
            return pair_by_time(said.timed, file.timed)
        except DataError as error:
            raise DataError(f"{file.path}: {error} ({said.path})") from None
    if said.timed is not None or file.timed is not None:
        timed, plain = (said, file) if said.timed is not None else (file, said)
        raise DataError(f"{timed.path} has texts by time, {plain.path} by utterance; expected the same of both")
    attributes = {name: {**file.attributes.get(name, {}), **said.attributes.get(name, {})} for name in said.by_id}
    return said.references or said.by_id, file.by_id, attributes


def _like_the_first(first: Mapping[str, str], references: Mapping[str, str], path: Path) -> Mapping[str, str]:
    """Return references in the order of the first system's."""
    alone = sorted(first.keys() ^ references.keys())
    if alone:
        raise DataError(
            f"{path}: is not of the same utterances as the first file: {len(alone)} are in one of them alone, such as "
            f"{alone[0]}; compare what was measured on one corpus"
        )
    return {name: references[name] for name in first}


def _check_normalisers(files: Sequence[Texts]) -> list[str]:
    """Refuse texts of which it is known that they were normalised differently; return what is to be said of the others."""
    known = [file for file in files if file.normaliser is not None]
    other = next((file for file in known if file.normaliser != known[0].normaliser), None)
    if other is not None:
        raise DataError(
            f"{known[0].path} was normalised by {known[0].normaliser}, {other.path} by {other.normaliser}: their error rates "
            "are not of the same words; bring both into one form with --normaliser librispeech, basic or english"
        )
    unknown = next((file for file in files if file.normaliser is None), None)
    if not known or unknown is None:
        return []
    return [
        f"{known[0].path} was normalised by {known[0].normaliser}, and of {unknown.path} that is not known: --normaliser "
        "brings both into one form"
    ]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart, without the ending."""
    plain = [path.with_suffix("") for path in paths]
    for length in range(1, max(len(path.parts) for path in plain) + 1):
        names = [str(Path(*path.parts[-length:])) for path in plain]
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]
