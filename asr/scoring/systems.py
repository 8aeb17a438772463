"""Systems to be compared, from the files of their texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.scoring.compare import System
from asr.scoring.normalisers import ScoringNormaliser
from asr.scoring.score import score
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
    """

    systems: tuple[System, ...]
    attributes: tuple[Mapping[str, Mapping[str, Any]], ...]

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
    files = [read_texts(path, kind) for path in paths]
    if normaliser is None:
        _check_normalisers(files)
    apply = normaliser.apply if normaliser is not None else None
    systems: list[System] = []
    shared: dict[str, dict[str, Any]] = {}
    own: list[Mapping[str, Mapping[str, Any]]] = []
    order: Mapping[str, str] | None = None
    for name, file in zip(names or _names(paths), files, strict=True):
        wanted, heard, known = _pair(file, said)
        wanted = _like_the_first(order, wanted, file.path) if order is not None else wanted
        order = order or wanted
        for utterance, found in known.items():
            shared[utterance] = {**_without(found, _OWN), **shared.get(utterance, {})}
        own.append(known)
        speakers = {utterance: found["speaker"] for utterance, found in shared.items() if "speaker" in found}
        try:
            systems.append(System.of(name, score(wanted, heard, normalise=apply, speakers=speakers)))
        except DataError as error:
            raise DataError(f"{file.path}: {error}") from None
    attributes = [{name: {**known.get(name, {}), **found} for name, found in shared.items()} for known in own]
    return ScoredSystems(tuple(systems), tuple(attributes))


def _without(known: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name not in names}


def _pair(file: Texts, said: Texts | None) -> tuple[Mapping[str, str], Mapping[str, str], Mapping[str, Mapping[str, Any]]]:
    """Return references, hypotheses and attributes by utterance id."""
    if said is None:
        if file.references is None:
            raise DataError(f"{file.path}: holds no references beside its texts; give them with --references FILE")
        return file.references, file.by_id, file.attributes
    if said.timed is not None and file.timed is not None:
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


def _check_normalisers(files: Sequence[Texts]) -> None:
    known = [file for file in files if file.normaliser is not None]
    other = next((file for file in known if file.normaliser != known[0].normaliser), None)
    if other is not None:
        raise DataError(
            f"{known[0].path} was normalised by {known[0].normaliser}, {other.path} by {other.normaliser}: their error rates "
            "are not of the same words; bring both into one form with --normaliser librispeech, basic or english"
        )


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart, without the ending."""
    plain = [path.with_suffix("") for path in paths]
    for length in range(1, max(len(path.parts) for path in plain) + 1):
        names = [str(Path(*path.parts[-length:])) for path in plain]
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]
