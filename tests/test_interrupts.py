"""Ctrl-C inside a library's read is Ctrl-C, and no damage to the file."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import soundfile
from conftest import SAMPLE_RATE, tone
from test_audio import write_m4a

from asr.audio import load_audio, probe_audio, stream_audio
from asr.errors import AudioError
from asr.interrupts import Interruption, deferred


class Interrupted(io.BytesIO):
    """A file during whose n-th read somebody presses Ctrl-C."""

    def __init__(self, content: bytes, n_reads: int) -> None:
        super().__init__(content)
        self.n_reads = n_reads

    def read(self, size: int | None = -1) -> bytes:
        self.n_reads -= bool(size)
        if not self.n_reads:
            os.kill(os.getpid(), signal.SIGINT)
        return super().read(size)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_an_interrupted_read_is_no_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "m4a":
        write_m4a(path, tone(4.0), SAMPLE_RATE)
    else:
        soundfile.write(path, tone(4.0), SAMPLE_RATE)
    readers: list[Callable[[Interrupted], object]] = [
        lambda file: load_audio(file, SAMPLE_RATE),
        lambda file: list(stream_audio(file, SAMPLE_RATE, 1.0)),
        probe_audio,
    ]
    for read in readers:
        for n_reads in (1, 2, 3, 5, 8, 13):
            file = Interrupted(path.read_bytes(), n_reads)
            try:
                read(file)
            except KeyboardInterrupt:
                continue
            assert file.n_reads > 0  # it was read before so many reads


def test_a_lack_of_memory_while_reading_is_no_damage() -> None:
    class Short(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size and self.tell() > 100:
                raise MemoryError
            return super().read(size)

    content = io.BytesIO()
    soundfile.write(content, tone(4.0), SAMPLE_RATE, format="WAV")
    with pytest.raises(MemoryError):
        load_audio(Short(content.getvalue()), SAMPLE_RATE)


def test_what_a_file_of_ours_says_stays_what_it_says() -> None:
    class Bounded(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size:
                raise AudioError("stdin: more than is kept")
            return b""

    with pytest.raises(AudioError, match=r"^stdin: more than is kept$"):
        load_audio(Bounded(bytes(100)), SAMPLE_RATE)


def pressed(*, times: int, fails: bool, reached: list[str]) -> None:
    with deferred():
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        reached.append("end")
        if fails:
            raise ValueError("what a library made of it")


def test_signals_wait_and_come() -> None:
    reached: list[str] = []
    for fails in (False, True):
        with pytest.raises(KeyboardInterrupt):
            pressed(times=1, fails=fails, reached=reached)
    assert reached == ["end", "end"]
    with pytest.raises(KeyboardInterrupt):
        pressed(times=2, fails=False, reached=reached)
    assert reached == ["end", "end"]  # the second did not wait


def test_handlers_are_called_once_and_stay() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not got
        assert got == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert got == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def swallowing() -> Iterator[None]:
    """A library that makes an error of its own of what passes through it."""
    try:
        yield
    except KeyboardInterrupt:
        raise ValueError("the end of the file") from None


@pytest.mark.parametrize("around", [nullcontext, swallowing])
@pytest.mark.parametrize(
    ("signals", "at_once"),
    [
        ((signal.SIGINT, signal.SIGTERM), False),
        ((signal.SIGTERM, signal.SIGTERM), False),
        ((signal.SIGTERM, signal.SIGINT), True),
        ((signal.SIGINT, signal.SIGINT), True),
        ((signal.SIGINT, signal.SIGTERM, signal.SIGINT), True),
        ((signal.SIGINT,), False),
    ],
)
def test_signals_within_one_call_are_what_they_are_outside_of_it(
    around: Callable[[], AbstractContextManager[None]], signals: tuple[int, ...], at_once: bool
) -> None:
    """To save first where SIGTERM comes with SIGINT; the later ones do not wait for the library."""
    interruption, reached = Interruption("batch"), list[str]()

    def call() -> None:
        with deferred(), around():
            for number in signals:
                os.kill(os.getpid(), number)
            reached.append("end")

    with pytest.raises(KeyboardInterrupt) if at_once else nullcontext(), interruption.watch():
        call()
    assert interruption.requested
    assert reached == ([] if at_once else ["end"])


def test_a_short_recording_is_guarded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its opening to its first samples: to begin anew is a share of the time that it takes."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.5), SAMPLE_RATE)
    change, changes = signal.signal, list[int]()

    def counted(number: int, handler: Callable[..., object]) -> object:
        changes.append(number)
        return change(number, handler)

    monkeypatch.setattr(signal, "signal", counted)
    load_audio(path, SAMPLE_RATE)
    assert changes.count(signal.SIGINT) == 2


def test_other_threads_have_none() -> None:
    def work() -> None:
        with deferred():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
