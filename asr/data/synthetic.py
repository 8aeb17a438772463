"""A small corpus that anyone can make in seconds: digits and short commands in many synthetic voices.

The voices of the parts differ, so the test part says how well a model does on speakers it has not heard. Everything follows
from the seed: an utterance's text, voice, rate, pitch, level, noise and pauses.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asr.data.progress import Progress
from asr.data.validate import PartSummary, Utterance, write_part
from asr.errors import DataError, Failure, StorageError
from asr.files import replacing

SAMPLE_RATE = 16000
DEFAULT_SIZES = {"train": 1500, "dev": 120, "test": 200}
ACCENTS = (*("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"),)
# Variants with breath noise (f2, f3, f5, ...) are left out: the synthesiser seeds it by the clock.
VARIANTS = {
    "train": (
        *("f1", "m1", "m2", "m3", "m4", "m5", "m6", "Andy", "Annie", "Gene", "Lee", "Michael", "Mike", "Alex"),
        *("adam", "anika", "antonio", "aunty", "belinda", "benjamin", "caleb", "david", "edward", "grandma", "grandpa", "ian"),
        *("iven", "john", "linda", "marcelo", "max", "michel", "miguel", "pablo", "paul", "quincy", "rob", "robert", "steph"),
        *("travis", "zac"),
    ),
    "dev": ("m7", "steph3", "Denis", "shelby", "pedro"),
    "test": ("f4", "m8", "Andrea", "Mario", "Jacky", "Marco", "Hugo", "ed", "boris", "norbert"),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Each slot takes one of its words; {digit} is drawn anew each time.
COMMANDS = (
    "turn {on|off} the {light|lamp|heater|fan|radio|television}",
    "turn {on|off} the {light|lamp|heater|fan} in the {kitchen|bedroom|bathroom|garden|office}",
    "{open|close} the {door|window|gate|curtain}",
    "set the {timer|alarm} to {digit} {minutes|hours}",
    "set the {volume|heater} to {digit}",
    "call number {digit} {digit} {digit} {digit}",
    "{play|stop|pause} the {music|song|film}",
    "go {left|right|back|up|down}",
    "{yes please|no thank you|good morning|good night}",
    "what time is it {now|there}",
    "{start|stop} the {timer|alarm} now",
)
_DIGIT_STRINGS_SHARE = 0.4
_CHUNK = 50


@dataclass(frozen=True)
class Spec:
    """All that decides how an utterance sounds.

    Attributes
    ----------
    text, voice, rate_wpm, pitch, pitch_range
        As for :meth:`asr.data.espeak.Espeak.speak`.
    before_s, after_s
        Pauses around the speech, in seconds.
    level_db
        Peak of the speech, in dB below full scale.
    snr_db
        Power of the speech above that of the background noise, in dB.
    noise_seed
        Decides the noise.
    """

    text: str
    voice: str
    rate_wpm: int
    pitch: int
    pitch_range: int
    before_s: float
    after_s: float
    level_db: float
    snr_db: float
    noise_seed: int


def prepare(
    out: Path,
    manifests: Path,
    *,
    sizes: Mapping[str, int] = DEFAULT_SIZES,
    seed: int = 1,
    n_processes: int | None = None,
    skip_invalid: bool = False,
    decode: bool = False,
    n_threads: int = 8,
) -> Iterator[PartSummary]:
    """Speak the corpus and write the manifests ``synthetic/train``, ``synthetic/dev`` and ``synthetic/test``.

    Utterances whose file is there already are not spoken again.

    Parameters
    ----------
    out
        Folder for the audio, one folder a part.
    manifests
        The manifests folder.
    sizes
        Utterances in each part.
    seed
        Decides everything.
    n_processes
        Processes that speak; by default one for each processor, four at most.
    skip_invalid, decode, n_threads
        As for :func:`asr.data.validate.write_part`.

    Yields
    ------
    PartSummary
        One for each part.

    Raises
    ------
    DataError
        A size is not positive or a part is unknown.
    Failure
        The synthesiser does not work on this machine.
    """
    for part, size in sizes.items():
        if part not in VARIANTS:
            raise DataError(f"the synthetic corpus has no part {part!r}; its parts: {', '.join(VARIANTS)}")
        if size < 1:
            raise DataError(f"part {part!r} of the synthetic corpus: {size} utterances asked for, expected at least 1")
    for part, size in sizes.items():
        specs = {path: spec for path, spec in (_planned(out, part, index, seed) for index in range(size))}
        _speak_all(list(specs.items()), out / part, n_processes)
        utterances = [
            Utterance(path.stem, path, spec.text, where=str(path), speaker=spec.voice) for path, spec in specs.items()
        ]
        path = manifests / "synthetic" / f"{part}.jsonl.gz"
        yield write_part(utterances, path, skip_invalid=skip_invalid, decode=decode, n_threads=n_threads)


def plan(part: str, index: int, seed: int) -> Spec:
    """Decide how the utterance ``index`` of a part sounds."""
    rng = random.Random(f"{seed} {part} {index}")
    return Spec(
        text=_draw_text(rng),
        voice=f"{rng.choice(ACCENTS)}+{rng.choice(VARIANTS[part])}",
        rate_wpm=rng.randint(130, 220),
        pitch=rng.randint(25, 75),
        pitch_range=rng.randint(20, 80),
        before_s=round(rng.uniform(0.05, 0.35), 3),
        after_s=round(rng.uniform(0.05, 0.35), 3),
        level_db=round(rng.uniform(1.0, 20.0), 1),
        snr_db=round(rng.uniform(20.0, 50.0), 1),
        noise_seed=rng.getrandbits(32),
    )


def _draw_text(rng: random.Random) -> str:
    if rng.random() < _DIGIT_STRINGS_SHARE:
        return " ".join(rng.choice(DIGITS) for _ in range(rng.randint(1, 6)))
    command = rng.choice(COMMANDS)
    while "{" in command:
        head, _, rest = command.partition("{")
        slot, _, tail = rest.partition("}")
        command = head + rng.choice(DIGITS if slot == "digit" else slot.split("|")) + tail
    return command


def _planned(out: Path, part: str, index: int, seed: int) -> tuple[Path, Spec]:
    """Return an utterance and its file, whose name holds a fingerprint: a file of another plan is never taken for it."""
    spec = plan(part, index, seed)
    fingerprint = hashlib.blake2b(json.dumps(asdict(spec)).encode(), digest_size=4).hexdigest()
    return out / part / f"{part}-{index:05d}-{fingerprint}.flac", spec


def _speak_all(planned: Sequence[tuple[Path, Spec]], folder: Path, n_processes: int | None) -> None:
    """Speak what is missing, in chunks.

    The synthesiser carries state from one utterance to the next, so each chunk has a fresh process and is spoken from its
    first utterance on: the audio is the same whether or not an earlier run was interrupted.
    """
    chunks = [planned[start : start + _CHUNK] for start in range(0, len(planned), _CHUNK)]
    chunks = [chunk for chunk in chunks if not all(path.exists() for path, _ in chunk)]
    if not chunks:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    n_processes = n_processes or min(4, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(n_processes) as pool,
        Progress(f"synthetic/{folder.name}", sum(map(len, chunks)), "utterances", sys.stderr) as progress,
    ):
        try:
            for n_spoken in pool.map(_speak_in_process, chunks):
                progress.advance(n_spoken)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _speak_in_process(chunk: Sequence[tuple[Path, Spec]]) -> int:
    package_folder = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, [package_folder, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", "from asr.data.synthetic import speak_chunk; speak_chunk()"],
        input=json.dumps([[str(path.resolve()), asdict(spec)] for path, spec in chunk]),
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Failure(f"the speech synthesiser failed: {last}. Run the command again: it goes on where it stopped")
    return len(chunk)


def speak_chunk() -> None:
    """Speak the utterances that standard input lists as JSON; the entry point of a synthesiser process."""
    import soundfile

    from asr.data.espeak import Espeak

    espeak = Espeak()
    for name, fields in json.load(sys.stdin):
        path, spec = Path(name), Spec(**fields)
        speech = espeak.speak(spec.text, spec.voice, rate_wpm=spec.rate_wpm, pitch=spec.pitch, pitch_range=spec.pitch_range)
        if path.exists():
            continue
        encoded = io.BytesIO()
        soundfile.write(encoded, _recorded(_resample(speech, espeak.sample_rate), spec), SAMPLE_RATE, "PCM_16", format="FLAC")
        with replacing(path) as stream:
            stream.write(encoded.getvalue())


def _resample(speech: np.ndarray, from_rate: int) -> np.ndarray:
    """Bring speech to ``SAMPLE_RATE`` by cutting its spectrum; NumPy alone, so that a process starts fast."""
    step = from_rate // math.gcd(from_rate, SAMPLE_RATE)
    padded = np.pad(speech, (0, -len(speech) % step))
    n_out = len(padded) * SAMPLE_RATE // from_rate
    return np.fft.irfft(np.fft.rfft(padded)[: n_out // 2 + 1], n_out) * (n_out / len(padded))


def _recorded(speech: np.ndarray, spec: Spec) -> np.ndarray:
    """Bring speech to its level and put pauses and noise around and under it."""
    peak = max(float(np.abs(speech).max()), 1e-6)
    speech = speech * (10 ** (-spec.level_db / 20) / peak)
    waveform = np.pad(speech, (round(spec.before_s * SAMPLE_RATE), round(spec.after_s * SAMPLE_RATE)))
    noise = np.random.default_rng(spec.noise_seed).standard_normal(len(waveform))
    noise_rms = float(np.sqrt(np.mean(speech**2))) * 10 ** (-spec.snr_db / 20)
    return np.clip(waveform + noise_rms * noise, -1.0, 1.0)
