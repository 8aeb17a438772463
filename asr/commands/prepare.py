"""``asr prepare``: recordings and transcripts to checked manifests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from asr.commands.arguments import add_text_ids
from asr.commands.numbers import file_path, hours, positive, seconds, threads
from asr.config import MANIFESTS
from asr.errors import LEFT_OUT, UserError
from asr.output import say

if TYPE_CHECKING:
    from asr.data.validate import PartSummary

AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]
"""Adds the parser of a kind of corpus."""

_WRONG = UserError.exit_code
_EPILOG = f"Exit code: 0 if every row was used, {_WRONG} if one is wrong, {LEFT_OUT} if --skip-invalid left rows out."

_VOICES = """\
synthesisers (--voices):
  espeak[:LANGUAGE]  eSpeak NG: many languages, such as espeak:de; without one, English accents. The program is
                     GPL-3.0-or-later, which does not cover what it speaks. Installed with asr.
  hibari             hibari-tts, English: one voice, its pitch, vocal tract, tilt, breath and pace drawn for each speaker.
                     Apache-2.0, voice and software. pip install ".[hibari]"
  kokoro:PACKS       Kokoro-82M, English, more like people and 50 times slower; each speaker a blend of voices in the folder
                     PACKS (af_bella.bin, ...), as in the npm package kokoro-js. Apache-2.0, the network's export MIT.
                     pip install ".[kokoro]"
