"""``asr tune``: find the decoder's settings on a development set and write them into the model package."""

from __future__ import annotations

import argparse

from asr.commands.arguments import MODEL, add_batch_seconds, add_device, add_manifests
from asr.commands.numbers import file_path, gib, index, positive
from asr.commands.overrides import add_decoding, given_manifests, given_overrides, with_overrides
from asr.errors import INTERRUPTED, LEFT_OUT
from asr.output import say
from asr.package.shipped import find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "example: asr tune runs/mini/package librispeech/dev-clean decoding.kind=beam_ngram decoding.lm=runs/lm/novels"
    )
    parser.add_argument("model", metavar="MODEL", help=f"{MODEL}; the settings are written into it")
    parser.add_argument(
        "manifests",
        nargs="+",
        metavar="MANIFEST",
        help="names such as librispeech/dev-clean, or paths; settings of the decoder, such as decoding.beam=100, which are "
        "not searched",
    )
    add_decoding(parser)
    parser.add_argument(
        "--keys",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=LOW:HIGH",
        help="search these alone, such as decoding.lm_weight=0.2:3, or decoding.lm_weight for its usual range; by default all "
        "that changes what this kind of decoder writes",
    )
    parser.add_argument("--trials", type=positive, default=60, metavar="N", help="decodes at most (%(default)s)")
    parser.add_argument(
        "--subset",
        type=index,
        default=150,
        metavar="N",
        help="utterances on which settings are explored before the best are tried on all; 0 is all (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=index, default=1, metavar="N", help="the same seed tries the same settings (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="leave the package as it is")
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="DIR", help="write tuning.png and tuning.jsonl here, not to MODEL/tuning"
    )
    add_manifests(parser)
    add_batch_seconds(parser)
    parser.add_argument(
        "--cache-gib",
        type=gib,
        default=2.0,
        metavar="GIB",
        help="memory for the network's output; what takes more goes to a temporary file (%(default)g)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Tune; 130 if the search was interrupted, 3 if an utterance had to be left out, 0 otherwise."""
    names = given_manifests(args, " to tune on")
    from asr.data.manifest import read_manifest
    from asr.files import check_output_folder
    from asr.package.load import read_package
    from asr.package.save import check_updatable
    from asr.tuning import Limits, check_decoder, searched_keys, tune_package
    from asr.tuning.storing import keep
    from asr.tuning.summary import summary

    overrides = given_overrides(args)
    cuts = read_manifest(names, args.folder)
    package = read_package(find_model(args.model), args.device)
    decoding = with_overrides(package.config, overrides).decoding
    keys = searched_keys(decoding, args.keys, [item.removeprefix("decoding.").partition("=")[0] for item in overrides])
    if not args.dry_run:
        check_updatable(package.folder)
    if args.output:
        check_output_folder(args.output)
    check_decoder(decoding, package)
    limits = Limits(args.trials, args.subset, args.seed, args.batch_seconds, round(args.cache_gib * 2**30))
    tuned = tune_package(package, decoding, keys, cuts, names, limits, device=args.device)
    written = keep(tuned, args.output, dry_run=args.dry_run)
    for reason in tuned.posteriors.left_out.values():
        say("tune", reason)
    print(summary(tuned))
    if written:
        print(f"written: {', '.join(written)}")
    if tuned.tuning.interrupted:
        kept = "the best so far was kept" if not args.dry_run else "the best so far is shown above"
        say("tune", f"interrupted after {len(tuned.tuning.trials)} trials; {kept}")
        return INTERRUPTED
    return LEFT_OUT if tuned.posteriors.left_out else 0
