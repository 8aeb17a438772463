"""A model's score on a corpus, from audio to error rates."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.data.manifest import transcript
from asr.data.order import EvaluationBatches
from asr.data.reading import plain_file, read_cut
from asr.decoding import Decoder, Hypothesis
from asr.decoding.hypothesis import Word
from asr.decoding.waveforms import align_waveforms, decode_waveforms
from asr.decoding.words.confidence import Calibration
from asr.errors import AudioError, DataError
from asr.files import replacing, write_json
from asr.model.acoustic import SpeechModel
from asr.output import to_json
from asr.scoring.breakdown import Breakdown, break_down
from asr.scoring.calibration import CalibrationReport, calibration_report
from asr.scoring.levels import estimate_snr
from asr.scoring.normalisers import ScoringNormaliser
from asr.scoring.pairs import align_words
from asr.scoring.score import Score, score, score_best
from asr.scoring.signature import signature
from asr.scoring.times import TimeErrors, time_errors

if TYPE_CHECKING:
    from lhotse import CutSet, MonoCut

_MAX_UTTERANCES = 256


@dataclass(frozen=True)
class Evaluation:
    """A score and how it came about.

    Attributes
    ----------
    corpus
        Name of the manifest.
    score
        Error rates of words, or of phones where the decoder writes those.
    hypotheses
        By utterance id, those that were scored.
    left_out
        Reason by utterance id for those whose audio could not be read; they are not in the score.
    unknown
        Ids of scored references with characters that the tokenizer does not know and so can never write.
    audio_s
        Seconds of audio recognised.
    elapsed_s
        Seconds of wall-clock time it took, reading included.
    signature
        What the score depends on.
    attributes
        By utterance id: ``speaker`` and ``gender`` where they are known, ``duration_s``, ``snr_db`` where it can be estimated,
        ``audio`` and ``start_s``, the file and where in it the utterance begins, where it is a stretch of one, and, where they
        were asked for, ``confidence``, the mean of the words', and ``word_times_s``, where each word begins and ends.
    vocabulary
        Words that the decoder can write, where they are a closed list.
    writes_words
        Whether it writes words; otherwise the letters of its texts are sounds.
    oracle
        Error rates of the reading among the n best that has the fewest word errors, where the decoder gives more than one.
    calibration
        How true the words' confidences are, where it was asked for.
    times
        How far the words' times are from the aligned transcripts', where it was asked for.
    """

    corpus: str
    score: Score
    hypotheses: Mapping[str, Hypothesis]
    left_out: Mapping[str, str]
    unknown: tuple[str, ...]
    audio_s: float
    elapsed_s: float
    signature: str
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    vocabulary: frozenset[str] | None = field(default=None, repr=False)
    writes_words: bool = True
    oracle: Score | None = None
    calibration: CalibrationReport | None = None
    times: TimeErrors | None = None

    def summary(self) -> str:
        """Return the lines that ``asr evaluate`` prints."""
        what = f"{self.corpus}: {len(self.hypotheses)} utterances, {self.audio_s / 3600:.3f} h"
        return "\n".join([what, self.score.summary(), *self.remarks()])

    def remarks(self) -> list[str]:
        """Return the lines of the summary that follow the error rates."""
        lines = [
            *([f"best of the n best: {self.oracle.wer.line('WER')}"] if self.oracle else []),
            f"real-time factor {self.elapsed_s / self.audio_s:.4f} ({self.audio_s / self.elapsed_s:.1f} x real time)",
        ]
        if self.left_out:
            lines.append(f"left out of the score: {len(self.left_out)} utterances whose audio cannot be read")
        if self.unknown:
            lines.append(f"references with characters the model cannot write: {len(self.unknown)} (scored as they are)")
        lines += [part.summary() for part in (self.calibration, self.times) if part is not None]
        return [*lines, f"signature {self.signature}"]

    def to_mapping(self) -> dict[str, Any]:
        """Return what the summary file holds."""
        return {
            "corpus": self.corpus,
            "utterances": len(self.hypotheses),
            "audio_s": round(self.audio_s, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            "wer": self.score.wer.to_mapping(),
            "cer": self.score.cer.to_mapping(),
            "ser": self.score.ser.to_mapping(),
            **({"oracle_wer": self.oracle.wer.to_mapping()} if self.oracle else {}),
            "details": self.details().to_mapping(),
            "left_out": dict(self.left_out),
            "unknown_characters": list(self.unknown),
            "signature": self.signature,
        }

    def details(self) -> Breakdown:
        """Return where the errors are."""
        texts = [[getattr(row, side) for row in self.score.utterances] for side in ("reference", "hypothesis")]
        sounds = (
            None if self.writes_words else align_words(*([" ".join(text.replace(" ", "")) for text in part] for part in texts))
        )
        return break_down(self.score, align_words(*texts), self.attributes, self.vocabulary, sounds)

    def write(self, folder: Path, stem: str) -> tuple[Path, Path]:
        """Write ``<stem>.jsonl`` (a line an utterance) and ``<stem>.json`` (the summary), each whole or not at all.

        Raises
        ------
        StorageError
            A file cannot be written.
        """
        lines, summary = folder / f"{stem}.jsonl", folder / f"{stem}.json"
        with replacing(lines) as stream:
            for utterance in self.score.utterances:
                hypothesis = self.hypotheses[utterance.id]
                row = {**utterance.to_mapping(), **self.attributes.get(utterance.id, {}), "log_score": hypothesis.score}
                if len(hypothesis.n_best) > 1:
                    row["n_best"] = [{"text": other.text, "log_score": other.score} for other in hypothesis.n_best]
                stream.write((to_json(row) + "\n").encode("utf-8"))
        write_json(summary, self.to_mapping())
        return lines, summary


def evaluate(
    cuts: CutSet,
    model: SpeechModel,
    decoder: Decoder,
    *,
    corpus: str,
    checkpoint: str,
    batch_s: float = 160.0,
    words: Calibration | None = None,
    normaliser: ScoringNormaliser | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Recognise a corpus and score it.

    Parameters
    ----------
    cuts
        Utterances with transcripts.
    model
        In evaluation mode, on the device to use.
    decoder
        It says what a perfect hypothesis would be.
    corpus, checkpoint
        Name of the manifest and hash of the weights, for the signature.
    batch_s
        Audio recognised at once (s), padding included; it bounds memory and changes no text.
    words
        Also find the words' confidences, calibrated so, and times, and report how true they are; by default neither is found.
    normaliser
        Brings references and hypotheses into one form before they are compared.
    on_progress
        Called after each batch with the seconds of audio in it.

    Raises
    ------
    DataError
        Where no utterance is left to score.
    """
    started = time.monotonic()
    left_out: dict[str, str] = {}
    found: dict[str, Hypothesis] = {}
    snr_db: dict[str, float | None] = {}
    said: dict[str, tuple[Word, ...] | None] = {}
    texts = {cut.id: transcript(cut) for cut in cuts}
    audio_s = 0.0
    for ids, waveforms in read_batches(cuts, model, batch_s, left_out):
        found.update(zip(ids, decode_waveforms(model, decoder, waveforms, words=words), strict=True))
        rate = model.frontend.config.sample_rate
        snr_db.update({name: estimate_snr(waveform, rate) for name, waveform in zip(ids, waveforms, strict=True)})
        if words is not None:
            began = time.monotonic()
            aligned = align_waveforms(model, decoder.tokenizer, waveforms, [texts[utterance] for utterance in ids])
            said.update(zip(ids, aligned, strict=True))
            started += time.monotonic() - began  # no part of recognition
        batch_audio_s = sum(map(len, waveforms)) / rate
        audio_s += batch_audio_s
        if on_progress is not None:
            on_progress(batch_audio_s)
    if not found:
        reason = next(iter(left_out.values()), "there are none")
        raise DataError(f"{corpus}: no utterance could be recognised; the first reason: {reason}")
    elapsed_s = time.monotonic() - started
    references = {utterance: text for utterance, text in texts.items() if utterance in found}
    hypotheses = {utterance: found[utterance] for utterance in references}
    tokenizer = decoder.tokenizer
    perfect = {utterance: decoder.reference(text) for utterance, text in references.items()}
    attributes = {cut.id: _attributes(cut, found[cut.id], snr_db[cut.id]) for cut in cuts if cut.id in found}
    speakers = {utterance: known["speaker"] for utterance, known in attributes.items() if "speaker" in known}
    apply = normaliser.apply if normaliser is not None else None
    texts_found = {key: value.text for key, value in hypotheses.items()}
    readings = {key: tuple(other.text for other in value.n_best) for key, value in hypotheses.items()}
    scored = score(perfect, texts_found, normalise=apply, speakers=speakers)
    calibration, times = _word_reports(perfect, hypotheses, said) if words is not None else (None, None)
    return Evaluation(
        corpus=corpus,
        score=scored,
        hypotheses=hypotheses,
        left_out=left_out,
        unknown=tuple(utterance for utterance, text in references.items() if tokenizer.unknown(text)),
        audio_s=audio_s,
        elapsed_s=elapsed_s,
        signature=signature(
            checkpoint=checkpoint,
            corpus=[corpus],
            references=references,
            decoder=decoder.signature,
            normaliser=_form(decoder, normaliser),
        ),
        attributes=attributes,
        vocabulary=decoder.vocabulary,
        writes_words=decoder.writes_words,
        oracle=score_best(perfect, texts_found, readings, normalise=apply, speakers=speakers),
        calibration=calibration,
        times=times,
    )


