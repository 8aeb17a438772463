"""The report of one or more systems on a corpus: what its page is to show, as plain data."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.audio import load_audio
from asr.errors import AudioError, ConfigError
from asr.files import replacing
from asr.pictures.page import sound_file
from asr.pictures.report import fill_report
from asr.scoring.breakdown import LABELS, Breakdown
from asr.scoring.compare import Difference, System
from asr.scoring.curves import Curves
from asr.scoring.pairs import Pair

if TYPE_CHECKING:
    from asr.scoring.evaluation import Evaluation

MAX_EMBEDDED_H = 4.0
"""Hours of audio that a page can hold: some 60 MB."""

_RATE = 16000


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes
    ----------
    title
        What was measured.
    systems
        One or more, on the same utterances in the same order.
    details
        Of each system.
    attributes
        Of each system, what is known of an utterance, by its id.
    differences
        Of each two systems.
    notes
        Lines that stand above all.
    curves
        By the name of what was measured in training, lines of ``(step, value)`` by their names.
    """

    title: str
    systems: Sequence[System]
    details: Sequence[Breakdown]
    attributes: Sequence[Mapping[str, Mapping[str, Any]]]
    differences: Sequence[Difference] = ()
    notes: Sequence[str] = ()
    curves: Curves = field(default_factory=dict)

    def write(self, path: Path, *, embed_audio: bool = False, tell: Callable[[str], None] = print) -> int:
        """Write the page, whole or not at all; return the number of sounds that could not be embedded.

        Parameters
        ----------
        path
            The page.
        embed_audio
            Have the sound of all utterances in the page, as MP3; otherwise the page names its files.
        tell
            Told which cannot be read.

        Raises
        ------
        ConfigError
            There is more audio than :data:`MAX_EMBEDDED_H`.
        StorageError
            The page cannot be written.
        """
        sounds, n_lost = self._sounds(tell) if embed_audio else ({}, 0)
        page = fill_report(self.content(path), sounds)
        with replacing(path) as stream:
            stream.write(page.encode("utf-8"))
        return n_lost

    def content(self, path: Path) -> dict[str, Any]:
        """Return the data of a page that will lie at a path."""
        return {
            "title": self.title,
            "notes": list(self.notes),
            "systems": [_system(*one) for one in zip(self.systems, self.details, strict=True)],
            "differences": [_difference(one) for one in self.differences],
            "labels": LABELS,
            "curves": [{"title": title, "lines": list(lines.items())} for title, lines in self.curves.items()],
            "utterances": self._utterances(path),
        }

    def _utterances(self, path: Path) -> dict[str, Any]:
        rows = self.systems[0].score.utterances
        known = [self.attributes[0].get(row.id, {}) for row in rows]
        names = list(dict.fromkeys(one.get("speaker") for one in known))
        index = {name: place for place, name in enumerate(names)}
        folder = Path(os.path.abspath(path)).parent
        return {
            "ids": [row.id for row in rows],
            "references": [" ".join(row.reference.split()) for row in rows],
            "hypotheses": [[" ".join(row.hypothesis.split()) for row in one.score.utterances] for one in self.systems],
            "edits": [[_edits(pairs) for pairs in one.alignments] for one in self.systems],
            "speakers": {"names": names, "index": [index[one.get("speaker")] for one in known]} if any(names) else None,
            **{name: _column([one.get(name) for one in known]) for name in ("duration_s", "snr_db", "start_s")},
            "confidence": [_column([of.get(row.id, {}).get("confidence") for row in rows]) for of in self.attributes],
            "times": [_times(*one) for one in zip(self.systems, self.attributes, strict=True)],
            "audio": [address(one["audio"], folder) if "audio" in one else None for one in known],
        }

    def _sounds(self, tell: Callable[[str], None]) -> tuple[dict[int, str], int]:
        rows, known = self.systems[0].score.utterances, self.attributes[0]
        places = {place: known[row.id] for place, row in enumerate(rows) if "audio" in known.get(row.id, {})}
        check_embedded(self.title, sum(one.get("duration_s", 0.0) for one in places.values()))
        sounds, n_samples, n_lost = {}, 0, len(rows) - len(places)
        if n_lost:
            tell(f"the audio of {n_lost} utterances is not known, so it is not in the page")
        for place, one in places.items():
            try:
                waveform = load_audio(one["audio"], _RATE, offset_s=one.get("start_s", 0.0), duration_s=one.get("duration_s"))
            except AudioError as error:
                tell(f"{rows[place].id}: its sound is not in the page: {error}")
                n_lost += 1
                continue
            n_samples += len(waveform)
            check_embedded(self.title, n_samples / _RATE)
            sounds[place] = sound_file(waveform, _RATE, "MP3")
        return sounds, n_lost


def evaluation_report(result: Evaluation, name: str, curves: Curves) -> Report:
    """Return the report of one model on one corpus.

    Parameters
    ----------
    result
        Of the model.
    name
        The model's.
    curves
        Of its training.
    """
    return Report(
        title=f"{name} on {result.corpus}",
        systems=[System.of(name, result.score)],
        details=[result.details()],
        attributes=[result.attributes],
        notes=[*filter(None, [result.score.caution]), *result.remarks()],
        curves=curves,
    )


def check_embedded(what: str, audio_s: float) -> None:
    """Refuse more audio than a page can hold.

    Raises
    ------
    ConfigError
        There is more than :data:`MAX_EMBEDDED_H`.
    """
    if audio_s > 3600 * MAX_EMBEDDED_H:
        raise ConfigError(
            f"--embed-audio: {what} has {audio_s / 3600:.1f} h of audio; a page holds {MAX_EMBEDDED_H:g} h at most, which are "
            "some 60 MB. Leave it out: the page then names the files"
        )


def address(audio: str, folder: Path) -> str:
    """Return the address of a file for a page in a folder: relative to it unless they have nothing but the root in common.

    Whatever the path is, it is that of a file, and no address in a network.

    Examples
    --------
    >>> address("/data/a b.wav", Path("/data/pages"))
    '../a%20b.wav'
    >>> address("/corpora/a.wav", Path("/home/me"))
    'file:///corpora/a.wav'
    """
    path = "/" + os.path.abspath(audio).lstrip("/")  # two at its beginning would name a host
    far = os.path.commonpath([path, folder]) == os.path.sep
    return ("file://" if far else "") + urllib.parse.quote(os.fsencode(path if far else os.path.relpath(path, folder)))


def _system(system: System, details: Breakdown) -> dict[str, Any]:
    rates = {name: getattr(system.score, name).to_mapping() for name in ("wer", "cer", "ser")}
    return {"name": system.name, **rates, **details.to_mapping()}


def _difference(one: Difference) -> dict[str, Any]:
    found = one.to_mapping()
    return {**{name: value for name, value in found.items() if name != "utterances"}, "rate": found["wer_difference"]}


def _edits(pairs: Sequence[Pair]) -> str:
    """Return a letter a pair, or nothing where all are right."""
    letters = "".join("i" if left is None else "d" if right is None else "=" if left == right else "s" for left, right in pairs)
    return letters if letters.strip("=") else ""


def _column(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def _times(system: System, attributes: Mapping[str, Mapping[str, Any]]) -> list[Any] | None:
    """Return where each word of an utterance begins and ends, one after the other, where they are known of all its words."""
    found: list[Any] = []
    for row in system.score.utterances:
        times = attributes.get(row.id, {}).get("word_times_s", ())
        flat = [round(edge, 2) for pair in times for edge in pair]
        found.append(flat if flat and len(times) == len(row.hypothesis.split()) else None)
    return _column(found)
