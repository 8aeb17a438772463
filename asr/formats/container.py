"""Audio in containers that libsndfile cannot read (m4a, mp4, webm, ...), and where no length is stated, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from asr.errors import AudioError
from asr.formats.avi import ChunkClock, has_chunk_clock
from asr.formats.file import TRUNCATED_SHARE, GuardedFile, Reading
from asr.formats.links import is_placeholder
from asr.formats.mpegts import is_in_step
from asr.formats.packets import PacketLog
from asr.formats.timeline import Timeline
from asr.formats.tracks import choose_track
from asr.interrupts import deferred
from asr.mixing import LARGEST_SAMPLE
from asr.waveform import check_rate

# PyAV may open only real containers: playlist formats could make it read other files or addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "eac3", "flac", "flv", "mp3"),
    *("mpeg", "mpegts", "ogg", "tta", "w64", "wav", "wv"),
)
_INDEXED = "mov,mp4,m4a,3gp,3g2,mj2"
# Their headers have no room for a length: FFmpeg guesses it from the bit rate of the first frames. Sound may stand among junk.
_WITHOUT_LENGTH = ("aac", "ac3", "amr", "eac3", "mp3", "mpeg", "mpegts")
# Their headers state the length of the sound.
_OWN_LENGTH = (_INDEXED, "aiff", "ape", "au", "caf", "flac", "ogg", "tta", "w64", "wav", "wv")
# Theirs state that of the longest track, such as the pictures. (FFmpeg may also have guessed that of asf.)
_WHOLE_LENGTH = ("matroska,webm", "avi", "flv")
# Their packets are found one behind the other, and what lies between them is passed over.
_IN_ORDER = ("matroska,webm", "asf", "flv")
_WITH_CHECKSUMS = ("flac", "tta", "wavpack")  # codecs whose checksums FFmpeg looks at only when it is told to
_ANY_DAMAGE = str(1 << 30)  # bytes that are looked through for the next packet of an mpegts, which otherwise seems to end there
_UNKNOWN_PACKETS = 1 << 30  # FFmpeg writes this into an avi that goes into a pipe
_MATROSKA, _MATROSKA_HEAD = b"\x1a\x45\xdf\xa3", 1 << 14
_MATROSKA_DURATION = (b"\x44\x89\x84", b"\x44\x89\x88")  # the element, and its length of 4 or 8 bytes
_ASF, _ASF_DATA_HEADER = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 50
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the object with the number and size of the packets
_CONTAINER_ERR_S = 0.5
_FRAMES_ERR_S = 0.1
_LEAST_TOLD_S = 0.5
_MOST_TOLD = 3
_SILENCE_S = 30.0  # at a time
_PACKETS_AT_ONCE = 32


class Container:
    """An audio track that is open in PyAV.

    Attributes
    ----------
    sample_rate, n_channels
        Samples a second (Hz) and channels where it begins.
    read_s
        Seconds of sound that were decoded, without silence in gaps.
    """

    def __init__(self, file: GuardedFile, reading: Reading, container: Any, audio: Any, *, guessed: bool) -> None:
        self.sample_rate = check_rate(int(audio.rate), file.name)
        self.n_channels = int(audio.channels)
        self._file = file
        self._reading = reading
        self._container = container
        self._audio = audio
        self._guessed = guessed
        self._raw = container.format.name in _WITHOUT_LENGTH
        self._start_s = (container.start_time or 0) / 1e6
        is_whole = partial(is_in_step, file) if container.format.name == "mpegts" else None
        self._log = PacketLog(in_order=container.format.name in _IN_ORDER, is_whole=is_whole)
        is_counted = container.format.name == "avi" and has_chunk_clock(audio)
        self._clock = ChunkClock(file, audio) if is_counted else None
        self.read_s = 0.0
        self._faults: list[tuple[float, str]] = []
        self._pending: list[tuple[float, str]] = []

    def stated_samples(self, *, exact: bool = True) -> int | None:
        """Return the length that an index in the header states and the file bears out, None where reading has to tell.

        Parameters
        ----------
        exact
            Otherwise any length in the header will do.
        """
        audio = self._audio
        if not exact and self._container.duration:
            return round(self._container.duration / 1e6 * self.sample_rate)
        if self._container.format.name != _INDEXED or not audio.frames or not audio.duration:
            return None
        entries = audio.index_entries
        place = self._file.tell()
        is_whole = len(entries) == audio.frames and entries[-1].pos + entries[-1].size <= self._file.size
        self._file.seek(place)
        length_s = float(audio.duration * audio.time_base)
        if not is_whole or _frames_s(entries, audio.time_base) > length_s + _FRAMES_ERR_S:  # joined frames may overlap in time
            return None
        start_s = float((audio.start_time or 0) * audio.time_base) - self._start_s
        return round((self._timeline().silence_before(start_s, length_s, None) + length_s) * self.sample_rate)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield sample rates (Hz) and ``(sample, channel)`` float32 blocks of sound, silence where it begins late or has gaps.

        Raises
        ------
        AudioError
            Something cannot be decoded, or the file ends before it says.
        """
        timeline = self._timeline()
        converter = _Converter(self._file.name)
        for frame, following in pairwise(chain(self._frames(timeline), [None])):
            stamp_s, length_s = self._stamp_s(frame), frame.samples / frame.rate
            silence_s = timeline.silence_before(stamp_s, length_s, self._stamp_s(following))
            yield from _silence(silence_s, frame)
            self.read_s += length_s
            for block in converter.convert(frame):
                yield frame.rate, self._sound(timeline, block)
            self._file.check()
        for block in converter.rest():
            yield converter.rate, block
        self._file.check()
        self._account(timeline)

    def _timeline(self) -> Timeline:
        measured = not self._guessed and self._container.format.name != "asf" and self._audio.frames < _UNKNOWN_PACKETS
        return Timeline((self._container.duration or 0) / 1e6 if measured else 0.0, may_jump=_may_jump(self._container))

    def _stamp_s(self, frame: Any) -> float | None:
        stamp_s = None if frame is None else frame.time
        return None if stamp_s is None else stamp_s - self._start_s

    def _frames(self, timeline: Timeline) -> Iterator[Any]:
        """Yield what can be decoded, and take down what cannot."""
        import av

        for packet in self._packets(timeline):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                self._failed(timeline, error)
                continue
            for frame in frames:
                self._go_on()
                yield frame

    def _packets(self, timeline: Timeline) -> Iterator[Any]:
        import av

        audio = self._audio
        try:
            for packet in _together(self._container.demux()):  # of all tracks: where the last one ends shows what is missing
                stream = packet.stream
                # packet.stream_index is wrong for the last, empty ones
                is_sound = stream is audio or stream.index == audio.index
                if is_sound and self._clock is not None:
                    self._clock.set(packet)
                if missing := self._log.add(packet, is_sound=is_sound):
                    self._pending.append((timeline.position_s, missing))
                if is_sound:
                    yield packet
        except (av.error.FFmpegError, ValueError) as error:
            self._failed(timeline, error)

    def _sound(self, timeline: Timeline, block: np.ndarray) -> np.ndarray:
        """Return a block, silence in the place of noise that a codec makes of what it cannot read."""
        largest = max(block.max(initial=0.0), -block.min(initial=0.0))
        if largest <= LARGEST_SAMPLE or self._audio.codec_context.name.startswith("pcm"):
            return block
        self._pending.append((timeline.position_s, f"samples as large as {largest:.3g} are no sound"))
        return np.zeros_like(block)

    def _failed(self, timeline: Timeline, error: Exception) -> None:
        self._file.check()
        what = getattr(error, "strerror", None) or str(error)
        if what.startswith("Error number"):  # of a decoder that has numbers of its own
            what = "a frame cannot be decoded"
        self._pending.append((timeline.position_s, what))

    def _go_on(self) -> None:
        """Judge what failed before some sound: a raw stream may begin in the middle."""
        if not self._pending:
            return
        failed, self._pending = self._pending, []
        if self._raw and not self.read_s:
            return
        if self._reading.lose is None:
            raise AudioError(f"{self._file.name}: is corrupt after {failed[0][0]:.2f} s: {failed[0][1]}")
        self._faults += failed

    def _account(self, timeline: Timeline) -> None:
        """Say at the end what is missing."""
        name, rate = self._file.name, self.sample_rate
        if not self._raw:
            self._faults += self._pending
        elif not self.read_s and self._pending:
            raise AudioError(f"{name}: is truncated, corrupt or no audio file (PyAV: {self._pending[0][1]})")
        present_s, whole = timeline.position_s - timeline.start_s, True
        if (promised_s := self.promised_s()) is not None:
            whole = self._reading.check_length(round(present_s * rate), round(promised_s * rate), rate, name)
        elif (whole_s := self._whole_s()) and self._log.end_s()[1] < whole_s * (1 - TRUNCATED_SHARE) - _CONTAINER_ERR_S:
            what = f"is truncated: its time stamps end at {self._log.end_s()[0]:.2f} s, its header promises {whole_s:.2f} s"
            self._reading.damaged(name, what)
            whole = False
        if self._faults and whole:
            place_s, why = self._faults[0]
            others = f" and {len(self._faults) - 1} other places" if len(self._faults) > 1 else ""
            of = "" if promised_s is None else f" of {promised_s:.2f} s"
            self._reading.damaged(name, f"is corrupt at {place_s:.2f} s{others}: {why}; {self.read_s:.2f} s{of} could be read")
        gaps = [gap for gap in timeline.gaps if gap[1] >= _LEAST_TOLD_S]
        if gaps and self._reading.tell is not None:
            places = ", ".join(f"{begin:.2f} to {begin + length:.2f} s" for begin, length in gaps[:_MOST_TOLD])
            others = f" and {len(gaps) - _MOST_TOLD} other places" if len(gaps) > _MOST_TOLD else ""
            self._reading.tell(f"its time stamps leave gaps, taken for silence, from {places}{others}")

    def promised_s(self) -> float | None:
        """Return the length of the sound that the header states; None where it states none."""
        if self._container.format.name not in _OWN_LENGTH or not self._audio.duration or not self._audio.time_base:
            return None
        return float(self._audio.duration * self._audio.time_base)

    def _whole_s(self) -> float:
        """Return the length of the longest track that the header states; 0 where it states none."""
        stated = self._container.format.name in _WHOLE_LENGTH and self._audio.frames < _UNKNOWN_PACKETS and not self._guessed
        return (self._container.duration or 0) / 1e6 if stated else 0.0