A class of your own that has the methods of asr.speech.Synthesiser is named MODULE.CLASS[:WHAT]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one subcommand for each kind of corpus."""
    add = parser.add_subparsers(dest="corpus", metavar="CORPUS", required=True).add_parser
    _add_librispeech(add)
    _add_synthetic(add)
    _add_spoken(add)
    _add_table(add)
    _add_kaldi(add)


def run(args: argparse.Namespace) -> int:
    """Prepare and print a line for each manifest written."""
    from asr.files import check_output_folder

    check_output_folder(args.manifests)
    prepare = {
        "librispeech": _librispeech, "synthetic": _synthetic, "spoken": _spoken, "table": _table, "kaldi": _kaldi
    }  # fmt: skip
    n_rejected = 0
    for summary in prepare[args.corpus](args):
        for notice in summary.notices:
            say("prepare", f"{summary.path}: {notice}")
        print(summary, flush=True)
        n_rejected += summary.n_rejected
    return LEFT_OUT if n_rejected else 0


def _add_corpus(add: AddParser, name: str, text: str) -> argparse.ArgumentParser:
    parser = add(name, help=text, description=text, epilog=_EPILOG)
    parser.add_argument("--manifests", type=file_path, default=Path(MANIFESTS), help="folder to write to (%(default)s)")
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave wrong rows out and list them in PART.rejected.jsonl; otherwise stop"
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="read every audio file to its end, not its header alone; finds damage, and silence",
    )
    parser.add_argument("--threads", type=threads, default=8, metavar="N", help="threads that read audio files (%(default)s)")
    return parser


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, metavar="CORPUS[/PART]", help="the manifest; the part is `all` by default")


def _add_librispeech(add: AddParser) -> None:
    parser = _add_corpus(add, "librispeech", "Parts of LibriSpeech or Mini LibriSpeech, or of a corpus in the same layout.")
    parser.add_argument("--parts", nargs="+", required=True, metavar="PART", help="folder names, such as train-clean-5")
    parser.add_argument(
        "--folder",
        type=file_path,
        default=Path("data/raw/LibriSpeech"),
        help="the corpus, PART/SPEAKER/CHAPTER/... (%(default)s)",
    )
    parser.add_argument("--download", action="store_true", help="fetch the official parts that the folder lacks")
    parser.add_argument("--mirror", metavar="URL", help="fetch from URL/12/PART.tar.gz and URL/31/PART.tar.gz")


def _add_synthetic(add: AddParser) -> None:
    parser = _add_corpus(add, "synthetic", "Digits and short commands, spoken by a speech synthesiser in many voices.")
    parser.add_argument("--out", type=file_path, default=Path("data/raw/synthetic"), help="folder for the audio (%(default)s)")
    parser.add_argument(
        "--utterances", nargs=3, type=int, default=[1500, 120, 200], metavar=("TRAIN", "DEV", "TEST"), help="(1500 120 200)"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides texts and voices (%(default)s)")


def _add_spoken(add: AddParser) -> None:
    parser = _add_corpus(
        add,
        "spoken",
        "Any text, spoken by speech synthesisers in many voices. The same command gives the same speech, whatever --jobs is; "
        "where it was interrupted, it goes on, and with more --hours it adds to what there is.",
    )
    parser.epilog = f"{_VOICES}\n\n{_EPILOG}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "texts", nargs="+", metavar="TEXT", help="files of a sentence a line (plain, .xz, .gz, .bz2) or manifests"
    )
    parser.add_argument(
        "--voices", nargs="+", required=True, metavar="ENGINE[:WHAT]", help="synthesisers, which take turns; see below"
    )
    parser.add_argument(
        "--name", default="spoken", metavar="CORPUS[/PART]", help="the manifest (%(default)s); the part is `all` by default"
    )
    _add_dev_share(parser)
    parser.add_argument("--hours", type=hours, metavar="H", help="of speech; a text that ends before is spoken again by others")
    parser.add_argument(
        "--utterances",
        type=positive,
        metavar="N",
        help="whichever of N and H is reached first; without both, each sentence once",
    )
    parser.add_argument("--speakers", type=positive, default=1000, metavar="N", help="of each synthesiser (%(default)s)")
    parser.add_argument(
        "--words", nargs=2, type=positive, default=[3, 45], metavar=("MIN", "MAX"), help="sentences of so many (3 45)"
    )
    parser.add_argument(
        "--seconds", nargs=2, type=seconds, default=[1.0, 20.0], metavar=("MIN", "MAX"), help="recordings so long (1 20)"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides sentences and voices (%(default)s)")
    parser.add_argument("--jobs", type=threads, metavar="N", help="processes that speak (one for each processor)")
    parser.add_argument("--format", choices=("flac", "opus"), default="flac", help="of the recordings, 16 kHz (%(default)s)")
    parser.add_argument(
        "--out", type=file_path, default=Path("data/raw"), help="folder for the audio, OUT/CORPUS/PART (%(default)s)"
    )
    add_text_ids(parser)


def _add_dev_share(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dev-share",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="set so much of the training utterances aside as the part dev: whole speakers where there are ten or more (0)",
    )


def _add_table(add: AddParser) -> None:
    parser = _add_corpus(add, "table", "A CSV, TSV or JSONL file with one utterance a row.")
    parser.add_argument("file", type=file_path, metavar="FILE", help="the table; paths in it count from its folder")
    _add_name(parser)
    parser.add_argument(
        "--delimiter", type=_delimiter, metavar="CHARACTER", help="divides the columns, such as ; or tab (by the file's ending)"
    )
    parser.add_argument("--audio-column", default="audio", metavar="COLUMN", help="path of the audio file (%(default)s)")
    parser.add_argument("--text-column", default="text", metavar="COLUMN", help="transcript (%(default)s)")
    parser.add_argument("--id-column", metavar="COLUMN", help="id (`id` if there is such a column, else from the audio's path)")
    parser.add_argument("--speaker-column", metavar="COLUMN", help="speaker (`speaker` if there is such a column)")
    parser.add_argument("--split-column", metavar="COLUMN", help="column that says to which part a row belongs")
    _add_dev_share(parser)
    parser.add_argument("--start-column", metavar="COLUMN", help="start inside the audio file, in seconds")
    parser.add_argument("--duration-column", metavar="COLUMN", help="duration inside the audio file, in seconds")


def _add_kaldi(add: AddParser) -> None:
    parser = _add_corpus(add, "kaldi", "A Kaldi data folder: wav.scp, text, and if there are any utt2spk and segments.")
    parser.add_argument("folder", type=file_path, metavar="DIR", help="the folder; wav.scp's paths count from here, or from it")
    _add_name(parser)


def _librispeech(args: argparse.Namespace) -> Iterable[PartSummary]:
    from asr.data import librispeech

    for part in args.parts:
        if args.download:
            librispeech.download_part(part, args.folder, args.mirror or librispeech.OFFICIAL_URL)
        yield librispeech.prepare_part(part, args.folder, args.manifests, **_checks(args))


def _synthetic(args: argparse.Namespace) -> Iterable[PartSummary]:
    from asr.data import synthetic

    sizes = dict(zip(("train", "dev", "test"), args.utterances, strict=True))
    yield from synthetic.prepare(args.out, args.manifests, sizes=sizes, seed=args.seed, **_checks(args))


def _spoken(args: argparse.Namespace) -> Iterable[PartSummary]:
    from asr.data import spoken
    from asr.errors import ConfigError
    from asr.files import check_output_folder
    from asr.language.texts import find_sources, read_text
    from asr.progress import Progress

    for option, (least, most) in {"--words": args.words, "--seconds": args.seconds}.items():
        if least > most:
            raise ConfigError(f"{option} {least:g} {most:g}: the first is the least, and is above the second")
    check_output_folder(args.out)
    sources = find_sources(args.texts, args.manifests, text_ids=args.text_ids)

    def read() -> Iterator[str]:
        with Progress("reading", sum(source.n_bytes for source in sources), "bytes") as progress:
            for source in sources:
                yield from read_text(source, progress.advance)

    choice = spoken.Choice(args.voices, args.seed, args.speakers, tuple(args.words), tuple(args.seconds), args.format)
    yield from spoken.prepare_spoken(
        read,
        args.name,
        args.out,
        args.manifests,
        choice,
        spoken.Amount(args.hours, args.utterances) if args.hours or args.utterances else None,
        dev_share=args.dev_share,
        n_processes=args.jobs,
        notice=lambda text: print(text, file=sys.stderr, flush=True),
        **_checks(args),
    )


def _table(args: argparse.Namespace) -> Iterable[PartSummary]:
    from asr.data import table

    columns = table.Columns(
        audio=args.audio_column,
        text=args.text_column,
        id=args.id_column,
        speaker=args.speaker_column,
        split=args.split_column,
        start=args.start_column,
        duration=args.duration_column,
    )
    yield from table.prepare_table(
        args.file, args.name, args.manifests, columns, delimiter=args.delimiter, dev_share=args.dev_share, **_checks(args)
    )


def _kaldi(args: argparse.Namespace) -> Iterable[PartSummary]:
    from asr.data import table

    yield table.prepare_kaldi(args.folder, args.name, args.manifests, **_checks(args))


def _delimiter(text: str) -> str:
    text = "\t" if text in ("tab", "\\t") else text
    if len(text) != 1 or text in '\r\n"':
        raise argparse.ArgumentTypeError(f"{text!r}: expected one character, such as ; or tab")
    return text


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text}: expected a share from 0 to 0.5, such as 0.1")
    return value


def _checks(args: argparse.Namespace) -> dict[str, Any]:
    return {"skip_invalid": args.skip_invalid, "decode": args.decode, "n_threads": args.threads}
