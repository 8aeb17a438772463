"""``asr transcribe``: audio files to text."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.overrides import add_hot_words, is_override, with_overrides
from asr.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from asr.data.progress import Progress
    from asr.transcription.recogniser import Recogniser
    from asr.transcription.transcript import Transcript

DESCRIPTION = "turn audio files into text"

_MODEL_VARIABLE = "ASR_MODEL"
_CLEAR_LINE = "\r\x1b[K"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="audio: wav, flac, ogg, opus, mp3, m4a or mp4, at any rate; settings of the decoder, such as decoding.beam=100",
    )
    parser.add_argument("--model", metavar="PATH", help=f"folder of a model package (default: ${_MODEL_VARIABLE})")
    parser.add_argument("--format", choices=("txt", "json"), default="txt", help="what to write (default: txt)")
    parser.add_argument("--words", action="store_true", help="find the times and confidences of words (with --format json)")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="write DIR/<name>.<format> for each file instead")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    add_hot_words(parser)
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (default: torch's choice)")


def run(args: argparse.Namespace) -> int:
    """Transcribe the files; 2 if one of them could not be read, 0 otherwise."""
    model = args.model or os.environ.get(_MODEL_VARIABLE)
    if not model:
        raise ConfigError(
            f"no model is named: give --model PATH or set {_MODEL_VARIABLE}. A model package is what `asr train` writes to "
            "runs/NAME/package; scripts/quickstart trains a small one in minutes"
        )
    if args.words and args.format != "json":
        raise ConfigError(f"--words with --format {args.format}: only json shows words; give --format json")
    overrides = [item for item in args.files if is_override(item) and not os.path.exists(item)]
    args.files = [item for item in args.files if item not in overrides]
    if not args.files:
        raise ConfigError(f"no audio file is named beside {overrides[0]}; expected at least one")
    from asr.data.manifest import check_output_folder
    from asr.transcription.writers import output_paths

    if args.output:
        check_output_folder(args.output)
    paths = output_paths(args.files, args.output, args.format) if args.output else []
    recogniser = _load(model, overrides, args)
    with _progress(args.files) as progress:
        results = recogniser.transcribe_many(args.files, on_progress=lambda seconds: progress.advance(round(seconds)))
        n_bad = sum(not _deliver(result, args, paths[index] if paths else None) for index, result in enumerate(results))
    if n_bad:
        print(f"asr transcribe: {n_bad} of {len(args.files)} files could not be transcribed", file=sys.stderr)
    return 2 if n_bad else 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return int(text)


def _load(model: str, overrides: list[str], args: argparse.Namespace) -> Recogniser:
    import dataclasses

    import torch

    from asr.package import read_package
    from asr.transcription.recogniser import Recogniser

    if args.threads:
        torch.set_num_threads(args.threads)
    package = read_package(Path(model), args.device)
    config = with_overrides(package.config, overrides, args.hotwords)
    return Recogniser(dataclasses.replace(package, config=config), words=args.words)


def _progress(files: list[str]) -> Progress:
    """Return a display on the terminal, or one that shows nothing where standard error is none."""
    from asr.audio import probe_audio
    from asr.data.progress import Progress

    total = 0.0
    if not sys.stderr.isatty():
        return Progress("transcribing", 0, "s of audio", io.StringIO())
    for file in files:
        with contextlib.suppress(AudioError):  # named when its turn comes
            total += probe_audio(file).duration_s
    return Progress("transcribing", round(total), "s of audio", sys.stderr)


def _deliver(result: Transcript | AudioError, args: argparse.Namespace, path: Path | None) -> bool:
    """Print or write one result; false where there is only an error to tell."""
    from asr.transcription.writers import render, write_transcript

    if sys.stderr.isatty():
        sys.stderr.write(_CLEAR_LINE)
    if isinstance(result, AudioError):
        print(f"asr transcribe: {result}", file=sys.stderr, flush=True)
        return False
    if path is not None:
        write_transcript(result, path, args.format)
    else:
        prefix = f"{result.file}: " if args.format == "txt" and len(args.files) > 1 else ""
        sys.stdout.write(prefix + render(result, args.format))
        sys.stdout.flush()
    return True
