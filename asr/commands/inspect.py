"""``asr inspect``: what a model computes on its way through an utterance, as a page to look at and listen to."""

from __future__ import annotations

import argparse
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.arguments import add_model
from asr.commands.numbers import file_path
from asr.commands.overrides import add_decoding, with_overrides
from asr.errors import ConfigError
from asr.output import say
from asr.package.shipped import find_model

if TYPE_CHECKING:
    import numpy as np

    from asr.inspection.sound import Sound

_MAX_S = 60.0
_LAST_S = 1e9  # of any recording
_DEFAULT_UNITS = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="audio: wav, flac, ogg, opus, mp3, m4a or mp4, at any rate")
    add_model(parser)
    parser.add_argument("-o", "--output", metavar="PAGE", type=file_path, help="file to write (default: NAME.html, here)")
    parser.add_argument("--start", metavar="S", type=float, default=0.0, help="begin here in the audio (default: 0 s)")
    parser.add_argument("--end", metavar="S", type=float, help=f"end here (default: the end); {_MAX_S:g} s at most are shown")
    parser.add_argument(
        "--units", metavar="LIST", help=f"recurrent units to show, such as 0-15,40 (default: {_DEFAULT_UNITS} spread over all)"
    )
    parser.add_argument(
        "--maps",
        metavar="N",
        type=int,
        default=8,
        help="feature maps of each convolution, the liveliest (default: 8)",
    )
    add_decoding(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    end_s = _LAST_S if args.end is None else args.end
    if not 0.0 <= args.start < end_s <= _LAST_S:
        end = "(end)" if args.end is None else args.end
        raise ConfigError(f"--start {args.start:g} --end {end}: expected seconds, 0 <= start < end <= {_LAST_S:g}")
    if args.maps < 1:
        raise ConfigError(f"--maps {args.maps}: expected 1 at least")
    page = Path(Path(args.file).stem + ".html") if args.output is None else args.output
    if os.path.realpath(page) == os.path.realpath(args.file):
        raise ConfigError(f"{page}: the page would overwrite the audio; name another with -o")

    from asr.audio import load_audio
    from asr.decoding import build_decoder
    from asr.decoding.words.confidence import Calibration
    from asr.files import check_output_file, replacing
    from asr.inspection.page import build_page
    from asr.inspection.trace import trace
    from asr.mixing import SILENT, is_silent
    from asr.package.load import read_package

    check_output_file(page)
    package = read_package(find_model(args.model), "cpu")
    config = with_overrides(package.config, args.decoding)
    units = _units(args.units, config.model.recurrent.hidden_size)
    rate = config.frontend.sample_rate
    waveform = load_audio(args.file, rate, offset_s=args.start, duration_s=end_s - args.start, tell=partial(_tell, args.file))
    if is_silent(waveform):
        _tell(args.file, SILENT)
    if len(waveform) > _MAX_S * rate:
        raise ConfigError(
            f"{args.file}: {len(waveform) / rate:.1f} s; a page holds {_MAX_S:g} s at most; choose them with --start and --end"
        )
    decoder = build_decoder(config.decoding, package.tokenizer, package.folder)
    sound = _heard(args.file, waveform, rate)
    found = trace(package.model, decoder, waveform, Calibration.configured(config.decoding))
    recurrent = config.model.recurrent
    subtitle = (
        f"model {config.name} ({package.checkpoint_hash}), cell {recurrent.cell}, decoder {decoder.signature}, "
        f"{args.start:g} to {args.start + len(waveform) / rate:.2f} s"
    )
    title = os.fsencode(Path(args.file).name).decode("utf-8", "replace")  # names need not be text
    text = build_page(found, sound, title=title, subtitle=subtitle, units=units, n_maps=args.maps)
    with replacing(page) as stream:
        stream.write(text.encode("utf-8"))
    written = os.fsencode(page).decode("utf-8", "replace")
    print(f"{found.hypothesis.text or '(no text)'}\n{written}: {len(text) / 1e6:.1f} MB")
    return 0


def _heard(file: str, waveform: np.ndarray, sample_rate: int) -> Sound | None:
    from asr.inspection.sound import listen

    try:
        return listen(waveform, sample_rate)
    except ImportError as error:
        _tell(file, f"spectrogram, pitch, level and mel frequencies are left out: {error}")
        return None


def _tell(file: str, notice: str) -> None:
    say("inspect", f"{file}: {notice}")


def _units(text: str | None, n_units: int) -> list[int]:
    """Read a list such as ``0-15,40``."""
    if text is None:
        n_shown = min(_DEFAULT_UNITS, n_units)
        return [place * n_units // n_shown for place in range(n_shown)]
    units: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ConfigError(f"--units {text}: {part!r} is neither a unit nor a range; expected such as 0-15,40")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < n_units:
            raise ConfigError(f"--units {text}: {part!r} is not within 0-{n_units - 1}, the units of a layer")
        units += range(first, last + 1)
    return list(dict.fromkeys(units))
