"""Weights in fewer bits for a file, and back to float32."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from asr.errors import PackageError
from asr.untrusted import open_file

STORAGES = ("float32", "float16", "int8")
"""What matrices can be stored as; vectors (biases, normalisation, statistics) are float32 always."""

SCALE = ":scale"
"""Ends the name of the vector that belongs to a matrix of integers, one factor a row."""

MAX_WEIGHTS = 1 << 28
"""Of a network that is read from a file: a gibibyte in float32."""

_MAX_HEADER_BYTES = 1 << 20  # some thousands of tensors
_LARGEST = 127


def check_header(path: Path) -> None:
    """Make sure that a safetensors file describes no more tensors than a network has, before the description is read.

    Raises
    ------
    PackageError
        It is no regular file, or larger than :data:`MAX_WEIGHTS` take.
    ValueError
        Its header is too long.
    OSError
        It is absent, or may not be read.
    """
    with open_file(path, 4 * MAX_WEIGHTS + _MAX_HEADER_BYTES) as stream:
        (n_bytes,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
    if n_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {n_bytes:,} bytes; expected {_MAX_HEADER_BYTES:,} at most")


def check_size(where: str, shapes: Iterable[tuple[int, ...]]) -> None:
    """Refuse a network that has more weights than are read.

    Raises
    ------
    PackageError
        With both numbers.
    """
    n_weights = sum(map(math.prod, shapes))
    if n_weights > MAX_WEIGHTS:
        raise PackageError(f"{where}: describes a network of {n_weights:,} weights; expected {MAX_WEIGHTS:,} at most")


def to_stored(weights: Mapping[str, torch.Tensor], storage: str) -> dict[str, torch.Tensor]:
    """Bring a network's weights into the form in which they are stored.

    In ``int8`` a row is an integer from -127 to 127 a weight, times the row's largest magnitude over 127; a row is what one
    output of a layer is made of.

    Parameters
    ----------
    weights
        Tensors by name.
    storage
        One of :data:`STORAGES`.

    Returns
    -------
    dict
        Tensors by name; ``int8`` adds one named ``NAME:scale`` of shape ``(row,)`` to each matrix.

    Examples
    --------
    >>> stored = to_stored({"w": torch.tensor([[1.0, -0.5], [0.0, 0.0]])}, "int8")
    >>> stored["w"].tolist(), stored["w:scale"].mul(127).tolist()
    ([[127, -64], [0, 0]], [1.0, 0.0])
    """
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            stored[name] = tensor
        elif storage == "int8":
            scale = tensor.flatten(1).abs().amax(1) / _LARGEST
            divisor = torch.where(scale == 0, 1, scale)
            stored[name] = (tensor / _by_row(divisor, tensor)).round().clamp(-_LARGEST, _LARGEST).to(torch.int8)
            stored[name + SCALE] = scale
        else:
            stored[name] = tensor.to(getattr(torch, storage))
    return stored


def from_stored(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights that :func:`to_stored` brought into another form, in float32."""
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            weights[name] = tensor.float() * _by_row(stored[name + SCALE], tensor)
        elif not name.endswith(SCALE):
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def _by_row(factors: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """``(row,)`` as ``(row, 1, ...)``, with the dimensions of the tensor."""
    return factors.view(-1, *[1] * (tensor.ndim - 1))