def _form(decoder: Decoder, normaliser: ScoringNormaliser | None) -> str:
    """Return the name of the form in which texts are compared."""
    parts = [decoder.tokenizer.normaliser]
    parts += [] if decoder.writes_words else [decoder.tokenizer.kind]
    return "+".join([*parts, normaliser.name] if normaliser is not None else parts)


def _attributes(cut: MonoCut, hypothesis: Hypothesis, snr_db: float | None) -> dict[str, Any]:
    """Return what is known of an utterance."""
    supervision = cut.supervisions[0]
    known = (("speaker", supervision.speaker), ("gender", supervision.gender))
    named = {name: value for name, value in known if value}
    confidences = [word.confidence for word in hypothesis.words or () if word.confidence is not None]
    sure = {"confidence": round(float(np.mean(confidences)), 4)} if confidences else {}
    times = [[round(word.start_s, 3), round(word.end_s, 3)] for word in hypothesis.words]
    placed = {"word_times_s": times} if times else {}
    file = plain_file(cut)
    sound = {"audio": os.path.abspath(file), "start_s": round(cut.start, 3)} if file is not None else {}
    noise = {} if snr_db is None else {"snr_db": round(snr_db, 1)}
    return {**named, "duration_s": round(cut.duration, 3), **noise, **sure, **sound, **placed}


