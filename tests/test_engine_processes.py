"""What is said where a process of a run can no longer work with the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import DistBackendError, DistNetworkError, DistStoreError

from asr.engine.processes import failure_of_another, lost_another

ANOTHER_ENDED = "process 1 of the run stops, because another one ended; see its message, if any"


@pytest.mark.parametrize(
    ("error", "began", "says_so"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:533] Connection closed by peer"), True, False),
        (DistBackendError("NCCL error: remote process exited"), True, False),
        (DistBackendError("NCCL error: invalid usage:\n two processes have one GPU"), False, True),
        (RuntimeError("[gloo/transport/tcp/device.cc:84] unable to resolve hostname"), False, True),
        (DistNetworkError("The server socket has failed to listen: address already in use"), False, True),
        (DistNetworkError("The client socket has timed out"), True, True),
        (DistStoreError("wait timeout after 10000ms"), True, True),
    ],
)
def test_the_cause_is_shown_where_no_other_process_can_have_said_it(error: RuntimeError, began: bool, says_so: bool) -> None:
    trainer: Any = SimpleNamespace(global_rank=1, strategy=SimpleNamespace(launcher=None))
    assert lost_another(error)
    message = str(failure_of_another(trainer, error, began=began))
    assert (message == ANOTHER_ENDED) is not says_so
    assert (" ".join(str(error).split()) in message) is says_so
    assert ("MASTER_PORT" in message) is says_so


@pytest.mark.parametrize(
    ("error", "began", "says_so"),
    [
        (RuntimeError("gloo: Connection closed by peer"), True, False),
        (RuntimeError("gloo: Connection closed by peer"), False, False),
        (DistNetworkError("address already in use"), False, True),
    ],
)
def test_a_process_that_was_started_and_ended_has_said_why(error: RuntimeError, began: bool, says_so: bool) -> None:
    codes = [0, 2, -15]
    started = [SimpleNamespace(wait=lambda seconds, code=code: code) for code in codes]
    trainer: Any = SimpleNamespace(global_rank=1, strategy=SimpleNamespace(launcher=SimpleNamespace(procs=started)))
    failure = failure_of_another(trainer, error, began=began)
    assert failure.exit_code == 2
    assert (str(failure) == ANOTHER_ENDED) is not says_so
