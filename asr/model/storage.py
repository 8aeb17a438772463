"""Weights in fewer bits for a file, and back to float32."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from torch import nn

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
_DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}
# Of zip files (torch.save) and pickles of the protocols 2 to 5.
_FOREIGN_STARTS = (b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6)))


def plain_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a network's weights on the CPU, as safetensors refuses shared memory; floats become float32."""
    return {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }


def check_finite(weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    PackageError
        With the tensor's name.
    """
    for name, tensor in weights.items():
        # The extremes of what holds NaN are NaN; they are found without a copy.
        if tensor.is_floating_point() and tensor.numel() and not all(map(math.isfinite, map(float, tensor.aminmax()))):
            raise PackageError(f"{where}: tensor {name} holds NaN or infinity; the training that wrote it had diverged")


def compressed(weights: Mapping[str, torch.Tensor], storage: str, where: str) -> dict[str, torch.Tensor]:
    """Return what :func:`to_stored` makes of weights.

    Raises
    ------
    PackageError
        A weight is larger than the storage can hold.
    """
    stored = to_stored(weights, storage)
    for name, tensor in stored.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            largest = float(weights[name].abs().max())
            raise PackageError(f"{where}: tensor {name} reaches {largest:.3g}, which {storage} cannot hold; use int8")
    return stored


def read_weights(path: Path, network: nn.Module, described_by: str) -> dict[str, torch.Tensor]:
    """Read weights after their names, shapes and types were found to be those of a network.

    Parameters
    ----------
    path
        A safetensors file; matrices may be stored in any of :data:`STORAGES`.
    network
        What the weights are for; its own are not looked at and may be on the device ``meta``.
    described_by
        Which files of the package say what the network is, for messages.

    Raises
    ------
    PackageError
        The file is corrupt or foreign, or holds other weights.
    """
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in network.state_dict().items()}
    n_weights = sum(math.prod(shape) for shape, _ in expected.values())
    if n_weights > MAX_WEIGHTS:
        raise PackageError(
            f"{path.parent / 'config.yaml'}: describes a network of {n_weights:,} weights; expected {MAX_WEIGHTS:,} at most"
        )
    try:
        _check_size(path)
        with safetensors.safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            headers = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in found.items()}
            _check_headers(path, headers, expected, described_by)
            # Copies, since the file may be overwritten.
            weights = from_stored({name: file.get_tensor(name).clone() for name in headers})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        with open(path, "rb") as stream:
            start = stream.read(2)
        foreign = "a pickle or zip file renamed" if start in _FOREIGN_STARTS else "corrupt, truncated or foreign"
        raise PackageError(f"{path}: not a safetensors file: {foreign} ({error})") from None
    check_finite(weights, str(path))
    return weights


def _check_size(path: Path) -> None:
    """Make sure that a file describes no more tensors than a network has, before the description is read."""
    with open_file(path, 4 * MAX_WEIGHTS + _MAX_HEADER_BYTES) as stream:
        (n_bytes,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
    if n_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {n_bytes:,} bytes; expected {_MAX_HEADER_BYTES:,} at most")


def _check_headers(
    path: Path,
    found: Mapping[str, tuple[tuple[int, ...], str]],
    expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    described_by: str,
) -> None:
    wanted: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, (shape, dtype) in expected.items():
        wanted[name] = (shape, _DTYPE_NAMES.get(dtype, str(dtype)))
        stored = found.get(name, wanted[name])[1]
        if len(shape) > 1 and dtype == torch.float32 and stored in ("F16", "I8"):
            wanted[name] = (shape, stored)
            if stored == "I8":
                wanted[name + SCALE] = (shape[:1], "F32")
    for name, header in wanted.items():
        if name not in found:
            raise PackageError(f"{path}: tensor {name} not found; the network of config.yaml needs it, {_describe(*header)}")
        if found[name] != header:
            raise PackageError(f"{path}: tensor {name} is {_describe(*found[name])}; by {described_by} {_describe(*header)}")
    foreign = sorted(found.keys() - wanted.keys())
    if foreign:
        raise PackageError(f"{path}: tensor {foreign[0]} is not part of the network of config.yaml")


def _describe(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype} of shape ({', '.join(map(str, shape))})"


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
            weights[name] = tensor.float().mul_(_by_row(stored[name + SCALE], tensor))
        elif not name.endswith(SCALE):
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def _by_row(factors: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """``(row,)`` as ``(row, 1, ...)``, with the dimensions of the tensor."""
    return factors.view(-1, *[1] * (tensor.ndim - 1))