def _frames_s(entries: Any, unit: Any) -> float:
    """Return how long the frames of an index are (s), were all but the last as long as the first."""
    step = entries[1].timestamp - entries[0].timestamp if len(entries) > 1 else 0
    return float(step * (len(entries) - 1) * unit)


def _together(packets: Iterator[Any]) -> Iterator[Any]:
    """Yield packets that are read several at a time, since it costs as much to let signals wait as to read one."""
    failure: Exception | None = None
    found: list[Any] = []
    while failure is None:
        with deferred():
            try:
                found = []
                for packet in islice(packets, _PACKETS_AT_ONCE):
                    found.append(packet)
            except Exception as error:  # comes after what was read before it
                failure = error
        yield from found
        if not found and failure is None:
            return
    raise failure


def _may_jump(container: Any) -> bool:
    """Whether the time stamps of a format may begin anew."""
    from av.format import Flags

    return bool(container.format.flags & Flags.ts_discont.value)


class _Converter:
    """Brings frames of any layout to ``(sample, channel)`` float32 at their own rate, which may change on the way."""

    def __init__(self, name: str) -> None:
        self.rate = 0
        self._name = name
        self._kind: tuple[object, ...] | None = None
        self._resampler: Any = None

    def convert(self, frame: Any) -> Iterator[np.ndarray]:
        """Yield what a frame holds."""
        import av

        kind = (frame.format.name, frame.layout.name, frame.rate)
        if kind != self._kind:
            yield from self.rest()
            self.rate, self._kind = check_rate(frame.rate, self._name), kind
            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.rate)
        for converted in self._resampler.resample(frame):
            yield converted.to_ndarray().T

    def rest(self) -> Iterator[np.ndarray]:
        """Yield what was held back."""
        if self._resampler is not None:
            for converted in self._resampler.resample(None):
                yield converted.to_ndarray().T


