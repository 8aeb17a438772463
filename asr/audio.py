"""Audio files and bytes to float32 mono waveforms at the model's sample rate.

libsndfile (through ``soundfile``) reads wav, flac, ogg, opus, mp3, aiff and more, where their lengths are facts; PyAV reads
m4a, mp4, webm and the like, and what has no length but its end. Both come as wheels: no program is installed beside Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import numpy as np

from asr.errors import AudioError
from asr.formats.blocks import Block, Part, open_link, read_blocks
from asr.formats.file import Reading, Source, opened, source_name
from asr.formats.links import find_links
from asr.formats.sndfile import SoundFile
from asr.mixing import Tell, mix_blocks, to_mono
from asr.resampling import resample, resample_blocks
from asr.waveform import check_rate


@dataclass(frozen=True)
class AudioInfo:
    """What is known of an audio file.

    Attributes
    ----------
    sample_rate
        Samples a second (Hz), of its beginning.
    n_samples
        Samples in each channel, were they all of this rate.
    n_channels
        Channels, of its beginning.
    """

    sample_rate: int
    n_samples: int
    n_channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def load_audio(
    source: Source,
    sample_rate: int,
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    channel: int | None = None,
    track: int | None = None,
    tell: Tell | None = None,
    lose: Tell | None = None,
) -> np.ndarray:
    """Read audio as one channel at a given sample rate.

    Parameters
    ----------
    source
        A path, the bytes of a file, or a binary file object that can seek. Time counts from the beginning of the file: sound
        that begins later, as in a film, has silence before it, and gaps in its time stamps are silence unless damaged.
    sample_rate
        Rate of the result (Hz).
    offset_s, duration_s
        The part to read, in seconds; ``None`` reads to the end.
    channel
        As for :func:`asr.mixing.mix_blocks`.
    track
        The audio track to take, counted from 0; ``None`` takes the one that the file marks as its default, or else the first.
    tell
        Told what should be known: other tracks, gaps, channels that cancel each other.
    lose
        Told what cannot be read of a damaged file, of which the rest is returned; ``None`` makes it an error.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32, nominally in [-1, 1]; at least one sample.

    Raises
    ------
    AudioError
        There is no such file, or it cannot be read, is empty, truncated, corrupt, no audio at all, without such a track or
        channel, or holds values that are no numbers.

    Examples
    --------
    >>> load_audio("speech.mp3", 16000, offset_s=1.5, duration_s=2.0).shape  # doctest: +SKIP
    (32000,)
    """
    name, reading = source_name(source), Reading(track, tell, lose)
    if offset_s < 0 or (duration_s is not None and duration_s <= 0):
        raise AudioError(f"{name}: cannot read {duration_s} s from {offset_s} s on; expected an offset >= 0 and a duration > 0")
    waveforms = []
    # By blocks, since the memory for what a header promises may be more than there is.
    for (source_rate, _), blocks in groupby(read_blocks(source, reading, Part(offset_s, duration_s)), _kind):
        parts = [block for _, block in blocks]
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
        waveforms.append(resample(to_mono(samples, name, channel, tell), source_rate, sample_rate))
    if not waveforms:
        where = f" from {offset_s:g} s on" if offset_s else ""
        raise AudioError(f"{name}: holds no audio samples{where}")
    return waveforms[0] if len(waveforms) == 1 else np.concatenate(waveforms)


def probe_audio(source: Source, *, exact: bool = True, tell: Tell | None = None) -> AudioInfo:
    """Read sample rate, length and channels, from the header alone where that is a fact.

    Parameters
    ----------
    source
        As for :func:`load_audio`.
    exact
        Whether what has no true length in its header is read to its end; otherwise the header's guess will do.
    tell
        As for :func:`load_audio`.

    Raises
    ------
    AudioError
        The file is missing, empty or no audio, or its header promises more than it holds.
    """
    name, reading = source_name(source), Reading(tell=tell)
    first: tuple[int, int] | None = None
    length_s = Fraction(0)
    with opened(source) as file:
        links = find_links(file)
        file.check()
        for link in links:
            with open_link(file, link, reading) as audio:
                first = first or (check_rate(audio.sample_rate, name), audio.n_channels)
                if isinstance(audio, SoundFile):
                    length_s += Fraction(audio.n_samples, audio.sample_rate)
                elif (n_samples := audio.stated_samples(exact=exact)) is not None:
                    length_s += Fraction(n_samples, audio.sample_rate)
                else:
                    length_s += sum(Fraction(len(block), rate) for rate, block in audio.blocks())
        file.check()
    if first is None or not length_s:
        raise AudioError(f"{name}: holds no audio samples")
    return AudioInfo(first[0], round(length_s * first[0]), first[1])


def stream_audio(
    source: Source,
    sample_rate: int,
    block_s: float = 30.0,
    *,
    channel: int | None = None,
    track: int | None = None,
    tell: Tell | None = None,
    lose: Tell | None = None,
) -> Iterator[np.ndarray]:
    """Read audio of any length in blocks, so that memory use does not grow with it.

    Parameters
    ----------
    source, sample_rate, channel, track, tell, lose
        As for :func:`load_audio`.
    block_s
        Seconds in a block; the last one is shorter.

    Yields
    ------
    numpy.ndarray
        ``(sample,)`` float32 mono; the blocks joined equal what :func:`load_audio` returns.
    """
    name, reading, empty = source_name(source), Reading(track, tell, lose), True
    for (source_rate, _), blocks in groupby(read_blocks(source, reading, Part(), block_s), _kind):
        waveforms = mix_blocks((block for _, block in blocks), name, channel, tell)
        yield from resample_blocks(waveforms, source_rate, sample_rate, name)
        empty = False
    if empty:
        raise AudioError(f"{name}: holds no audio samples")


def _kind(block: Block) -> tuple[int, int]:
    """Return what must not change within a waveform: rate and channels."""
    return block[0], block[1].shape[1]
