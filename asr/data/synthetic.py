"""A small corpus that anyone can make in seconds: digits and short commands in many synthetic voices.

The voices of the parts differ, so the test part says how well a model does on speakers it has not heard. Everything follows
from the seed: an utterance's text, voice, rate, pitch, level, noise and pauses.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.data.speaking import Speakers, Take, count_processors
from asr.data.validate import PartSummary, Utterance, write_part
from asr.errors import DataError
from asr.progress import Progress
from asr.speech import espeak
from asr.speech.synthesiser import voice_text

DEFAULT_SIZES = {"train": 1500, "dev": 120, "test": 200}
_HELD_OUT = {
    "dev": ("m7", "steph3", "Denis", "shelby", "pedro"),
    "test": ("f4", "m8", "Andrea", "Mario", "Jacky", "Marco", "Hugo", "ed", "boris", "norbert"),
}
VARIANTS = {"train": tuple(name for name in espeak.VARIANTS if name not in sum(_HELD_OUT.values(), ())), **_HELD_OUT}
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
        As for :class:`asr.speech.espeak.EspeakVoices`.
    before_s, after_s, level_db, snr_db, noise_seed
        As for :class:`asr.data.speaking.Take`.
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
        Processes that speak; by default one for each processor that this process may use, four at most.
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
        planned = [_planned(part, index, seed) for index in range(size)]
        _speak_all([take for take, _ in planned], out / part, n_processes)
        paths = [(out / part / take.file, spec) for take, spec in planned]
        utterances = [Utterance(path.stem, path, spec.text, where=str(path), speaker=spec.voice) for path, spec in paths]
        path = manifests / "synthetic" / f"{part}.jsonl.gz"
        origins = [str(espeak.EspeakVoices().origin)]
        yield write_part(utterances, path, skip_invalid=skip_invalid, decode=decode, n_threads=n_threads, synthesisers=origins)


def plan(part: str, index: int, seed: int) -> Spec:
    """Decide how the utterance ``index`` of a part sounds."""
    rng = random.Random(f"{seed} {part} {index}")
    return Spec(
        text=_draw_text(rng),
        voice=f"{rng.choice(espeak.ENGLISH)}+{rng.choice(VARIANTS[part])}",
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


def _planned(part: str, index: int, seed: int) -> tuple[Take, Spec]:
    """Return an utterance and its take, whose file's name holds a fingerprint: a file of another plan is never taken for it."""
    spec = plan(part, index, seed)
    fingerprint = hashlib.blake2b(json.dumps(asdict(spec)).encode(), digest_size=4).hexdigest()
    take = Take(
        file=f"{part}-{index:05d}-{fingerprint}.flac",
        text=spec.text,
        voice=voice_text(spec.voice, {"rate": spec.rate_wpm, "pitch": spec.pitch, "range": spec.pitch_range}),
        level_db=spec.level_db,
        before_s=spec.before_s,
        after_s=spec.after_s,
        snr_db=spec.snr_db,
        noise_seed=spec.noise_seed,
    )
    return take, spec


def _speak_all(takes: Sequence[Take], folder: Path, n_processes: int | None) -> None:
    """Speak what is missing, in chunks, each by a fresh process from its first utterance on."""
    chunks = [takes[start : start + _CHUNK] for start in range(0, len(takes), _CHUNK)]
    chunks = [chunk for chunk in chunks if not all((folder / take.file).exists() for take in chunk)]
    speakers = Speakers(n_processes or min(4, count_processors()))
    with Progress(f"synthetic/{folder.name}", sum(map(len, chunks)), "utterances") as progress:

        def speak(chunk: Sequence[Take]) -> None:
            speakers.speak("espeak", chunk, folder, afresh=True, on_spoken=lambda _: progress.advance(1))

        for _ in speakers.in_turn(speak, chunks):
            pass