def _word_reports(
    references: Mapping[str, str],
    hypotheses: Mapping[str, Hypothesis],
    said: Mapping[str, tuple[Word, ...] | None],
) -> tuple[CalibrationReport, TimeErrors]:
    found = {utterance: hypotheses[utterance].words for utterance in references}
    pairs, n_left_out = [], 0
    for utterance, reference in references.items():
        aligned, texts = said[utterance], reference.split()
        if aligned is None:
            n_left_out += 1
            continue
        # Where the decoder writes phones, words are compared as their phones.
        pairs.append(([replace(word, text=text) for word, text in zip(aligned, texts, strict=True)], found[utterance]))
    return calibration_report(references, found), time_errors(pairs, n_left_out)


def read_batches(
    cuts: CutSet, model: SpeechModel, batch_s: float, left_out: dict[str, str]
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Yield ids and waveforms; an utterance that cannot be read goes to ``left_out``, and the others go on."""
    for batch in EvaluationBatches(cuts, batch_s, _MAX_UTTERANCES):
        ids, waveforms = [], []
        for cut in batch:
            try:
                waveforms.append(read_cut(cut, model.frontend.config.sample_rate))
                ids.append(cut.id)
            except AudioError as error:
                left_out[cut.id] = str(error)
        if ids:
            yield ids, waveforms
