"""Recording on a CUDA device, by PyTorch's stream capture."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from runtime.errors import RunError


class Recorder(Protocol):
    """Records device work once, without doing it, and does it as often as asked."""

    def beside(self) -> AbstractContextManager[None]:
        """What runs inside uses the stream that will be recorded, in order with what is before and after."""
        ...

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        """Record ``work``. Its result is memory that each replay writes, and holds nothing before the first.

        Raises:
            RuntimeError: ``work`` does what cannot be recorded, as waiting for the device.
        """
        ...

    def replay(self) -> None:
        """Do the recorded work, on the caller's current stream."""
        ...

    def release(self) -> None:
        """Drop what was recorded, and its memory."""
        ...


class CudaRecorder:
    """A ``torch.cuda.CUDAGraph`` and the side stream it is recorded on.

    With several ranks, PyTorch's notes on CUDA graphs ("Usage with DistributedDataParallel") and NVIDIA's
    ask for an order of things. (Their ``TORCH_NCCL_ASYNC_ERROR_HANDLING=0`` is of the time before 2.2: since
    then PyTorch keeps captured collectives from NCCL's watchdog by itself, and a rank that dies is noticed.)

    1. DistributedDataParallel is constructed inside `beside`: it keeps the nodes that accumulate gradients,
       and these belong to the stream they were made on, which must be the recorded one.
    2. `release` comes before the process group is destroyed: NCCL waits there for graphs that hold its
       collectives, for ever (pytorch/pytorch issue 115388).

    Raises:
        RunError: ``device`` is no GPU.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise RunError(f"--cuda_graph needs a CUDA device, and this run's is the {device.type}: drop it")
        self._stream = torch.cuda.Stream(device)
        self._graph = torch.cuda.CUDAGraph()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """See ``Recorder``."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        """See ``Recorder``."""
        # "thread_local": a loader's threads may allocate or ask for events meanwhile, which the default mode
        # takes for a fault of this capture.
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        """See ``Recorder``."""
        self._graph.replay()

    def release(self) -> None:
        """See ``Recorder``."""
        self._graph.reset()
