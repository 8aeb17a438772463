"""Where a network runs."""

from __future__ import annotations

import torch

from asr.errors import ConfigError


def check_device(device: str | torch.device) -> torch.device:
    """Return a device after something was put on it.

    Raises
    ------
    ConfigError
        It is not there.
    """
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
        if target.type == "meta":
            raise RuntimeError("it holds no data")
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ConfigError(f"device {str(device)!r} cannot be used here ({reason}); 'cpu' always can") from None
    return target


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a processor has instructions for products of bfloat16; imitated they are far slower than those of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))
