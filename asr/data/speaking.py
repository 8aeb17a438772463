"""Processes that speak: recordings in files, one process a core, in blocks that are the same however they are shared out.

A process reads blocks as lines of JSON from its standard input and ends where that ends, so that none outlives by more than a
block what started it.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from asr.errors import AsrError, Failure, TextError, UserError
from asr.files import replacing
from asr.resampling import resample_whole
from asr.speech import Synthesiser, make_synthesiser

SAMPLE_RATE = 16000
FORMATS = {"flac": ".flac", "opus": ".opus"}
"""Formats of the recordings, with the ends of their files' names."""

_OPUS_BIT_RATE = 32000
_QUIETEST_PEAK = 1e-6

Block = TypeVar("Block")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Take:
    """All that decides how a recording sounds.

    Attributes
    ----------
    file
        Its name in the block's folder, which ends as :data:`FORMATS` says.
    text, voice, seed
        As for :meth:`asr.speech.Synthesiser.speak`.
    level_db
        Peak of the speech, in dB below full scale.
    before_s, after_s
        Pauses around the speech, in seconds.
    snr_db
        Power of the speech above that of white noise, in dB; ``None`` for no noise.
    noise_seed
        Decides the noise.
    shortest_s, longest_s
        Recordings that are shorter or longer, in seconds, are not kept.
    """

    file: str
    text: str
    voice: str
    level_db: float
    seed: int = 0
    before_s: float = 0.0
    after_s: float = 0.0
    snr_db: float | None = None
    noise_seed: int = 0
    shortest_s: float = 0.0
    longest_s: float = math.inf


@dataclass(frozen=True)
class Spoken:
    """What became of a take.

    Attributes
    ----------
    duration_s
        Length of the recording, in seconds.
    refusal
        Why there is none: ``short``, ``long`` or ``unsaid``; else empty.
    detail
        What the synthesiser said about a text that it cannot say.
    """

    duration_s: float
    refusal: str = ""
    detail: str = ""


class Speakers:
    """Processes that speak, as many at a time as are asked for, each started when it is first needed.

    Parameters
    ----------
    n_processes
        How many; by default one for each processor that this process may use.
    """

    def __init__(self, n_processes: int | None = None) -> None:
        self.n_processes = n_processes or count_processors()
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._all: set[_Process] = set()
        self._ended = False

    def speak(
        self,
        synthesiser: str,
        takes: Sequence[Take],
        folder: Path,
        *,
        afresh: bool,
        on_spoken: Callable[[Spoken], None] = lambda spoken: None,
    ) -> list[Spoken]:
        """Write the recordings of a block; what is there already is left as it is.

        Parameters
        ----------
        synthesiser
            As :func:`asr.speech.make_synthesiser` takes it.
        takes
            The block.
        folder
            Where the recordings go.
        afresh
            Whether to take a new process, as a synthesiser that carries state needs it.
        on_spoken
            Called with what became of each take, by one thread at a time.

        Raises
        ------
        AsrError
            The synthesiser does not work, or the folder cannot be written to.
        """
        mine: dict[str, _Process] = self._of_thread.__dict__
        process = mine.get(synthesiser) or self._start(synthesiser)
        mine[synthesiser] = process
        spoken = []
        for one in process.speak(takes, folder):
            with self._lock:
                on_spoken(one)
            spoken.append(one)
        if afresh:
            self._end(mine.pop(synthesiser))
        return spoken

    def in_turn(self, work: Callable[[Block], Result], blocks: Iterable[Block]) -> Iterator[tuple[Block, Result]]:
        """Do work that speaks on several blocks at a time, in threads, and yield the results in the order of the blocks.

        Blocks are taken as they are needed. When the caller stops, the processes are ended whatever they are doing.
        """
        pool = ThreadPoolExecutor(self.n_processes)
        begun: deque[tuple[Block, Future[Result]]] = deque()
        try:
            for block in blocks:
                begun.append((block, pool.submit(work, block)))
                if len(begun) > self.n_processes:
                    first, result = begun.popleft()
                    yield first, result.result()
            for first, result in begun:
                yield first, result.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            with self._lock:
                self._ended = True
            for process in list(self._all):
                self._end(process)
            pool.shutdown()

    def _start(self, synthesiser: str) -> _Process:
        with self._lock:
            if self._ended:
                raise Failure("speaking has ended")
            process = _Process(synthesiser)
            self._all.add(process)
            return process

    def _end(self, process: _Process) -> None:
        with self._lock:
            self._all.discard(process)
        process.end()


