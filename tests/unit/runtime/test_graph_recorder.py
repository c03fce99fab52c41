"""How PyTorch is asked to record; whether it does, `tests.numerics.test_step_graph_gpu` finds out."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runtime import graph_recorder
from runtime.errors import RunError
from runtime.graph_recorder import CudaRecorder


def test_a_cpu_has_no_graphs() -> None:
    with pytest.raises(RunError, match="--cuda_graph needs a CUDA device"):
        CudaRecorder(torch.device("cpu"))


def test_the_calls_of_torch_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Stream:
        device = torch.device("cuda", 0)

        def __init__(self, name: Any) -> None:
            self.name = name if isinstance(name, str) else "side"

        def wait_stream(self, other: "Stream") -> None:
            calls.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

        def reset(self) -> None:
            calls.append("reset")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        calls.append(f"on {stream.name}")
        yield
        calls.append("off")

    @contextmanager
    def capture(graph: Graph, **how: Any) -> Iterator[None]:
        signature(torch.cuda.graph).bind(graph, **how)
        calls.append(f"capture {how.pop('stream').name} {how}")
        yield
        calls.append("captured")

    fakes = {"Stream": Stream, "CUDAGraph": Graph, "stream": on, "graph": capture}
    cuda = SimpleNamespace(**fakes, current_stream=lambda device: Stream("current"))
    monkeypatch.setattr(graph_recorder, "torch", SimpleNamespace(cuda=cuda))
    recorder = CudaRecorder(torch.device("cuda", 0))
    with recorder.beside():
        calls.append("warm-up")
    assert recorder.capture(lambda: torch.tensor(4.0)).item() == 4.0
    recorder.replay()
    recorder.release()
    assert calls == [
        "side waits for current", "on side", "warm-up", "off", "current waits for side",
        "capture side {'capture_error_mode': 'thread_local'}", "captured", "replay", "reset",
    ]  # fmt: skip
