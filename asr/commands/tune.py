"""``asr tune``: find the decoder's settings on a development set and write them into the model package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.commands.arguments import add_device
from asr.commands.numbers import file_path, seconds
from asr.commands.overrides import add_decoding, given_overrides, is_override, with_overrides
from asr.errors import LEFT_OUT, ConfigError
from asr.shipped import find_model

if TYPE_CHECKING:
    from asr.package import ModelPackage
    from asr.tuning import Posteriors, Tuning
    from asr.tuning.objective import Decoded

DESCRIPTION = "find the decoder's settings on a development set, and write them into the model package"
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "example: asr tune runs/mini/package librispeech/dev-clean decoding.kind=beam_ngram decoding.lm=runs/lm/novels"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a model package, or a name that `asr models` lists; the settings are written into it",
    )
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
    parser.add_argument("--trials", type=int, default=60, metavar="N", help="decodes at most (%(default)s)")
    parser.add_argument(
        "--subset",
        type=int,
        default=150,
        metavar="N",
        help="utterances on which settings are explored before the best are tried on all; 0 is all (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed tries the same settings (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="leave the package as it is")
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="DIR", help="write tuning.png and tuning.jsonl here, not to MODEL/tuning"
    )
    parser.add_argument(
        "--manifests", dest="folder", metavar="DIR", default="data/manifests", help="their folder (%(default)s)"
    )
    parser.add_argument(
        "--batch-seconds", type=seconds, default=160.0, metavar="S", help="audio recognised at once (%(default)g s)"
    )
    parser.add_argument(
        "--cache-gib",
        type=float,
        default=2.0,
        metavar="GIB",
        help="memory for the network's output; what takes more goes to a temporary file (%(default)g)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Tune; 130 if the search was interrupted, 3 if an utterance had to be left out, 0 otherwise."""
    names = [item for item in args.manifests if not is_override(item)]
    overrides = given_overrides(args)
    _check(args, names)
    from asr.data.manifest import read_manifest
    from asr.files import check_output_folder
    from asr.package import check_updatable, read_package
    from asr.tuning import Objective, Posteriors, check_decoder, searched_keys, tune, with_priors
    from asr.tuning.display import Display

    cuts = read_manifest(names, args.folder)
    package = read_package(find_model(args.model), args.device)
    decoding = with_overrides(package.config, overrides).decoding
    keys = searched_keys(decoding, args.keys, [item.removeprefix("decoding.").partition("=")[0] for item in overrides])
    if not args.dry_run:
        check_updatable(package.folder)
    if args.output:
        check_output_folder(args.output)
    check_decoder(decoding, package)
    with Display(sum(cut.duration for cut in cuts)) as display:
        posteriors = Posteriors.compute(
            cuts,
            package.model,
            batch_s=args.batch_seconds,
            limit_bytes=round(args.cache_gib * 2**30),
            on_progress=display.advance,
        )
        display.computed(posteriors)
        objective = Objective(
            posteriors,
            with_priors(decoding, keys, posteriors),
            package.tokenizer,
            package.folder,
            device=args.device,
            on_progress=display.advance,
        )
        before = objective.before(package.config.decoding)
        tuning = tune(
            objective,
            keys,
            n_trials=args.trials,
            n_part=args.subset,
            seed=args.seed,
            on_plan=display.plan,
            on_trial=display.trial,
        )
    return _finish(args, names, package, posteriors, tuning, before)


def _check(args: argparse.Namespace, names: Sequence[str]) -> None:
    if not names:
        raise ConfigError("no manifest is named; expected at least one to tune on, such as librispeech/dev-clean")
    for option, value, low in (("--trials", args.trials, 1), ("--subset", args.subset, 0), ("--seed", args.seed, 0)):
        if value < low:
            raise ConfigError(f"{option} {value}: expected an integer of at least {low}")
    if not 0 <= args.cache_gib < 2**20:
        raise ConfigError(f"--cache-gib {args.cache_gib:g}: expected GiB of memory, at least 0")


def _finish(
    args: argparse.Namespace,
    names: Sequence[str],
    package: ModelPackage,
    posteriors: Posteriors,
    tuning: Tuning,
    before: Decoded | None,
) -> int:
    """Write and print what was found."""
    from asr.tuning.storing import FOLDER, records, store, write_records
    from asr.tuning.summary import summary, title

    files = records(tuning, title(names, tuning))
    written: list[str] = []
    if args.output:
        write_records(files, args.output)
        written += [str(args.output / name) for name in files]
    if not args.dry_run:
        inside = {} if args.output else {f"{FOLDER}/{name}": content for name, content in files.items()}
        copied = store(package, tuning, names, files=inside)
        written += [str(package.folder / name) for name in ("config.yaml", "README.md", *copied, *inside)]
    for reason in posteriors.left_out.values():
        print(f"asr tune: {reason}", file=sys.stderr)
    print(summary(names, package, posteriors, tuning, before))
    if written:
        print(f"written: {', '.join(written)}")
    if tuning.interrupted:
        kept = "the best so far was kept" if not args.dry_run else "the best so far is shown above"
        print(f"asr tune: interrupted after {len(tuning.trials)} trials; {kept}", file=sys.stderr)
        return _INTERRUPTED
    return LEFT_OUT if posteriors.left_out else 0