def count_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Process:
    """A process that speaks, from the outside."""

    def __init__(self, synthesiser: str) -> None:
        package_folder = str(Path(__file__).resolve().parents[2])
        search_path = os.pathsep.join(filter(None, [package_folder, os.environ.get("PYTHONPATH")]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from asr.data.speaking import serve; serve()", synthesiser],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for us alone
        )

    def speak(self, takes: Sequence[Take], folder: Path) -> Iterator[Spoken]:
        """Yield what becomes of each take."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(
                json.dumps({"folder": str(folder.resolve()), "takes": [asdict(take) for take in takes]}) + "\n"
            )
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its exit code and its words say why
        for _ in takes:
            answer = json.loads(self._process.stdout.readline() or "{}")
            if "spoken" not in answer:
                raise self._failure(answer)
            yield Spoken(**answer["spoken"])

    def _failure(self, answer: dict[str, str]) -> AsrError:
        if "user_error" in answer:
            return UserError(answer["user_error"])
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode("utf-8", "replace").strip().splitlines() or [f"exit status {code}"]
        message = answer.get("failure", words[-1])
        return Failure(f"the speech synthesiser failed: {message}. Run the command again: it goes on where it stopped")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def serve() -> None:
    """Speak the blocks that standard input lists; the entry point of a process that speaks."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        synthesiser = make_synthesiser(sys.argv[1])
        for line in sys.stdin:
            block = json.loads(line)
            for take in [Take(**fields) for fields in block["takes"]]:
                spoken = _speak(synthesiser, take, Path(block["folder"], take.file))
                print(json.dumps({"spoken": asdict(spoken)}), file=answers, flush=True)
    except UserError as error:
        print(json.dumps({"user_error": str(error)}), file=answers, flush=True)
    except AsrError as error:
        print(json.dumps({"failure": str(error)}), file=answers, flush=True)


def _speak(synthesiser: Synthesiser, take: Take, path: Path) -> Spoken:
    """Write the recording of a take, whole or not at all."""
    import soundfile

    there = path.exists()
    if there and not synthesiser.carries_state:
        return Spoken(soundfile.info(path).duration)
    try:
        speech = synthesiser.speak(take.text, take.voice, take.seed)
    except TextError as error:
        return Spoken(0.0, "unsaid", str(error))
    recording = _recorded(resample_whole(speech, synthesiser.sample_rate, SAMPLE_RATE), take)
    duration_s = len(recording) / SAMPLE_RATE
    if not take.shortest_s <= duration_s <= take.longest_s:
        return Spoken(duration_s, "short" if duration_s < take.shortest_s else "long")
    if not there:
        encoded = _opus(recording) if path.suffix == FORMATS["opus"] else _flac(recording)
        with replacing(path) as stream:
            stream.write(encoded)
    return Spoken(duration_s)


def _recorded(speech: np.ndarray, take: Take) -> np.ndarray:
    """Bring speech to its level and put pauses and noise around and under it."""
    peak = max(float(np.abs(speech).max()), _QUIETEST_PEAK)
    speech = speech * (10 ** (-take.level_db / 20) / peak)
    waveform = np.pad(speech, (round(take.before_s * SAMPLE_RATE), round(take.after_s * SAMPLE_RATE)))
    if take.snr_db is not None:
        noise = np.random.default_rng(take.noise_seed).standard_normal(len(waveform))
        waveform = waveform + float(np.sqrt(np.mean(speech**2))) * 10 ** (-take.snr_db / 20) * noise
    return np.clip(waveform, -1.0, 1.0)


def _flac(recording: np.ndarray) -> bytes:
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, recording, SAMPLE_RATE, "PCM_16", format="FLAC")
    return encoded.getvalue()


def _opus(recording: np.ndarray) -> bytes:
    """Encode with PyAV, which does not number the stream by chance as libsndfile does."""
    import av

    frame = av.AudioFrame.from_ndarray(np.round(recording * 32767).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    encoded = io.BytesIO()
    with av.open(encoded, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, options={"b": str(_OPUS_BIT_RATE)}, layout="mono")
        for part in (frame, None):
            container.mux(stream.encode(part))
    return encoded.getvalue()
