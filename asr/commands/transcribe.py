"""``asr transcribe``: audio files to text."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.arguments import add_device, add_model, add_threads, use_threads
from asr.commands.numbers import file_path, index, positive, seconds
from asr.commands.overrides import add_decoding, add_hot_words, is_override, with_overrides
from asr.errors import LEFT_OUT, ConfigError, UserError
from asr.output import say
from asr.package.shipped import find_model

if TYPE_CHECKING:
    from asr.transcription.jobs import Job
    from asr.transcription.recogniser import Recogniser
    from asr.transcription.subtitles import SubtitleLayout

_say = partial(say, "transcribe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="audio: wav, flac, ogg, opus, mp3, m4a, mp4, ..., at any rate; a folder for all below it; - for standard input",
    )
    add_model(parser)
    add_device(parser)
    add_threads(parser)
    parser.add_argument(
        "--batch-seconds",
        type=seconds,
        metavar="S",
        help="audio recognised at once; bounds memory and changes no text (default: 30 on a CPU, 600 on a GPU)",
    )
    parser.add_argument("--channel", type=index, metavar="N", help="use one channel, counted from 0 (default: all, mixed)")
    parser.add_argument(
        "--track",
        type=index,
        metavar="N",
        help="use one audio track, counted from 0 (default: the one marked as default)",
    )
    parser.add_argument("--no-vad", action="store_true", help="recognise all of the audio, not only what sounds like speech")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="transcribe what can be read of damaged files, and name what is lost (exit code 3), with -o also in "
        "DIR/<name>.<format>.partial",
    )
    add_decoding(parser)
    add_hot_words(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        default="txt",
        metavar="FORMAT",
        help="txt (default), json, srt, vtt, tsv or ctm; with -o also several (srt,json) or all",
    )
    output.add_argument("--words", action="store_true", help="show the times and confidences of words (with --format json)")
    output.add_argument("-o", "--output", metavar="DIR", type=file_path, help="write DIR/<name>.<format> for each file instead")
    output.add_argument("--stdout", action="store_true", help="print as well where -o is given")
    output.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out files whose transcripts in DIR are up to date; those that --keep-going left partial are made again",
    )
    output.add_argument("--max-line-length", type=positive, metavar="N", help="of subtitles, in characters (default: 42)")
    output.add_argument("--max-lines", type=positive, metavar="N", help="of subtitles (default: 2)")
    output.add_argument(
        "--reading-speed", type=positive, metavar="N", help="of subtitles, in characters a second (default: 20)"
    )


def run(args: argparse.Namespace) -> int:
    """Transcribe the files; 3 if some of them or some of their audio could not be read, 2 if none could, 0 otherwise."""
    model = find_model(args.model)
    formats = _formats(args)
    layout = _layout(args, formats)
    jobs, n_skipped = _jobs(args, formats)
    if not jobs:
        return 0
    recogniser = _load(model, args, formats)
    from asr.transcription.run import TranscriptionRun

    work = TranscriptionRun(formats, layout, printed=_printed(args), named=len(jobs) > 1 and formats == ("txt",), tell=_say)
    try:
        work.transcribe(recogniser, jobs)
    except KeyboardInterrupt:
        hint = "; --skip-existing leaves them out the next time" if args.output else ""
        _say(f"{work.n_done} of {len(jobs)} files are done{hint}")
        raise
    if work.failed:
        _say(f"{len(work.failed)} of {len(jobs)} files could not be transcribed: {', '.join(work.failed)}")
    if work.partial:
        _say(f"{len(work.partial)} of {len(jobs)} files could be read only in part: {', '.join(work.partial)}")
    if len(work.failed) == len(jobs) and not n_skipped:
        return UserError.exit_code
    return LEFT_OUT if work.failed or work.partial else 0


def _printed(args: argparse.Namespace) -> bool:
    return args.stdout or not args.output


def _formats(args: argparse.Namespace) -> tuple[str, ...]:
    from asr.transcription.jobs import read_formats

    formats = read_formats(args.format, printed=_printed(args))
    if args.words and "json" not in formats:
        raise ConfigError(f"--words with --format {args.format}: only json shows words; give --format json")
    return formats


def _layout(args: argparse.Namespace, formats: Sequence[str]) -> SubtitleLayout:
    from asr.transcription.subtitles import SubtitleLayout
    from asr.transcription.writers import SUBTITLES

    wanted = {"max_line_length": args.max_line_length, "max_lines": args.max_lines, "reading_speed": args.reading_speed}
    given = {name: value for name, value in wanted.items() if value is not None}
    if given and not SUBTITLES.intersection(formats):
        option = next(iter(given)).replace("_", "-")
        raise ConfigError(f"--{option} with --format {args.format}: it is about subtitles; give --format srt or vtt")
    return SubtitleLayout(**given)


def _jobs(args: argparse.Namespace, formats: Sequence[str]) -> tuple[list[Job], int]:
    """Return what is to be done, and how many files are done already."""
    from asr.transcription.jobs import find_jobs, not_done

    for name in args.files:
        if is_override(name) and not os.path.exists(name):
            setting = name.partition(".")[2]
            raise ConfigError(f"{name}: no such file; settings of the decoder are given as --decoding {setting}")
    if args.skip_existing and not args.output:
        raise ConfigError("--skip-existing looks for transcripts in a folder; name it with -o DIR")
    jobs = find_jobs(args.files, formats, args.output, printed=_printed(args), tell=_say)
    todo = not_done(jobs) if args.skip_existing else jobs
    if len(todo) < len(jobs):
        _say(f"{len(jobs) - len(todo)} of {len(jobs)} files skipped: their transcripts are there")
    return todo, len(jobs) - len(todo)


def _load(model: Path, args: argparse.Namespace, formats: Sequence[str]) -> Recogniser:
    from asr.package.load import read_package
    from asr.transcription.recogniser import Recogniser
    from asr.transcription.writers import NEEDS_WORDS

    use_threads(args.threads)
    package = read_package(model, args.device)
    config = with_overrides(package.config, args.decoding, args.hotwords)
    return Recogniser(
        dataclasses.replace(package, config=config),
        vad=not args.no_vad,
        channel=args.channel,
        track=args.track,
        keep_going=args.keep_going,
        batch_s=args.batch_seconds,
        words=args.words or bool(NEEDS_WORDS.intersection(formats)),
    )
