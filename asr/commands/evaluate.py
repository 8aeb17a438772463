"""``asr evaluate``: error rates of a model on prepared manifests."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from asr.commands.arguments import (
    MODEL,
    add_batch_seconds,
    add_details,
    add_device,
    add_manifests,
    add_normaliser,
    add_report,
    add_threads,
    check_report,
    use_threads,
)
from asr.commands.numbers import file_path, per_cent
from asr.commands.overrides import add_decoding, add_hot_words, given_manifests, given_overrides, with_overrides
from asr.data.manifest import manifest_stems
from asr.errors import LEFT_OUT, Failure
from asr.output import say
from asr.package.shipped import find_model

if TYPE_CHECKING:
    from asr.scoring.curves import Curves
    from asr.scoring.evaluation import Evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "manifests",
        nargs="+",
        metavar="MANIFEST",
        help="names such as librispeech/dev-clean, or paths; and settings of the decoder, such as decoding.kind=greedy",
    )
    add_manifests(parser)
    add_batch_seconds(parser)
    add_device(parser)
    add_threads(parser)
    add_decoding(parser)
    add_hot_words(parser)
    parser.add_argument("-o", "--output", type=file_path, metavar="DIR", help="also write DIR/<manifest>.jsonl and .json")
    parser.add_argument(
        "--calibration",
        type=file_path,
        metavar="DIR",
        help="also find the words' confidences and times, report how true they are, and write the reliability diagram to "
        "DIR/<manifest>.calibration.svg and its figures to .json",
    )
    add_normaliser(parser)
    add_details(parser)
    add_report(parser, "DIR", ", DIR/<manifest>.html")
    parser.add_argument(
        "--fail-above",
        type=per_cent,
        metavar="PERCENT",
        help="exit with code 1 where the word error rate of a manifest is above this, such as 12.5; all are measured first",
    )


def run(args: argparse.Namespace) -> int:
    """Score each manifest by itself; 1 if one's WER is above the limit, 3 if an utterance or its sound is left out."""
    names = given_manifests(args)
    stems = manifest_stems(names)
    check_report(args)

    from asr.data.manifest import read_manifest
    from asr.decoding import build_decoder
    from asr.decoding.words.confidence import Calibration
    from asr.package.load import read_package
    from asr.progress import Progress
    from asr.scoring.curves import read_curves
    from asr.scoring.evaluation import evaluate
    from asr.scoring.normalisers import build_normaliser
    from asr.scoring.report import check_embedded

    _check_places(args, stems)
    normaliser = build_normaliser(args.normaliser) if args.normaliser else None
    corpora = {name: read_manifest(name, args.folder) for name in names}
    if args.embed_audio:
        for name, cuts in corpora.items():
            check_embedded(name, sum(cut.duration for cut in cuts))
    use_threads(args.threads)
    package = read_package(find_model(args.model), args.device)
    config = with_overrides(package.config, given_overrides(args), args.hotwords)
    curves = read_curves(package.folder.parent) if args.report else {}
    decoder = build_decoder(config.decoding, package.tokenizer, package.folder)
    n_left_out = 0
    above: list[str] = []
    for name, cuts in corpora.items():
        with Progress(name, sum(cut.duration for cut in cuts), "s of audio", in_logs=False) as progress:
            result = evaluate(
                cuts,
                package.model,
                decoder,
                corpus=name,
                checkpoint=package.checkpoint_hash,
                batch_s=args.batch_seconds,
                words=Calibration.configured(config.decoding) if args.calibration or args.report else None,
                normaliser=normaliser,
                on_progress=progress.advance,
            )
        n_left_out += len(result.left_out) + _deliver(result, args, stems[name], curves)
        if args.fail_above is not None and result.score.wer.is_above(args.fail_above):
            above.append(f"{name}: {result.score.wer.phrase('WER')} is above --fail-above {args.fail_above:g}")
    for line in above:
        say("evaluate", line)
    if above:
        return Failure.exit_code
    return LEFT_OUT if n_left_out else 0


def _check_places(args: argparse.Namespace, stems: Mapping[str, str]) -> None:
    """Refuse places that cannot be written to, and manifests that would be overwritten, before any work is done."""
    from asr.data.manifest import resolve
    from asr.files import check_not_read, check_output_folder

    for folder in filter(None, (args.output, args.calibration, args.report)):
        check_output_folder(folder)
    if args.output:
        written = [args.output / f"{stem}.jsonl" for stem in stems.values()]
        check_not_read(written, [resolve(name, args.folder) for name in stems])


def _deliver(result: Evaluation, args: argparse.Namespace, stem: str, curves: Curves) -> int:
    """Print and write what was found on a manifest; return the number of sounds that its report lacks."""
    from asr.scoring.diagram import write_calibration
    from asr.scoring.report import evaluation_report

    for reason in result.left_out.values():
        say("evaluate", reason)
    print(result.summary(), flush=True)
    if args.details:
        print(result.details().summary(), flush=True)
    if args.output:
        result.write(args.output, stem)
    if result.calibration is not None and args.calibration:
        write_calibration(result.calibration, args.calibration, stem, title=result.corpus)
    if not args.report:
        return 0
    report = evaluation_report(result, args.model, curves)
    return report.write(args.report / f"{stem}.html", embed_audio=args.embed_audio, tell=partial(say, "evaluate"))
