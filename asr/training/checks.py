"""What can be known to be wrong before the first step of training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from asr.config import Config
from asr.ctc import minimum_frames
from asr.data.manifest import transcript
from asr.errors import DataError, TextError
from asr.files import replacing
from asr.model.acoustic import SpeechModel
from asr.output import to_json
from asr.text import Tokenizer
from asr.text.normaliser import shortened

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

logger = logging.getLogger(__name__)

SHOWN = 5
SHOWN_WORDS = 50


@dataclass(frozen=True)
class LeftOut:
    """An utterance that cannot be trained on, and why."""

    id: str
    reason: str
    detail: str


def check_transcripts(cuts: CutSet, tokenizer: Tokenizer, corpus: str) -> None:
    """Make sure that every transcript can be written in the tokenizer's tokens.

    Raises
    ------
    DataError
        With the number of faulty transcripts, the first of them, and the words that cannot be spelled.
    """
    faults = []
    words: Counter[str] = Counter()
    for cut in cuts:
        try:
            tokenizer.encode(transcript(cut))
        except TextError as error:
            faults.append(f"  {cut.id}: {error}")
            words.update(word for word in tokenizer.normalise(transcript(cut)).split() if not tokenizer.spell(word))
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        named = ", ".join(shortened(word) for word, _ in words.most_common(SHOWN_WORDS))
        more += f"\nWords that cannot be spelled ({len(words)}): {named}{', ...' if len(words) > SHOWN_WORDS else ''}"
        raise DataError(
            f"{corpus}: {len(faults)} of {len(cuts)} transcripts cannot be written in tokens.kind={tokenizer.kind}:\n"
            + "\n".join(faults[:SHOWN])
            + f"{more}\n{tokenizer.remedy}"
        )


def find_fault(cut: Cut, config: Config, tokenizer: Tokenizer, model: SpeechModel) -> LeftOut | None:
    """Say why an utterance cannot be trained on, or None where it can."""
    if cut.duration > config.trainer.max_duration_s:
        detail = f"{cut.duration:.1f} s; trainer.max_duration_s is {config.trainer.max_duration_s:g} s"
        return LeftOut(cut.id, "too long", detail)
    tokens = tokenizer.encode(transcript(cut))
    if not tokens:
        return LeftOut(cut.id, "empty transcript", f"{transcript(cut)!r} is empty after normalisation")
    fastest = max([1.0, *config.augment.speed])
    if missing := _frames_missing(cut, tokens, fastest, config, model):
        detail = (
            f"{missing} at speed {fastest:g}; lower model.cnn.time_strides or augment.speed, or see whether the transcript "
            "belongs to this audio"
        )
        return LeftOut(cut.id, "transcript too long for the audio", detail)
    return None


def _frames_missing(cut: Cut, tokens: Sequence[int], speed: float, config: Config, model: SpeechModel) -> str | None:
    """Say how many output frames an utterance has and needs where they do not suffice."""
    n_samples = int(cut.duration * config.frontend.sample_rate / speed) - 1
    n_frames = int(model.output_lengths(torch.tensor([n_samples]))[0])
    if n_frames >= minimum_frames(tokens):
        return None
    return (
        f"{len(tokens)} tokens need {minimum_frames(tokens)} output frames (one a token, one more for each doubled token) but "
        f"{cut.duration:.2f} s give {n_frames}"
    )


def name_unfit(cuts: CutSet, config: Config, tokenizer: Tokenizer, model: SpeechModel) -> None:
    """Log the utterances for validation whose loss is infinite: they count in WER and CER alone."""
    unfit = {
        cut.id: missing
        for cut in cuts
        if (missing := _frames_missing(cut, tokenizer.encode(transcript(cut)), 1.0, config, model))
    }
    if not unfit:
        return
    logger.warning(f"{len(unfit)} of {len(cuts)} utterances of corpus.dev are not part of dev/loss:")
    for name, missing in list(unfit.items())[:SHOWN]:
        logger.warning(f"  {name}: {missing}")


def leave_out_untrainable(
    cuts: CutSet, config: Config, tokenizer: Tokenizer, model: SpeechModel, report: Path | None
) -> CutSet:
    """Return the utterances that can be trained on; the others are logged, counted and written to a report.

    Parameters
    ----------
    cuts
        Training utterances.
    report
        JSONL file for the utterances left out, which goes where none are; None writes none.

    Raises
    ------
    DataError
        If nothing is left.
    """
    faults = {cut.id: fault for cut in cuts if (fault := find_fault(cut, config, tokenizer, model))}
    if not faults:
        if report is not None:
            report.unlink(missing_ok=True)  # of an earlier start, with other utterances
        return cuts
    if report is not None:
        with replacing(report) as file:
            for fault in faults.values():
                file.write((to_json(vars(fault)) + "\n").encode())
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(fault.reason for fault in faults.values()).items())
    logger.warning(f"{len(faults)} of {len(cuts)} training utterances are left out ({reasons}):")
    for fault in list(faults.values())[:SHOWN]:
        logger.warning(f"  {fault.id}: {fault.reason}: {fault.detail}")
    if report is not None:
        logger.warning(f"  all of them are listed in {report}")
    kept = cuts.filter(lambda cut: cut.id not in faults).to_eager()
    if not len(kept):
        raise DataError(f"none of the {len(cuts)} training utterances can be trained on: {reasons}")
    return kept
