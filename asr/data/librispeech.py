"""LibriSpeech (Panayotov et al., ICASSP 2015): download of the official parts, and manifests of any part.

A part is a folder ``<part>/<speaker>/<chapter>/`` with one transcript file and one audio file an utterance, in any audio
format. ``SPEAKERS.TXT`` beside the parts gives the speakers' gender.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.audio_folder import AUDIO_ENDINGS, find_audio
from asr.data.download import download, unpack_tar
from asr.data.validate import PartSummary, Utterance, write_part
from asr.errors import DataError
from asr.option import nearest
from asr.progress import Progress

OFFICIAL_URL = "https://www.openslr.org/resources"
# part: (number of the resource, MD5 of the archive, as the resource's md5sum.txt has them)
ARCHIVES = {
    "dev-clean": (12, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (12, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (12, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (12, "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-100": (12, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (12, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (12, "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean-2": (31, "6d7ab67ac6a1d2c993d050e16d61080d"),
    "train-clean-5": (31, "5df7d4e78065366204ca6845bb08f490"),
}


def download_part(part: str, folder: Path, mirror: str = OFFICIAL_URL) -> Path:
    """Fetch an official part and unpack it to ``folder/<part>``; what is there already is kept.

    Parameters
    ----------
    part
        Official name, a key of ``ARCHIVES``.
    folder
        The corpus folder, named ``LibriSpeech`` as in the archives.
    mirror
        Address below which the archive lies as ``<12 or 31>/<part>.tar.gz``.

    Raises
    ------
    DataError
        The part is not an official one, or what was fetched has the wrong checksum.
    """
    if part not in ARCHIVES:
        raise DataError(f"{part!r} cannot be downloaded.{nearest(part, ARCHIVES)} Official parts: {', '.join(ARCHIVES)}")
    target = folder / part
    if target.is_dir():
        return target
    number, md5 = ARCHIVES[part]
    archive = folder.parent / f"{part}.tar.gz"
    download(f"{mirror.rstrip('/')}/{number}/{part}.tar.gz", archive, md5)
    unpack_tar(archive, folder, target, strip="LibriSpeech")
    archive.unlink()
    return target


def prepare_part(
    part: str, folder: Path, manifests: Path, *, skip_invalid: bool = False, decode: bool = False, n_threads: int = 8
) -> PartSummary:
    """Write the manifest ``librispeech/<part>`` of a part that lies in the corpus's own layout.

    Parameters
    ----------
    part
        Name of a folder below ``folder``.
    folder
        The corpus folder, with ``SPEAKERS.TXT``.
    manifests
        The manifests folder.
    skip_invalid, decode, n_threads
        As for :func:`asr.data.validate.write_part`.

    Raises
    ------
    DataError
        There is no such part, it has no transcripts, or utterances cannot be used.
    """
    root = folder / part
    if not root.is_dir() or part in ("", ".", ".."):
        parts = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        there = f"Parts there: {', '.join(parts)}" if parts else f"{folder} holds no parts"
        offer = "; add --download to fetch it" if part in ARCHIVES else ""
        raise DataError(f"{root}: no such part of LibriSpeech.{nearest(part, parts)} {there}{offer}")
    transcripts = sorted(root.rglob("*.trans.txt"))
    if not transcripts:
        raise DataError(f"{root}: holds no transcripts; expected <speaker>/<chapter>/<speaker>-<chapter>.trans.txt")
    recordings = _by_stem(find_audio(root).paths)
    utterances = list(_read_part(part, transcripts, recordings, _read_genders(folder / "SPEAKERS.TXT")))
    spare = set(recordings.values()) - {utterance.audio for utterance in utterances}
    notices = [f"{len(spare)} recordings have no transcript, such as {min(spare)}"] if spare else []
    path = manifests / "librispeech" / f"{part}.jsonl.gz"
    return write_part(utterances, path, notices, skip_invalid=skip_invalid, decode=decode, n_threads=n_threads)


def _read_genders(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    rows = (line.split("|") for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line[:1] != ";")
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 2}


def _by_stem(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return recordings by their paths without endings; of several that differ in nothing else, the most faithful."""
    ranked = sorted(paths, key=lambda path: AUDIO_ENDINGS.index(path.suffix.lower()), reverse=True)
    return {path.with_suffix(""): path for path in ranked}


def _read_part(
    part: str, transcripts: Sequence[Path], recordings: Mapping[Path, Path], genders: Mapping[str, str]
) -> Iterator[Utterance]:
    with Progress(f"{part}: transcripts", len(transcripts), "chapters") as progress:
        for path in transcripts:
            yield from _read_chapter(path, recordings, genders)
            progress.advance(1)


def _read_chapter(path: Path, recordings: Mapping[Path, Path], genders: Mapping[str, str]) -> Iterator[Utterance]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text: {error}") from None
    for row, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        speaker = name.partition("-")[0]
        custom = {"gender": genders[speaker]} if speaker in genders else {}
        audio = recordings.get(path.parent / name, path.parent / f"{name}.flac")
        yield Utterance(name, audio, text, where=f"{path}, line {row}", speaker=speaker, custom=custom)
