"""The sound of a file in blocks: each of its recordings by the library that reads it to its real end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import numpy as np

from asr.errors import AudioError
from asr.formats.container import Container, open_container
from asr.formats.file import GuardedFile, Reading, Source, opened, source_name
from asr.formats.links import Link, find_links
from asr.formats.sndfile import SoundFile, open_soundfile
from asr.waveform import check_rate

Block = tuple[int, np.ndarray]
"""A sample rate (Hz) and ``(sample, channel)`` float32."""

_READ_AT_ONCE = 1 << 22  # samples of each channel


class Part:
    """A stretch of a recording, counted down while it is read; exact for each rate.

    Parameters
    ----------
    offset_s, duration_s
        Where it begins, and how long it is (s); ``None`` reads to the end.
    """

    def __init__(self, offset_s: float = 0.0, duration_s: float | None = None) -> None:
        self._asked: tuple[float, float | None] | None = (offset_s, duration_s)
        self._skip = Fraction(0)
        self._keep: Fraction | None = None

    def samples(self, rate: int) -> tuple[int, int | None]:
        """Return how many samples of a rate are passed over from here on, and how many are wanted then; None for all."""
        if self._asked is not None:  # whole samples of the first rate
            (offset_s, duration_s), self._asked = self._asked, None
            self._skip = Fraction(round(offset_s * rate), rate)
            self._keep = None if duration_s is None else Fraction(round(duration_s * rate), rate)
        if self._keep is None and not self._skip:
            return 0, None
        return round(self._skip * rate), None if self._keep is None else round(self._keep * rate)

    def passed(self, n_samples: int, n_wanted: int, rate: int) -> None:
        """Count samples that are passed, and those of them that were wanted."""
        if self._skip:
            self._skip = max(Fraction(0), self._skip - Fraction(n_samples, rate))
        if self._keep is not None:
            self._keep -= Fraction(n_wanted, rate)

    def cut(self, rate: int, block: np.ndarray) -> np.ndarray:
        """Return what is wanted of a block, and count it."""
        skip, keep = self.samples(rate)
        if not skip and keep is None:
            return block
        wanted = block[skip:] if keep is None else block[skip : skip + keep]
        self.passed(len(block), len(wanted), rate)
        return wanted


def read_blocks(source: Source, reading: Reading, part: Part, block_s: float | None = None) -> Iterator[Block]:
    """Yield a part of a file's sound; what follows it is not decoded.

    What precedes it is in containers, although they can seek: most codecs (AAC, Opus, AC-3, MP2) carry a state from frame to
    frame, and after a seek the samples would not be those of the whole.

    Parameters
    ----------
    source
        The file.
    reading
        Which track, and what is done about damage.
    part
        What is wanted of it.
    block_s
        Seconds in a block where there is a choice; by default as many as are read with ease.

    Raises
    ------
    AudioError
        There is no such file, or it cannot be read.
    """
    name = source_name(source)
    read_s = 0.0
    with opened(source) as file:
        try:
            links = find_links(file)
            file.check()
            for link in links:
                with open_link(file, link, reading) as audio:
                    check_rate(audio.sample_rate, name)
                    for rate, block in _link_blocks(file, link, audio, reading, part, block_s):
                        read_s += len(block) / rate
                        yield rate, block
                    if part.samples(audio.sample_rate)[1] == 0:
                        return
            file.check()
        except AudioError as error:
            if reading.lose is None or not read_s:
                raise
            reading.lose(f"{_unnamed(error, name)}; {read_s:.2f} s could be read")


def _link_blocks(
    file: GuardedFile, link: Link, audio: SoundFile | Container, reading: Reading, part: Part, block_s: float | None
) -> Iterator[Block]:
    if isinstance(audio, SoundFile):
        yield from _soundfile_blocks(file, link, audio, reading, part, block_s)
        return
    for rate, block in audio.blocks():
        wanted = part.cut(rate, block)
        if len(wanted):
            yield rate, wanted
        if part.samples(rate)[1] == 0:
            return


def _soundfile_blocks(
    file: GuardedFile, link: Link, audio: SoundFile, reading: Reading, part: Part, block_s: float | None
) -> Iterator[Block]:
    rate = audio.sample_rate
    skip, keep = part.samples(rate)
    start = min(skip, audio.n_samples)
    stop = audio.n_samples if keep is None else min(audio.n_samples, start + keep)
    n_block = _READ_AT_ONCE if block_s is None else max(1, round(block_s * rate))
    place = start
    try:
        for block in audio.blocks(start, stop, n_block):
            place += len(block)
            yield rate, block
    except AudioError as error:
        if reading.lose is None:
            raise
        for other_rate, block in _behind_damage(file, link, audio, place, reading, _unnamed(error, file.name)):
            yield other_rate, block if keep is None else block[: max(0, stop - place)]
            place += round(len(block) * rate / other_rate)
    part.passed(audio.n_samples, stop - start, rate)


def _behind_damage(file: GuardedFile, link: Link, audio: SoundFile, place: int, reading: Reading, what: str) -> Iterator[Block]:
    """Yield what PyAV, which finds its way behind damage, reads from a sample on, and say how much is lost."""
    before_s = read_s = place / audio.sample_rate
    part = Part(before_s)
    quiet = dataclasses.replace(reading, lose=lambda _: None, tell=None)
    with suppress(AudioError), open_container(_plain(link).part(file), what, quiet) as container:
        for rate, block in container.blocks():
            wanted = part.cut(rate, block)
            if len(wanted):
                yield rate, wanted
        read_s = max(read_s, container.read_s)
    if read_s > before_s or "could be read" not in what:
        what = f"{what}; {read_s:.2f} of {audio.n_samples / audio.sample_rate:.2f} s could be read in all"
    if reading.lose is not None:
        reading.lose(what)


@contextmanager
def open_link(file: GuardedFile, link: Link, reading: Reading) -> Iterator[SoundFile | Container]:
    """Open a recording of a file with the library that reads it to its end.

    Raises
    ------
    AudioError
        It cannot be read, or something is missing in the middle of it.
    """
    why = "its header gives no length"
    if link.cut is not None:
        reading.damaged(file.name, link.cut)
    if link.notice is not None and reading.tell is not None:
        reading.tell(link.notice)
    if link.length != "unknown" and link.hole is None:
        audio, why = open_soundfile(link.part(file), reading)
        if audio is not None:
            try:
                if reading.track:
                    raise AudioError(f"{file.name}: has no audio track {reading.track}; it has track 0 alone")
                yield audio
            finally:
                audio.close()
            return
    missing = f"is corrupt: something is missing at byte {link.hole}"
    if link.hole is not None and reading.lose is None:
        raise AudioError(f"{file.name}: {missing}")
    part = _plain(link).part(file)
    quiet = reading if link.hole is None else dataclasses.replace(reading, lose=lambda _: None)
    with open_container(part, why, quiet, ignore_length=link.length == "unknown") as container:
        yield container
        if link.hole is not None and reading.lose is not None:
            promised_s = container.promised_s()
            of = "" if promised_s is None else f" of {promised_s:.2f}"
            reading.lose(f"{missing}; {container.read_s:.2f}{of} s could be read")


def _unnamed(error: AudioError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")


def _plain(link: Link) -> Link:
    """Return a link of known size, which PyAV does not have to look for."""
    return dataclasses.replace(link, length="stated")
