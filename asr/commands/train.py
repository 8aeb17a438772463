"""``asr train``: compose a configuration and train with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from asr.commands.arguments import add_configuration, print_config
from asr.commands.numbers import file_path, positive
from asr.errors import ConfigError


def _describe(config_dir: Path | None) -> str:
    from asr.compose import describe

    return describe(config_dir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = "example: asr train +recipe=librispeech/mini trainer.epochs=3 output=runs/trial"
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="+recipe=NAME, GROUP=NAME, or KEY=VALUE, in any order"
    )
    parser.add_argument("--config-dir", type=file_path, metavar="DIR", help="folder with your own groups and recipes")
    parser.add_argument(
        "--multirun",
        "-m",
        action="store_true",
        help="train with each of the values that overrides list (seed=1,2 +recipe=cells/lstm,cells/gru) and write a table",
    )
    parser.add_argument(
        "--evaluate", nargs="+", default=[], metavar="MANIFEST", help="with --multirun: measure each model on these as well"
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="with --multirun: so many side by side, whose output goes to files (1)",
    )
    add_configuration(parser, _describe)


def run(args: argparse.Namespace) -> int:
    """Train once or with each combination of values, or print the configuration."""
    from asr.compose import compose

    if args.multirun:
        return _sweep(args)
    if args.evaluate:
        raise ConfigError("--evaluate goes with --multirun; measure one model with `asr evaluate MODEL MANIFEST`")
    config = compose(args.overrides, args.config_dir)
    if args.jobs > 1:
        raise ConfigError("--jobs goes with --multirun; trainer.devices=N trains one model with N processes")
    if args.print_config:
        return print_config(config)
    from asr.training import train

    return train(config)


def _sweep(args: argparse.Namespace) -> int:
    from asr.compose import compose, expand

    combinations = expand([text for text in args.overrides if not text.startswith("output=")])
    configs = [compose(overrides, args.config_dir) for overrides in combinations]  # nothing starts before all are right
    if args.print_config:
        raise ConfigError("--print-config shows one configuration; leave out --multirun and name one value each")
    manifests = {config.corpus.manifests for config in configs}
    if args.evaluate and len(manifests) > 1:
        raise ConfigError(f"--evaluate reads from one folder, but corpus.manifests is {', '.join(sorted(manifests))}")
    base = Path(compose([text for text in args.overrides if text.startswith("output=")] or ["output=runs/sweep"]).output)

    from asr.data.manifest import SUFFIXES, manifest_stems, read_manifest, resolve
    from asr.files import check_output_folder
    from asr.training.sweep import build_jobs, sweep

    check_output_folder(base)
    for part in manifest_stems(args.evaluate):
        if "=" in part and not part.endswith(SUFFIXES):
            raise ConfigError(f"--evaluate {part}: expected a manifest; write overrides before --evaluate")
        read_manifest(part, min(manifests))
    for config in configs:
        if not config.corpus.train:
            raise ConfigError("corpus.train is empty; name manifests or a recipe, as in +recipe=cells/lstm,cells/gru")
        for part in [*config.corpus.train, *config.corpus.dev]:
            resolve(part, config.corpus.manifests)
    options = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    jobs = build_jobs(combinations, configs, base)
    return sweep(jobs, base, options=options, parts=args.evaluate, manifests=min(manifests), side_by_side=args.jobs)
