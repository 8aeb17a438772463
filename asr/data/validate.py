"""From the rows of any corpus to a checked manifest: what is wrong is named, by row and by reason."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.audio import AudioInfo
from asr.data.manifest import resolve, write_manifest
from asr.data.probing import probe_all, stamp
from asr.errors import AudioError, DataError, StorageError
from asr.files import replacing, sync, tidy
from asr.mixing import SILENT
from asr.output import is_unicode, to_json

if TYPE_CHECKING:
    from lhotse.cut import Cut

N_SHOWN = 10
_TOLERANCE_S = 0.05  # an utterance may end this much after its recording does; it is cut there


@dataclass(frozen=True)
class Utterance:
    """A row of a corpus, not yet checked.

    Attributes
    ----------
    id
        Unique name.
    audio
        The audio file.
    text
        The transcript.
    where
        File and row it comes from, for messages.
    speaker
        Name of the speaker, if known.
    recording_id
        Name of the recording if it holds several utterances; else the utterance's own.
    start_s, duration_s
        The part of the recording, in seconds; ``None`` is up to its end.
    custom
        Anything else that is known (gender, ...).
    """

    id: str
    audio: Path
    text: str
    where: str
    speaker: str | None = None
    recording_id: str | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    custom: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """A row that cannot be used."""

    where: str
    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class PartSummary:
    """What was written for a part of a corpus; ``fresh`` is false if it stood already, ``notices`` say what should be known."""

    path: Path
    n_utterances: int
    n_speakers: int
    hours: float
    n_rejected: int
    fresh: bool
    notices: tuple[str, ...] = ()

    def __str__(self) -> str:
        rejected = f", {self.n_rejected} rejected (see {rejected_path(self.path)})" if self.n_rejected else ""
        state = "" if self.fresh else " (up to date)"
        return f"{self.path}: {self.n_utterances} utterances, {self.n_speakers} speakers, {self.hours:.2f} h{rejected}{state}"


def write_part(
    utterances: Sequence[Utterance],
    path: Path,
    notices: Sequence[str] = (),
    *,
    skip_invalid: bool = False,
    decode: bool = False,
    n_threads: int = 8,
    synthesisers: Sequence[str] = (),
) -> PartSummary:
    """Check the rows of a part and write its manifest.

    Nothing is done if the manifest stands and neither it, the rows nor their audio files have changed since. What says so
    goes before the manifest changes and comes after it, so of a preparation that is killed nothing is believed.

    Parameters
    ----------
    utterances
        The rows.
    path
        The manifest to write, ``.jsonl.gz``.
    notices
        What should be known of the corpus.
    skip_invalid
        Leave wrong rows out, and list them in ``<part>.rejected.jsonl``; otherwise a wrong row is an error.
    decode
        Read every audio file to its end, which finds damage that its header does not show, and silence with a transcript.
    n_threads
        Threads that read audio files.
    synthesisers
        What the part is spoken by, with versions and licences, for :func:`read_synthesisers`; none where people speak.

    Raises
    ------
    DataError
        A row is wrong and ``skip_invalid`` is off, or no row is left.
    """
    tidy(path.parent)
    digest = _digest(utterances, skip_invalid, decode and "silence", *notices)
    if (standing := _standing(path, digest)) is not None:
        return standing
    rejections: list[Rejection] = []
    usable = list(_check_rows(utterances, rejections))
    audible, infos, told = _probe_all(usable, path, decode, n_threads, rejections)
    cuts = list(_build_cuts(audible, infos, rejections))
    if rejections and not skip_invalid:
        raise DataError(_explain(rejections, len(utterances), path))
    if not cuts:
        raise DataError(f"{path}: no usable utterance among {len(utterances)} rows; nothing written" + _listing(rejections))
    summary = PartSummary(
        path=path,
        n_utterances=len(cuts),
        n_speakers=len({cut.supervisions[0].speaker for cut in cuts} - {None}),
        hours=sum(cut.duration for cut in cuts) / 3600,
        n_rejected=len(rejections),
        fresh=True,
        notices=(*notices, *told),
    )
    _forget(path)
    _write_rejections(rejections, path)
    write_manifest(cuts, path)
    content = _content_hash(path)
    record = {**asdict(summary), "path": path.name, "digest": digest, "sha256": content, "synthesisers": list(synthesisers)}
    with replacing(_info_path(path)) as stream:
        stream.write(json.dumps(record, indent=2).encode() + b"\n")
    _journal_path(path).unlink(missing_ok=True)
    return summary


def read_synthesisers(names: Iterable[str], folder: str | Path) -> list[str]:
    """Return what speaks in some manifests, as :func:`write_part` recorded it; nothing of those without a record."""
    found: list[str] = []
    for name in names:
        try:
            found += json.loads(_info_path(resolve(name, folder)).read_bytes()).get("synthesisers", [])
        except (OSError, ValueError, AttributeError, DataError):
            continue
    return sorted(set(found))


def rejected_path(path: Path) -> Path:
    """Where the rows that were left out of a manifest are listed."""
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".rejected.jsonl")


def _info_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".info.json")


def _journal_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".partial.jsonl")


def _digest(utterances: Iterable[Utterance], *options: object) -> str:
    """Fingerprint of all rows, of the sizes and times of their audio files, and of what was asked for."""
    digest = hashlib.blake2b(repr(options).encode(), digest_size=16)
    for u in utterances:
        custom = sorted(u.custom.items())
        row = (u.id, u.text, u.speaker, u.recording_id, u.start_s, u.duration_s, custom, stamp(u.audio))
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _standing(path: Path, digest: str) -> PartSummary | None:
    """Return the summary of an earlier preparation, if it was of the same rows and what it wrote is there."""
    try:
        record = json.loads(_info_path(path).read_text(encoding="utf-8"))
        if record.pop("digest") != digest or record.pop("sha256") != _content_hash(path):
            return None
        if record["n_rejected"] and not rejected_path(path).is_file():
            return None
        record.pop("synthesisers", None)
        return PartSummary(**{**record, "path": path, "fresh": False, "notices": tuple(record.get("notices", ()))})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _content_hash(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _forget(path: Path) -> None:
    """Remove what says that a manifest stands, for good, before it changes."""
    info = _info_path(path)
    try:
        if info.exists():
            info.unlink()
            sync(path.parent)
    except OSError as error:
        raise StorageError(f"{info}: cannot be removed: {error.strerror or error}") from error


def _check_rows(utterances: Iterable[Utterance], rejections: list[Rejection]) -> Iterator[Utterance]:
    """Yield the rows that are right by themselves, before any audio is opened."""
    first: dict[str, str] = {}
    for utterance in utterances:
        if not utterance.id.strip():
            problem = ("no id", "the id is empty")
        elif utterance.id in first:
            problem = ("duplicate id", f"the id stands already at {first[utterance.id]}")
        elif not utterance.text.strip():
            problem = ("empty text", "the transcript is empty")
        elif not is_unicode(utterance.text):
            problem = ("broken text", f"the transcript {utterance.text!r} holds a half of a surrogate pair")
        elif not any(map(str.isalnum, utterance.text)):
            problem = ("no words", f"the transcript {utterance.text.strip()!r} has neither a letter nor a digit")
        elif not math.isfinite(utterance.start_s) or utterance.start_s < 0:
            problem = ("bad time", f"starts at {_shown(utterance.start_s)}; expected seconds >= 0, such as 61.5")
        elif utterance.duration_s is not None and not (math.isfinite(utterance.duration_s) and utterance.duration_s > 0):
            problem = ("bad time", f"lasts {_shown(utterance.duration_s)}; expected seconds > 0, such as 61.5")
        else:
            first[utterance.id] = utterance.where
            yield utterance
            continue
        rejections.append(Rejection(utterance.where, utterance.id, *problem))


def _shown(seconds: float) -> str:
    return "what is no number" if math.isnan(seconds) else f"{seconds} s"


def _probe_all(
    utterances: Sequence[Utterance], path: Path, decode: bool, n_threads: int, rejections: list[Rejection]
) -> tuple[list[Utterance], dict[Path, AudioInfo], list[str]]:
    """Return the utterances with sound in them, what their audio files are, and what else should be known of these."""
    rows: dict[Path, list[Utterance]] = {}
    for utterance in utterances:
        rows.setdefault(utterance.audio, []).append(utterance)
    wanted = {audio: [(row.id, row.start_s, row.duration_s) for row in own] for audio, own in rows.items()}
    name = path.name.removesuffix(".jsonl.gz")
    found = probe_all(wanted, name, _journal_path(path), decode=decode, n_threads=n_threads)
    infos: dict[Path, AudioInfo] = {}
    silent: set[str] = set()
    notices: list[str] = []
    for audio, own in rows.items():
        probed = found[audio]
        if isinstance(probed.info, AudioError):
            reason = "missing file" if not os.path.exists(audio) else "unreadable audio"
            rejections.append(Rejection(own[0].where, own[0].id, reason, str(probed.info)))
            continue
        infos[audio] = probed.info
        silent.update(probed.silent)
        notices += [f"{audio}: {notice}" for notice in probed.notices]
        for row in own:
            if row.id in probed.silent:
                detail = f"{audio}: {SILENT}, which has a transcript"
                rejections.append(Rejection(row.where, row.id, "silence", detail))
    if len(notices) > N_SHOWN:
        notices[N_SHOWN:] = [f"and {len(notices) - N_SHOWN} more such notices"]
    return [utterance for utterance in utterances if utterance.id not in silent], infos, notices


def _build_cuts(utterances: Iterable[Utterance], infos: Mapping[Path, AudioInfo], rejections: list[Rejection]) -> Iterator[Cut]:
    from lhotse import AudioSource, Recording, SupervisionSegment
    from lhotse.cut import MonoCut, MultiCut

    reported = {rejection.where for rejection in rejections}
    for utterance in utterances:
        info = infos.get(utterance.audio)
        if info is None:
            if utterance.where not in reported:
                rejections.append(Rejection(utterance.where, utterance.id, "unreadable audio", f"{utterance.audio}: see above"))
            continue
        remaining = info.duration_s - utterance.start_s
        duration = utterance.duration_s if utterance.duration_s is not None else remaining
        if remaining <= 0 or duration > remaining + _TOLERANCE_S:
            end = utterance.start_s + duration
            detail = f"reaches from {utterance.start_s:.2f} to {end:.2f} s, the recording ends at {info.duration_s:.2f} s"
            rejections.append(Rejection(utterance.where, utterance.id, "beyond the recording", detail))
            continue
        duration = min(duration, remaining)
        channels = list(range(info.n_channels))
        recording_id = utterance.recording_id or utterance.id
        source = AudioSource("file", channels, str(utterance.audio.resolve()))
        recording = Recording(recording_id, [source], info.sample_rate, info.n_samples, info.duration_s, channels)
        supervision = SupervisionSegment(
            id=utterance.id,
            recording_id=recording_id,
            start=0.0,
            duration=duration,
            channel=channels if len(channels) > 1 else 0,
            text=utterance.text.strip(),
            speaker=utterance.speaker,
            gender=utterance.custom.get("gender"),
            custom={key: value for key, value in utterance.custom.items() if key != "gender"} or None,
        )
        kind, channel = (MultiCut, channels) if len(channels) > 1 else (MonoCut, 0)
        yield kind(utterance.id, utterance.start_s, duration, channel, supervisions=[supervision], recording=recording)


def _listing(rejections: Sequence[Rejection]) -> str:
    if not rejections:
        return ""
    lines = [f"  {r.where}: {r.id or '(no id)'}: {r.reason}: {r.detail}" for r in rejections[:N_SHOWN]]
    if len(rejections) > N_SHOWN:
        lines.append(f"  ... and {len(rejections) - N_SHOWN} more")
    return ":\n" + "\n".join(lines)


def _explain(rejections: Sequence[Rejection], n_rows: int, path: Path) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in Counter(r.reason for r in rejections).most_common())
    return (
        f"{path}: {len(rejections)} of {n_rows} rows cannot be used ({counts}); nothing written{_listing(rejections)}\n"
        "Correct them, or leave them out with --skip-invalid"
    )


def _write_rejections(rejections: Sequence[Rejection], path: Path) -> None:
    if not rejections:
        rejected_path(path).unlink(missing_ok=True)
        return
    with replacing(rejected_path(path)) as stream:
        for rejection in rejections:
            stream.write(to_json(asdict(rejection)).encode() + b"\n")
