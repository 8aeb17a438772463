"""Arguments that several commands share."""

from __future__ import annotations

import argparse

from asr.commands.numbers import threads


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that says where the network runs."""
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that says how many threads compute; :func:`use_threads` obeys it."""
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads (default: torch's choice)")


def use_threads(n: int | None) -> None:
    """Compute with so many threads from now on; None leaves torch's choice."""
    if n is not None:
        import torch

        torch.set_num_threads(n)
