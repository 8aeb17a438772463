"""``asr compress``: a copy of a model package whose weights take fewer bits."""

from __future__ import annotations

import argparse

from asr.commands.numbers import file_path
from asr.output import say
from asr.package.shipped import find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "example: asr compress runs/mini/package models/mini --weights int8. The model computes in float32 as before."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a model package or of an LSTM language model, or a name that `asr models` lists; it stays as it is",
    )
    parser.add_argument("target", type=file_path, metavar="TARGET", help="folder of the copy")
    parser.add_argument(
        "--weights",
        choices=("float32", "float16", "int8"),
        default="int8",
        help="how matrices are stored: float16 takes half the space, int8, with a factor for each row, a quarter (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the copy and say how large it is."""
    from asr.language.lstm_package import compress_lstm
    from asr.language.package import is_language_package
    from asr.package.parts import other_decoder
    from asr.package.save import compress_package

    source = find_model(args.model)
    is_language_model = is_language_package(source)
    if not is_language_model and other_decoder(source, args.target):
        say("compress", f"{args.target}: had a decoder of its own, tuned or set, which goes: tune the copy again")
    target = (compress_lstm if is_language_model else compress_package)(source, args.target, args.weights)
    before, after = (sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6 for folder in (source, target))
    command = "asr lm score" if is_language_model else "asr evaluate"
    print(f"{target}: weights of {after:.1f} MB instead of {before:.1f} MB; measure both with `{command}`")
    return 0
