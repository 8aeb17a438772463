"""``asr compare``: error rates of texts from files, and which differences between systems are real."""

from __future__ import annotations

import argparse
import os
from functools import partial

from asr.commands.arguments import add_details, add_normaliser, add_report, check_report
from asr.commands.numbers import file_path, per_cent, positive
from asr.errors import LEFT_OUT, ConfigError, Failure
from asr.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "systems",
        nargs="+",
        type=file_path,
        metavar="FILE",
        help="what a system wrote: a .jsonl of `asr evaluate -o`, or anybody's .jsonl, .json, .csv, .tsv, .trn, .txt, Kaldi's "
        "text, .ctm, .stm or SegLST",
    )
    parser.add_argument(
        "--references",
        type=file_path,
        metavar="FILE",
        help="what was said, in any of these forms; by default the systems' files hold it",
    )
    parser.add_argument(
        "--format", metavar="FORM", help="form of all files: jsonl, json, csv, tsv, trn, kaldi, txt, ctm, stm (by their names)"
    )
    add_normaliser(parser)
    add_details(parser)
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="utterances and words that are named (%(default)s)"
    )
    parser.add_argument("--markdown", action="store_true", help="print a table for a text in Markdown")
    parser.add_argument(
        "--fail-above", type=per_cent, metavar="PERCENT", help="exit with code 1 where a system's word error rate is above this"
    )
    parser.add_argument("-o", "--output", type=file_path, metavar="FILE", help="also write all figures as JSON")
    add_report(parser, "PAGE.html")


def run(args: argparse.Namespace) -> int:
    """Score each system, and compare each two; 1 if a WER is above the limit, 3 if the report lacks sound, 0 otherwise."""
    check_report(args)

    from asr.files import check_not_read, check_output_file, write_json
    from asr.scoring.breakdown import break_down
    from asr.scoring.compare import compare
    from asr.scoring.normalisers import build_normaliser
    from asr.scoring.systems import read_systems

    inputs = [*args.systems, *filter(None, [args.references])]
    for file in filter(None, (args.output, args.report)):
        check_output_file(file)
        check_not_read([file], [*inputs, *(path.with_suffix(".json") for path in inputs if path.suffix == ".jsonl")])
    if args.output and args.report and os.path.realpath(args.output) == os.path.realpath(args.report):
        raise ConfigError(f"-o and --report are both {args.output}; name two files")
    normaliser = build_normaliser(args.normaliser) if args.normaliser else None
    corpus = read_systems(args.systems, args.references, kind=args.format, normaliser=normaliser)
    notes = [*corpus.notes, *filter(None, [corpus.systems[0].score.caution])]
    notes += [f"texts were normalised by {normaliser.name}"] if normaliser else []
    for note in corpus.notes:
        say("compare", note)
    comparison = compare(corpus.systems, corpus.speakers)
    details = {
        one.name: break_down(one.score, one.alignments, known)
        for one, known in zip(corpus.systems, corpus.attributes, strict=True)
    }
    print(comparison.markdown() if args.markdown else comparison.summary(args.top))
    if normaliser:
        print(f"normaliser {normaliser.name}")
    if args.details:
        for name, found in details.items():
            print(f"\n{name}\n{found.summary(args.top)}")
    if args.output:
        by_name = {name: found.to_mapping() for name, found in details.items()}
        write_json(args.output, {**comparison.to_mapping(), "details": by_name, "notes": notes})
    n_silent = 0
    if args.report:
        from asr.scoring.report import Report

        report = Report(
            title=" and ".join(details),
            systems=corpus.systems,
            details=list(details.values()),
            attributes=corpus.attributes,
            differences=comparison.differences,
            notes=notes,
        )
        n_silent = report.write(args.report, embed_audio=args.embed_audio, tell=partial(say, "compare"))
    limit = args.fail_above
    above = [one for one in corpus.systems if limit is not None and one.score.wer.is_above(limit)]
    for one in above:
        say("compare", f"{one.name}: {one.score.wer.phrase('WER')} is above --fail-above {limit:g}")
    if above:
        return Failure.exit_code
    return LEFT_OUT if n_silent else 0
