"""Audio in formats that libsndfile reads: wav, flac, ogg, opus, mp3, aiff and more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np

from asr.chatter import held_back
from asr.errors import AudioError
from asr.formats.file import LENGTH_ERR_S, GuardedFile, Reading
from asr.formats.links import is_placeholder
from asr.interrupts import deferred

_NEAR_DAMAGE_S = 0.1  # read at a time where something cannot be
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more where a header gives no length
# What libsndfile says in its log, alone, where it corrects the length of a file that was cut off.
_BYTES_CORRECTED = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Data Size|Data length)[\s:]+(\d+) \(?should be (\d+)\)?", re.MULTILINE
)
_FRAMES_CORRECTED = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
# What others state, which libsndfile does not compare with what is there.
_FRAMES_STATED = {
    "AVR": re.compile(r"^\s*Frames\s*: (\d+)", re.MULTILINE),
    "MPC2K": re.compile(r"^\s*Frames\s*: (\d+)", re.MULTILINE),
    "MAT5": re.compile(r"^\s*Rows : \d+\s+Cols : (\d+)(?=\n.*\n    Name : wavedata)", re.MULTILINE),
}
_SAMPLE_COUNT = re.compile(rb"^sample_count -i (\d+)", re.MULTILINE)
# How a file begins that libmpg123 is never asked to read: a wav names its codec, which is MPEG's layer III in very few.
_SILENT = re.compile(rb"fLaC|OggS|RIFF....WAVEfmt ....(?!\x55\0)", re.DOTALL)
_CUT_OFF = ("file seems to be truncated", "seems to be a truncated file")


class SoundFile:
    """A recording that is open in libsndfile.

    Attributes
    ----------
    sample_rate
        Samples a second (Hz).
    n_channels
        Channels.
    n_samples
        Samples in each channel, as the header says.
    """

    def __init__(self, audio: Any, file: GuardedFile, opening: ExitStack) -> None:
        self.sample_rate: int = audio.samplerate
        self.n_channels: int = audio.channels
        self.n_samples: int = audio.frames
        self._audio = audio
        self._file = file
        self._chatty = audio.subtype.startswith("MPEG")
        self._opening: ExitStack | None = opening

    def close(self) -> None:
        """Free what libsndfile holds."""
        with self._opening or nullcontext():
            self._audio.close()

    def _at_work(self) -> AbstractContextManager[object]:
        """Guard a call: the first one as its opening was, still, since to begin anew costs a share of reading a short file."""
        opening, self._opening = self._opening, None
        return opening or _at_work(chatty=self._chatty)

    def blocks(self, start: int, stop: int, n_block: int) -> Iterator[np.ndarray]:
        """Yield ``(sample, channel)`` float32 from sample ``start`` on and before ``stop``, ``n_block`` at a time.

        Raises
        ------
        AudioError
            Something cannot be read, or the sound ends before the header says.
        """
        import soundfile

        n_read, n_wanted = 0, min(stop, self.n_samples) - start
        try:
            if start and n_wanted > 0:
                self._go_to(start, n_block)
            while n_read < n_wanted:
                n_asked = min(n_block, n_wanted - n_read)
                with self._at_work():
                    block = self._audio.read(n_asked, dtype="float32", always_2d=True)
                self._file.check()
                n_read += len(block)
                if len(block):
                    yield block
                if len(block) < n_asked:  # the end: asked again, libsndfile may give what it gave before
                    break
        except soundfile.LibsndfileError as error:
            self._file.check()
            at_s = self._damage(start + n_read) / self.sample_rate
            raise AudioError(f"{self._file.name}: is truncated or corrupt after {at_s:.2f} s: {error}") from None
        Reading().check_length(n_read, n_wanted, self.sample_rate, self._file.name)

    def _damage(self, start: int) -> int:
        """Return before which sample what cannot be read lies, from a sample on; opened anew, for want of a way back."""
        import soundfile

        n_asked = n_read = round(_NEAR_DAMAGE_S * self.sample_rate)
        with suppress(soundfile.LibsndfileError), self._at_work():
            self._audio.close()
            self._file.seek(0)
            self._audio = _opened(self._file)
            if start:
                self._audio.seek(start)
            while n_read == n_asked:
                n_read = len(self._audio.read(n_asked, dtype="float32", always_2d=True))
                start += n_read
        self._file.check()
        return start

    def _go_to(self, start: int, n_block: int) -> None:
        """Go to a sample; some codecs, such as GSM 6.10, can only be read on."""
        with self._at_work():
            if self._audio.seekable():
                if start:
                    self._audio.seek(start)
                return
            while start and (n_read := len(self._audio.read(min(n_block, start), dtype="float32"))):
                start -= n_read


def open_soundfile(file: GuardedFile, reading: Reading) -> tuple[SoundFile | None, str]:
    """Open with libsndfile; ``None`` and the reason for what it cannot read, the file at its start again.

    Raises
    ------
    AudioError
        The file is shorter than its header says, and ``reading`` does not go on past that.
    """
    import soundfile

    with ExitStack() as opening:
        opening.enter_context(_at_work(chatty=_SILENT.match(file.read(22)) is None))
        file.seek(0)
        try:
            audio = _opened(file)
        except soundfile.LibsndfileError as error:
            why = error.error_string
        else:
            file.check()
            if 0 < audio.frames < _UNKNOWN_FRAMES or (not audio.frames and audio.format in ("WAV", "WAVEX")):
                if (cut := _cut_off(audio, file)) is not None:
                    reading.damaged(file.name, cut)
                return SoundFile(audio, file, opening.pop_all()), ""
            audio.close()
            why = "its header gives no length"
    file.check()
    file.seek(0)
    return None, why


def _opened(file: GuardedFile) -> Any:
    """Open a file by what is in it, not by its name: one that ends in .raw would be taken for bare samples."""
    import soundfile

    return soundfile.SoundFile(SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell))


@contextmanager
def _at_work(*, chatty: bool) -> Iterator[None]:
    """Call libsndfile, which reads through functions of ours: signals wait, and what libmpg123 prints is held back."""
    with deferred(), held_back() if chatty else nullcontext():
        yield


def _cut_off(audio: Any, file: GuardedFile) -> str | None:
    """Say what is missing of a file that is shorter than its header says: libsndfile alone corrects that in silence."""
    log, rate = audio.extra_info, audio.samplerate
    frames = [(int(there), int(stated)) for there, stated in _FRAMES_CORRECTED.findall(log)]
    if audio.format == "NIST":
        position = file.tell()
        frames += [(audio.frames, int(stated)) for stated in _SAMPLE_COUNT.findall(file.read_at(0, 1024))]
        file.seek(position)
    if audio.format in _FRAMES_STATED:
        frames += [(audio.frames, int(stated)) for stated in _FRAMES_STATED[audio.format].findall(log)]
    for there, stated in frames:
        if there < stated:
            return f"is truncated: its header promises {stated / rate:.2f} s, {there / rate:.2f} s are there"
    for stated, there in ((int(first), int(second)) for first, second in _BYTES_CORRECTED.findall(log)):
        missing_s = (stated - there) * audio.frames / there / rate if there else np.inf
        if missing_s > LENGTH_ERR_S and not is_placeholder(stated):
            return f"is truncated: its header promises {stated} bytes of audio, {there} are there"
    if any(words in log.lower() for words in _CUT_OFF):
        return f"is truncated: {audio.frames / rate:.2f} s are there, its header promises more"
    return None
