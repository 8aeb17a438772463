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
