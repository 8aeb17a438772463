"""``asr train``: compose a configuration and train with it."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = "train a model with a recipe and overrides, and write a model package"


class _Help(argparse.Action):
    """Help that lists all that can be set, the user's own files included."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        from asr.compose import describe

        print(f"{parser.format_help()}\n{describe(namespace.config_dir)}")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = "example: asr train +recipe=librispeech/mini trainer.epochs=3 output=runs/trial"
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="+recipe=NAME, GROUP=NAME, or KEY=VALUE, in any order"
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder with your own groups and recipes")
    parser.add_argument("--print-config", action="store_true", help="print the composed configuration as YAML, and stop")
    parser.add_argument(
        "-h", "--help", action=_Help, nargs=0, default=argparse.SUPPRESS, help="show this and all that can be set"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or print the configuration."""
    from asr.compose import compose

    config = compose(args.overrides, args.config_dir)
    if args.print_config:
        from asr.config import to_yaml

        print(to_yaml(config), end="")
        return 0
    from asr.training import train

    return train(config)