def _silence(seconds: float, frame: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield silence in the form of a frame, not too much at once."""
    left = round(seconds * frame.rate)
    while left > 0:
        n_samples = min(left, round(_SILENCE_S * frame.rate))
        yield frame.rate, np.zeros((n_samples, frame.layout.nb_channels), np.float32)
        left -= n_samples


@contextmanager
def open_container(file: GuardedFile, why: str, reading: Reading, *, ignore_length: bool = False) -> Iterator[Container]:
    """Open an audio track; every error of PyAV becomes an :class:`AudioError`.

    Parameters
    ----------
    file
        At its start.
    why
        What libsndfile said against it.
    reading
        Which track, and what is done about damage.
    ignore_length
        Read a wav beyond the size that it states.

    Raises
    ------
    AudioError
        PyAV cannot read it either, or it holds no audio, or not this track.
    """
    import av

    options = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file", "resync_size": _ANY_DAMAGE}
    if ignore_length:
        options["ignore_length"] = "1"
    guessed = _check_head(file, reading)
    try:
        with deferred():
            opened = av.open(file, mode="r", options=options, metadata_errors="ignore")
        with opened as container:
            file.check()
            track = choose_track(container, file.name, reading)
            if track.codec_context.name in _WITH_CHECKSUMS:
                track.codec_context.options = {"err_detect": "crccheck+explode"}
            yield Container(file, reading, container, track, guessed=guessed)
    except (av.error.FFmpegError, ValueError) as error:
        file.check()
        if isinstance(error, MemoryError):
            raise AudioError(f"{file.name}: takes more memory than there is; is it corrupt?") from None
        raise AudioError(f"{file.name}: is truncated, corrupt or no audio file ({why.rstrip('. ')}; PyAV: {error})") from None


def _check_head(file: GuardedFile, reading: Reading) -> bool:
    """Say whether FFmpeg will guess the length that a header lacks; call an avi or asf damaged that is shorter than it says."""
    head = file.read_at(0, _MATROSKA_HEAD)
    promised = _asf_end(head)
    if promised is not None and file.size < promised:
        reading.damaged(file.name, f"is truncated: its header promises {promised} bytes, {file.size} are there")
    if head.startswith(b"RIFF") and head[8:11] == b"AVI":
        promised, there = int.from_bytes(head[4:8], "little"), file.size - 8
        if there < promised and not is_placeholder(promised):
            reading.damaged(file.name, f"is truncated: its header promises {promised} bytes, {there} are there")
    file.seek(0)
    return head.startswith(_MATROSKA) and not any(mark in head for mark in _MATROSKA_DURATION)


def _asf_end(head: bytes) -> int | None:
    """Return where the packets of an asf (wma, wmv) end, as its header says (byte); None where it does not."""
    found = head.find(_ASF_PROPERTIES)
    properties = head[found : found + 104]
    if not head.startswith(_ASF) or found < 0 or len(properties) < 104:
        return None
    n_packets = int.from_bytes(properties[56:64], "little")
    is_broadcast = properties[88] & 1  # was written where nobody could go back and say how much it is
    n_bytes, largest = int.from_bytes(properties[92:96], "little"), int.from_bytes(properties[96:100], "little")
    if is_broadcast or n_bytes != largest:
        return None
    return int.from_bytes(head[16:24], "little") + _ASF_DATA_HEADER + n_packets * n_bytes
