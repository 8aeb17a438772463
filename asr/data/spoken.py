"""A corpus of any text, spoken by synthesisers in many voices.

Everything follows from the texts and the seed: which sentences are spoken, in which order, by whom and how. Sentences come in
the order of a hash, so that a corpus of ten hours begins with that of five. It is spoken in blocks, each of which has a folder
with a record of what became of it; a block with a record is done.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from asr.data.hold_out import hold_out
from asr.data.sentences import Sentences, as_said
from asr.data.speaking import FORMATS, Speakers, Spoken, Take
from asr.data.table import manifest_path
from asr.data.validate import PartSummary, Utterance, write_part
from asr.errors import DataError
from asr.files import locked, replacing
from asr.progress import Progress
from asr.speech import Synthesiser, make_synthesiser

_BLOCK = 20  # utterances
_LEVELS_DB = (1.0, 14.0)
_RECORD = "block.json"
_MADE_BY = "made.json"


@dataclass(frozen=True)
class Choice:
    """How a text is spoken.

    Attributes
    ----------
    voices
        Synthesisers, as :func:`asr.speech.make_synthesiser` takes them, which take turns.
    seed
        Decides everything.
    n_speakers
        Speakers of each synthesiser.
    words
        Least and most words of a sentence.
    seconds
        Shortest and longest recording (s).
    format
        ``flac`` or ``opus``.
    """

    voices: Sequence[str]
    seed: int = 1
    n_speakers: int = 1000
    words: tuple[int, int] = (3, 45)
    seconds: tuple[float, float] = (1.0, 20.0)
    format: str = "flac"


@dataclass(frozen=True)
class Amount:
    """How much is spoken, whichever is reached first; with neither, each sentence once."""

    hours: float | None = None
    n_utterances: int | None = None

    def reached(self, total_s: float, n_utterances: int) -> bool:
        """Whether so much is enough."""
        return total_s >= 3600 * (self.hours or math.inf) or n_utterances >= (self.n_utterances or math.inf)


@dataclass(frozen=True)
class _Block:
    """Utterances that are spoken together."""

    number: int
    folder: Path
    voice: str
    synthesiser: Synthesiser
    takes: list[Take]
    texts: list[str]
    speakers: list[str]

    def digest(self, n_takes: int) -> str:
        """Return what tells so many takes, from the first one on, from others."""
        return hashlib.blake2b("\n".join(take.file for take in self.takes[:n_takes]).encode(), digest_size=8).hexdigest()


def prepare_spoken(
    read: Callable[[], Iterator[str]],
    name: str,
    out: Path,
    manifests: Path,
    choice: Choice,
    amount: Amount | None = None,
    *,
    dev_share: float = 0.0,
    n_processes: int | None = None,
    notice: Callable[[str], None] = lambda text: None,
    skip_invalid: bool = False,
    decode: bool = False,
    n_threads: int = 8,
) -> Iterator[PartSummary]:
    """Speak a text and write the manifest of what was spoken, or two; what an interrupted call has done is gone on with.

    Parameters
    ----------
    read
        Returns the sentences, from the first on at each call. Those are left out that have too few or too many words, or
        digits or signs, since how they are read is not how they are written.
    name
        ``corpus/part``, or ``corpus`` for its part ``all``; with ``dev_share`` a corpus, for its parts ``train`` and ``dev``.
    out
        Folder for the audio, ``<out>/<corpus>/<part>``.
    manifests
        The manifests folder.
    choice, amount
        How, and how much. Where the text ends before, it is spoken again, by others.
    dev_share
        Share of the utterances that :func:`asr.data.hold_out.hold_out` sets aside: sentences and speakers, if there are ten or
        more, that the rest does not have.
    n_processes
        Processes that speak at a time; by default one for each processor. It changes nothing else.
    notice
        Called with what has been left out.
    skip_invalid, decode, n_threads
        As for :func:`asr.data.validate.write_part`.

    Raises
    ------
    ConfigError
        A synthesiser does not exist or is not installed.
    DataError
        There is nothing to speak or to set aside, or the folder holds speech of other texts or settings.
    Failure, StorageError
        A synthesiser does not work, or the disk is full.
    """
    if dev_share and "/" in name:
        raise DataError(f"{name!r} names a part, but the parts with held-out utterances are train and dev; name the corpus")
    path = manifest_path(name, manifests)
    corpus = path.relative_to(manifests).as_posix().removesuffix(".jsonl.gz")
    voices = {voice: make_synthesiser(voice) for voice in choice.voices}
    sentences = Sentences(read, choice.words, choice.seed, repeat=amount is not None)
    utterances: list[Utterance] = []
    refused: list[Spoken] = []
    with locked(out / corpus / ".lock", "speaking", "--name or --out"):
        for utterance, spoken in _speak(sentences, corpus, out / corpus, choice, voices, amount or Amount(), n_processes):
            (refused.append(spoken) if utterance is None else utterances.append(utterance))
    for line in [*sentences.left_out(), *_refusals(refused, choice)]:
        notice(line)
    origins = [str(voice.origin) for voice in voices.values()]
    for part, some in _parts(utterances, path, dev_share).items():
        yield write_part(some, part, skip_invalid=skip_invalid, decode=decode, n_threads=n_threads, synthesisers=origins)


def _parts(utterances: list[Utterance], path: Path, dev_share: float) -> dict[Path, list[Utterance]]:
    """Return the utterances of each manifest."""
    if not dev_share:
        return {path: utterances}
    kept, held_out = hold_out(utterances, dev_share)
    theirs = {utterance.text for utterance in held_out}
    kept = [utterance for utterance in kept if utterance.text not in theirs]  # a text that is spoken again
    if not kept:
        raise DataError(f"{len(utterances)} utterances are spoken; none is left when a share of {dev_share:g} is set aside")
    return {path.with_name("train.jsonl.gz"): kept, path.with_name("dev.jsonl.gz"): held_out}


def _speak(
    sentences: Sentences,
    corpus: str,
    folder: Path,
    choice: Choice,
    voices: dict[str, Synthesiser],
    amount: Amount,
    n_processes: int | None,
) -> Iterator[tuple[Utterance | None, Spoken]]:
    """Yield each utterance in its order, or nothing in its place, until it is enough."""
    speakers = Speakers(n_processes)
    wanted, unit = (round(3600 * amount.hours), "s of speech") if amount.hours else (amount.n_utterances or 0, "utterances")
    total_s, n_spoken, block = 0.0, 0, None

    def counted(one: Spoken) -> int:
        return 0 if one.refusal else round(one.duration_s) if amount.hours else 1

    def count(one: Spoken) -> None:
        left = wanted - progress.done if wanted else math.inf  # what is begun beyond it is given up
        progress.advance(min(counted(one), left))

    with Progress(corpus, wanted, unit) as progress:

        def speak(block: _Block) -> tuple[list[Spoken], bool]:
            return _speak_block(block, speakers, count)

        for block, (spoken, stood) in speakers.in_turn(speak, _blocks(sentences, corpus, folder, choice, voices)):
            if stood:
                progress.resume(sum(map(counted, spoken)))
            else:
                _write_json(
                    block.folder / _RECORD, {"digest": block.digest(len(spoken)), "spoken": [asdict(one) for one in spoken]}
                )
            if block.number == 0:
                _write_made_by(folder, choice, voices)
            for index, one in enumerate(spoken):
                yield (None if one.refusal else _utterance(block, index)), one
                total_s += 0 if one.refusal else one.duration_s
                n_spoken += not one.refusal
                if amount.reached(total_s, n_spoken):
                    break
            if amount.reached(total_s, n_spoken):
                break
            if n_spoken == 0 and sentences.all_are_in((block.number + 1) * _BLOCK):
                raise DataError(f"{corpus}: no sentence could be spoken in {choice.seconds[0]:g} to {choice.seconds[1]:g} s")
    if block is not None:
        _remove_unfinished(folder, block.number)


def _blocks(
    sentences: Sentences, corpus: str, folder: Path, choice: Choice, voices: dict[str, Synthesiser]
) -> Iterator[_Block]:
    stem, labels = corpus.replace("/", "-"), _labels(list(voices))
    texts = iter(sentences)
    for number, voice in zip(itertools.count(), itertools.cycle(voices)):
        some = list(itertools.islice(texts, _BLOCK))
        if not some:
            return
        block = _Block(number, folder / f"{number:05d}", voice, voices[voice], [], some, [])
        for index, text in enumerate(some, number * _BLOCK):
            rng = random.Random(f"{choice.seed} {index}")
            speaker = f"{labels[voice]}-{choice.seed}-{rng.randrange(choice.n_speakers):04d}"
            take = Take(
                file="",
                text=as_said(text),
                voice=block.synthesiser.draw_voice(random.Random(speaker)),
                level_db=round(rng.uniform(*_LEVELS_DB), 1),
                seed=rng.getrandbits(48),
                shortest_s=choice.seconds[0],
                longest_s=choice.seconds[1],
            )
            plan = json.dumps([asdict(take), str(block.synthesiser.origin)])
            fingerprint = hashlib.blake2b(plan.encode(), digest_size=4).hexdigest()
            block.takes.append(replace(take, file=f"{stem}-{index:06d}-{fingerprint}{FORMATS[choice.format]}"))
            block.speakers.append(speaker)
        yield block


def _labels(voices: Sequence[str]) -> dict[str, str]:
    """Return a short name for each synthesiser, which begins the names of its speakers."""
    engines = [voice.partition(":")[0].rpartition(".")[2].lower() for voice in voices]
    return {
        voice: engine if engines.count(engine) == 1 else f"{engine}{number}"
        for number, (voice, engine) in enumerate(zip(voices, engines, strict=True), 1)
    }


def _speak_block(block: _Block, speakers: Speakers, on_spoken: Callable[[Spoken], None]) -> tuple[list[Spoken], bool]:
    """Speak a block; return what became of it, and whether that stood in a record already."""
    spoken = _standing(block)
    if spoken is not None:
        return spoken, True
    afresh = block.synthesiser.carries_state
    return speakers.speak(block.voice, block.takes, block.folder, afresh=afresh, on_spoken=on_spoken), False


def _standing(block: _Block) -> list[Spoken] | None:
    """Return what a block's record says; nothing where there is none, or where recordings are missing.

    Those of the last block are, where the text ended in it and is now spoken again.
    """
    try:
        record = json.loads((block.folder / _RECORD).read_bytes())
        spoken = [Spoken(**one) for one in record["spoken"]]
        digest = record["digest"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if digest != block.digest(len(spoken)):
        raise DataError(
            f"{block.folder.parent}: holds speech of another text, of other settings or by another version of a synthesiser "
            f"({_MADE_BY} in it says which); choose another --name or --out, or remove the folder"
        )
    there = [one.refusal or (block.folder / take.file).is_file() for take, one in zip(block.takes, spoken, strict=False)]
    return spoken if len(there) == len(block.takes) and all(there) else None


def _utterance(block: _Block, index: int) -> Utterance:
    take = block.takes[index]
    return Utterance(
        id=take.file.rpartition("-")[0],
        audio=block.folder / take.file,
        text=block.texts[index],
        where=str(block.folder / take.file),
        speaker=block.speakers[index],
        custom={"voice": take.voice, "synthesiser": str(block.synthesiser.origin)},
    )


def _write_made_by(folder: Path, choice: Choice, voices: dict[str, Synthesiser]) -> None:
    """Write what the speech of a folder is made by."""
    made = {"synthesisers": [{"voices": voice, **asdict(made.origin)} for voice, made in voices.items()], **asdict(choice)}
    del made["voices"]
    _write_json(folder / _MADE_BY, made)


def _write_json(path: Path, content: object) -> None:
    with replacing(path) as stream:
        stream.write(json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n")


def _remove_unfinished(folder: Path, last: int) -> None:
    """Remove what was begun of blocks after the last one that is needed."""
    for begun in folder.iterdir():
        if begun.name.isdecimal() and int(begun.name) > last and not (begun / _RECORD).exists():
            shutil.rmtree(begun, ignore_errors=True)


def _refusals(refused: Sequence[Spoken], choice: Choice) -> list[str]:
    """Return what was not spoken, and why, one line for each reason."""
    counts = Counter(spoken.refusal for spoken in refused)
    unsaid = next((spoken.detail for spoken in refused if spoken.refusal == "unsaid"), "")
    texts = {
        "short": f"sentences of less than {choice.seconds[0]:g} s",
        "long": f"sentences of more than {choice.seconds[1]:g} s",
        "unsaid": f"sentences that cannot be spoken, such as: {unsaid}",
    }
    return [f"left out: {counts[key]} {text}" for key, text in texts.items() if counts[key]]
