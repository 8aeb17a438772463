"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asr.commands.numbers import file_path, seconds, threads
from asr.config import MANIFESTS
from asr.errors import ConfigError
from asr.output import print_utf8
from asr.package.shipped import DEFAULT, VARIABLE

MODEL = "folder of a model package, or a name that `asr models` lists"
"""What names a model."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the option that names a model, of those commands that have a default."""
    parser.add_argument(
        "--model",
        metavar="PATH",
        help=f"{MODEL} (default: ${VARIABLE}, or else {DEFAULT})",
    )


def add_manifests(parser: argparse.ArgumentParser) -> None:
    """Declare the option that says where manifests lie."""
    parser.add_argument("--manifests", dest="folder", metavar="DIR", default=MANIFESTS, help="their folder (%(default)s)")


def add_batch_seconds(parser: argparse.ArgumentParser) -> None:
    """Declare the option that bounds memory, of those commands that measure."""
    parser.add_argument(
        "--batch-seconds", type=seconds, default=160.0, metavar="S", help="audio recognised at once (%(default)g s)"
    )


def add_text_ids(parser: argparse.ArgumentParser) -> None:
    """Declare the option that says what texts look like."""
    parser.add_argument("--text-ids", action="store_true", help="lines of the texts begin with an id")


def add_details(parser: argparse.ArgumentParser) -> None:
    """Declare the option that shows more of errors."""
    parser.add_argument(
        "--details", action="store_true", help="also show errors by speaker, length, rate, ... and confused words"
    )


def add_device(parser: argparse.ArgumentParser, of: str = "") -> None:
    """Declare the option that says where the network runs."""
    parser.add_argument("--device", default="cpu", help=of or "cpu (default), cuda, cuda:1, ...")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare the option that says how many threads compute; :func:`use_threads` obeys it."""
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads (default: torch's choice)")


def add_normaliser(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names the form in which texts are compared."""
    parser.add_argument(
        "--normaliser",
        metavar="NAME",
        help="bring references and hypotheses into one form first: none, librispeech, basic or english (by default they are "
        "compared as they are; what was normalised differently is not compared)",
    )


def use_threads(n: int | None) -> None:
    """Compute with so many threads from now on; None leaves torch's choice."""
    if n is not None:
        import torch

        torch.set_num_threads(n)


def add_configuration(parser: argparse.ArgumentParser, describe: Callable[[Path | None], str]) -> None:
    """Declare what shows a configuration; the help lists all that can be set, the user's own files included."""

    class Help(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
            print(f"{parser.format_help()}\n{describe(namespace.config_dir)}")
            parser.exit()

    parser.add_argument("--print-config", action="store_true", help="print the composed configuration as YAML, and stop")
    parser.add_argument(
        "-h", "--help", action=Help, nargs=0, default=argparse.SUPPRESS, help="show this and all that can be set"
    )


def print_config(config: Any) -> int:
    """Print a configuration, and return the exit code."""
    from asr.config_mapping import to_yaml

    print_utf8(to_yaml(config))
    return 0


def add_report(parser: argparse.ArgumentParser, metavar: str, page: str = "") -> None:
    """Declare the arguments of a report, and say which page it is; :func:`check_report` looks at them."""
    parser.add_argument(
        "--report",
        type=file_path,
        metavar=metavar,
        help=f"also write a page to look at and listen to{page}: error rates, breakdowns, confused words, all utterances",
    )
    parser.add_argument(
        "--embed-audio",
        action="store_true",
        help="have the sound in the report, as MP3 of 16 kHz, up to 4 hours; by default the report names the audio files",
    )


def check_report(args: argparse.Namespace) -> None:
    """Refuse sound for a report that is not asked for.

    Raises
    ------
    ConfigError
        There is ``--embed-audio`` without ``--report``.
    """
    if args.embed_audio and not args.report:
        raise ConfigError("--embed-audio: there is no report to have the sound in; name one with --report")
