"""Our recogniser, as ``asr.load_model`` gives it, on one thread; see :mod:`benchmarks.worker`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.worker import work


def load(model: str | None) -> tuple[str, Callable[[str], str]]:
    """Return the model's name and its recogniser."""
    import torch

    import asr

    torch.set_num_threads(1)
    recogniser = asr.load_model(model)
    return f"asr, {recogniser.package.config.name}", lambda file: recogniser.transcribe(file).text


if __name__ == "__main__":
    work(load)
