"""Where kernels are tested, in which dtypes, and in memory that shows what was not written."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernels run on the CUDA device")
CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = [pytest.param("cpu", marks=CPU), pytest.param("cuda", marks=CUDA)]
BACKENDS = [
    ("reference", "cpu"),
    pytest.param("triton", "cpu", marks=CPU),
    pytest.param("triton", "cuda", marks=CUDA),
]
KERNELS = [
    pytest.param("cpu", torch.float32, marks=CPU),
    pytest.param("cpu", torch.float16, marks=CPU),
    pytest.param("cuda", torch.float32, marks=CUDA),
    pytest.param("cuda", torch.float16, marks=CUDA),
    pytest.param("cuda", torch.bfloat16, marks=CUDA),
]
"""The interpreter's bfloat16 arithmetic is wrong."""
LAST = torch.channels_last_3d
FORMATS = [torch.contiguous_format, LAST]


@contextmanager
def nan_where_unwritten() -> Iterator[None]:
    """Deterministic algorithms fill new memory with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(1).isnan()
        yield
    finally:
        torch.use_deterministic_algorithms(False)
