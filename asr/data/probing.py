"""What is in the audio files of a corpus: looked at by several threads, and remembered when a preparation is interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from asr.audio import AudioInfo, load_audio, probe_audio
from asr.errors import AudioError, StorageError
from asr.files import make_folder
from asr.mixing import is_silent
from asr.progress import Progress

Stretch = tuple[str, float, float | None]
"""Id, start and duration (s; None: to the end) of an utterance within a recording."""

_Stamp = tuple[str, int, int]


@dataclass(frozen=True)
class Probed:
    """What was found in an audio file.

    Attributes
    ----------
    info
        Its rate, length and channels; or why it cannot be used.
    silent
        Ids of utterances with nothing in them; found where files are decoded.
    notices
        What else should be known, without the file's name.
    """

    info: AudioInfo | AudioError
    silent: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def probe_all(
    wanted: Mapping[Path, Sequence[Stretch]], name: str, journal: Path, *, decode: bool, n_threads: int
) -> dict[Path, Probed]:
    """Look at audio files, but for those of the journal of an interrupted preparation that have not changed since.

    Parameters
    ----------
    wanted
        Audio files, and the utterances in each.
    name
        What to call them all on a terminal.
    journal
        File to add what was found to, where nothing is wrong with it.
    decode
        Read every file to its end, which finds damage that its header does not show, and silence.
    n_threads
        Threads that read.

    Raises
    ------
    StorageError
        The journal cannot be written.
    """
    done = _read_journal(journal, decode)
    keys = {audio: _key(audio, stretches, decode) for audio, stretches in wanted.items()}
    found = {audio: Probed(done[key]) for audio, key in keys.items() if key in done}
    missing = [audio for audio in wanted if audio not in found]
    if not missing:
        return found
    look = partial(_look, decode=decode)
    make_folder(journal.parent)
    with (
        ThreadPoolExecutor(n_threads) as pool,
        _opened(journal) as stream,
        Progress(name, len(missing), "files") as progress,
    ):
        try:
            results = pool.map(look, missing, [wanted[audio] for audio in missing])
            for audio, probed in zip(missing, results, strict=True):
                progress.advance(1)
                found[audio] = probed
                if isinstance(probed.info, AudioInfo) and not probed.silent and not probed.notices:
                    stream.write(json.dumps([decode, *keys[audio], *asdict(probed.info).values()]) + "\n")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def stamp(audio: Path) -> _Stamp:
    """Return a file's name, size (bytes) and time of change (ns), the last two -1 where there is none."""
    try:
        status = audio.stat()
    except (OSError, ValueError):
        return str(audio), -1, -1
    return str(audio), status.st_size, status.st_mtime_ns


def _key(audio: Path, stretches: Sequence[Stretch], decode: bool) -> tuple[str, int, int, str]:
    """Return what must not have changed: the file and, where silence is looked for, the utterances in it."""
    return *stamp(audio), json.dumps(stretches) if decode else ""


def _look(audio: Path, stretches: Sequence[Stretch], *, decode: bool) -> Probed:
    try:
        notices: list[str] = []
        info = probe_audio(audio, tell=None if decode else notices.append)
        if not decode:
            return Probed(info, notices=tuple(notices))
        waveform = load_audio(audio, info.sample_rate, tell=notices.append)
    except AudioError as error:
        return Probed(error)
    silent: list[str] = []
    for id, start_s, duration_s in stretches:
        end = None if duration_s is None else round((start_s + duration_s) * info.sample_rate)
        stretch = waveform[round(start_s * info.sample_rate) : end]
        if len(stretch) and is_silent(stretch):
            silent.append(id)
    return Probed(info, tuple(silent), tuple(notices))


@contextmanager
def _opened(journal: Path) -> Iterator[TextIO]:
    try:
        with open(journal, "a", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise StorageError(f"{journal}: cannot be written: {error.strerror or error}") from error


def _read_journal(path: Path, decode: bool) -> dict[tuple[str, int, int, str], AudioInfo]:
    done: dict[tuple[str, int, int, str], AudioInfo] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return done
    for line in lines:
        try:
            decoded, name, size, time_ns, stretches, sample_rate, n_samples, n_channels = json.loads(line)
        except ValueError:  # the last line of an interrupted preparation may be cut off
            continue
        if decoded or not decode:
            done[name, size, time_ns, stretches if decode else ""] = AudioInfo(sample_rate, n_samples, n_channels)
    return done
