"""Our decoders and their peers, on the same log-probabilities."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torchaudio.models.decoder import ctc_decoder

from asr.commands.numbers import positive
from asr.config import MANIFESTS, DecodingConfig
from asr.data.manifest import read_manifest, transcript
from asr.decoding import build_decoder
from asr.decoding.builders.lexicon import LabelledLexicon, load_lexicon
from asr.decoding.scorers.loading import load_ngram
from asr.decoding.waveforms import log_probabilities
from asr.errors import ConfigError
from asr.package.load import read_package
from asr.package.shipped import find_model
from asr.scoring import score
from asr.scoring.evaluation import read_batches
from asr.text import Tokenizer
from benchmarks.measure import make_environment, run_module

DESCRIPTION = (
    "WER and processor time per second of audio of our decoders, with a word n-gram LM, of torchaudio's and of pyctcdecode, "
    "all from the same log-probabilities, weights (the package's) and pruning"
)
BEAMS = (16, 50, 200)
FEW = 5
"""Tokens beside the blank that are tried in a frame, where not all are. pyctcdecode tries those of e^-5 and more."""

Decode = Callable[[Sequence[torch.Tensor]], list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("model", metavar="MODEL", help="package of a model of characters, or a name that `asr models` lists")
    parser.add_argument("manifest", metavar="MANIFEST", help="such as librispeech/dev-clean-b")
    parser.add_argument("lm", metavar="LM", help="word n-gram language model")
    parser.add_argument(
        "utterances", nargs="?", type=positive, default=100, metavar="UTTERANCES", help="how many, the first ones (%(default)s)"
    )
    parser.add_argument(
        "environment",
        nargs="?",
        type=Path,
        metavar="ENVIRONMENT",
        help="folder of a virtual environment, made if it is not there, in which pyctcdecode joins in: it needs numpy < 2",
    )


def run(args: argparse.Namespace) -> None:
    """Print a line for each decoder and beam."""
    torch.set_num_threads(1)
    loaded = read_package(find_model(args.model))
    tokenizer = loaded.tokenizer
    if tokenizer.kind != "characters" or tokenizer.boundary is None:
        raise ConfigError(f"{args.model}: its tokens are {tokenizer.kind}; the peers are given characters with a space")
    config = dataclasses.replace(
        loaded.config.decoding, kind="beam_ngram", lm=args.lm, lexicon=True, lexicon_file=None, n_best=1, jobs=1
    )
    cuts = read_manifest(args.manifest, MANIFESTS).subset(first=args.utterances)
    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for ids, waveforms in read_batches(cuts, loaded.model, 60.0, {}):
            log_probs, n_frames = log_probabilities(loaded.model, waveforms)
            found.update({name: row[:n] for name, row, n in zip(ids, log_probs, n_frames.tolist(), strict=True)})
    references = {cut.id: tokenizer.normalise(transcript(cut)) for cut in cuts if cut.id in found}
    utterances = [found[name] for name in references]
    audio_s = sum(map(len, utterances)) * loaded.model.frame_s
    words = load_lexicon(load_ngram(config, None), tokenizer, None)
    print(
        f"{len(utterances)} utterances of {args.manifest}, {audio_s:.0f} s; {args.lm}, {len(words.texts)} words; lm_weight "
        f"{config.lm_weight:g}, word_score {config.word_score:g}, beam_threshold {config.beam_threshold:g}; one thread, "
        "processor time, medians of 3"
    )

    def report(name: str, beam: int, texts: Sequence[str], times: Sequence[float]) -> None:
        wer = score(references, dict(zip(references, texts, strict=True))).wer
        print(
            f"{name:42} beam {beam:3}  WER {100 * wer.rate:5.2f} %  real-time factor {median(times) / audio_s:.5f}", flush=True
        )

    peers = {
        "beam": _ours(dataclasses.replace(config, kind="beam"), tokenizer),
        "beam_ngram, lexicon": _ours(config, tokenizer),
        f"beam_ngram, lexicon, beam_tokens={FEW}": _ours(dataclasses.replace(config, beam_tokens=FEW), tokenizer),
        "beam_ngram, lexicon=false": _ours(dataclasses.replace(config, lexicon=False), tokenizer),
        "torchaudio, lexicon": _torchaudio(config, tokenizer, words, load_ngram(config, None).path),
        f"torchaudio, lexicon, beam_size_token={FEW + 1}": _torchaudio(
            dataclasses.replace(config, beam_tokens=FEW), tokenizer, words, load_ngram(config, None).path
        ),
    }
    for beam in BEAMS:
        for name, make in peers.items():
            decode = make(beam)
            times = []
            for _ in range(3):
                start = time.process_time()
                texts = decode(utterances)
                times.append(time.process_time() - start)
            report(name, beam, texts, times)
    if args.environment is not None:
        with tempfile.TemporaryDirectory() as folder:
            results = _pyctcdecode(
                Path(folder), args.environment, config, tokenizer, words, load_ngram(config, None).path, utterances
            )
        for beam in BEAMS:
            report("pyctcdecode", beam, results[str(beam)]["texts"], results[str(beam)]["seconds"])


def _ours(config: DecodingConfig, tokenizer: Tokenizer) -> Callable[[int], Decode]:
    def make(beam: int) -> Decode:
        decoder = build_decoder(dataclasses.replace(config, beam=beam), tokenizer)

        def decode(utterances: Sequence[torch.Tensor]) -> list[str]:
            padded = torch.nn.utils.rnn.pad_sequence(list(utterances), batch_first=True)
            n_frames = torch.tensor([len(utterance) for utterance in utterances])
            return [hypothesis.text for hypothesis in decoder.decode(padded, n_frames)]

        return decode

    return make


def _torchaudio(config: DecodingConfig, tokenizer: Tokenizer, words: LabelledLexicon, lm: Path) -> Callable[[int], Decode]:
    # Names without white space, and the language model's logarithms are to the base of 10.
    names = ["-", *("|" if name == " " else name for name in tokenizer.token_names[1:])]

    def make(beam: int) -> Decode:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as lexicon:
            for name, text in zip(words.names, words.texts, strict=True):
                lexicon.write(f"{name} {' '.join(text)} |\n")
            lexicon.flush()
            decoder = ctc_decoder(
                lexicon.name,
                names,
                str(lm),
                beam_size=beam,
                beam_size_token=config.beam_tokens + 1 if config.beam_tokens else None,
                beam_threshold=config.beam_threshold,
                lm_weight=config.lm_weight * math.log(10),
                word_score=config.word_score,
                log_add=config.log_add,
            )
        return lambda utterances: [" ".join(decoder(utterance[None])[0][0].words) for utterance in utterances]

    return make


def _pyctcdecode(
    folder: Path,
    environment: Path,
    config: DecodingConfig,
    tokenizer: Tokenizer,
    words: LabelledLexicon,
    lm: Path,
    utterances: Sequence[torch.Tensor],
) -> dict[str, dict[str, Any]]:
    python = make_environment(environment, "pyctcdecode", "kenlm", "numpy<2")
    arrays: dict[str, Any] = {f"{index:06}": utterance.numpy() for index, utterance in enumerate(utterances)}
    np.savez(folder / "log_probs.npz", **arrays)
    settings = {
        "labels": ["", *tokenizer.token_names[1:]],
        "lm": str(lm.resolve()),
        "words": words.names,
        "lm_weight": config.lm_weight,
        "word_score": config.word_score,
        "unknown_score": config.unknown_score,
        "beam_threshold": config.beam_threshold,
        "beams": BEAMS,
        "runs": 3,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    run_module(python, "benchmarks.pyctcdecode_worker", folder)
    results: dict[str, dict[str, Any]] = json.loads((folder / "pyctcdecode.json").read_text())
    return results
