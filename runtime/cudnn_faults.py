"""Versions of cuDNN and PyTorch that compute 3-D convolutions wrongly or slowly."""

from dataclasses import dataclass

import torch

HALVES = (torch.float16, torch.bfloat16)
BOTH = ("NCDHW", "NDHWC")
ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with 3-D convolutions from one version of cuDNN up to another, which is free of it."""

    first: int
    fixed: int
    dtypes: tuple[torch.dtype, ...]
    layouts: tuple[str, ...]
    what: str
    """With what to do about it."""
    source: str
    refused: bool
    """Or only noted: where it is a doubt."""
    torch: str = ""
    """The version of PyTorch that has the fault; empty for any."""


FAULTS = (
    Fault(
        first=90800,
        fixed=ENDLESS,
        dtypes=HALVES,
        layouts=BOTH,
        what="PyTorch 2.9.0 keeps all 16-bit 3-D convolutions away from cuDNN, which was reported to make "
        "them 4 times slower; take PyTorch 2.10 or newer",
        source="pytorch issues 166122 and 166643, pull request 163581",
        refused=True,
        torch="2.9.0",
    ),
    Fault(
        first=90800,
        fixed=91500,
        dtypes=HALVES,
        layouts=("NCDHW",),
        what="16-bit 3-D convolutions of contiguous tensors gave wrong results, or are slow where PyTorch "
        "keeps them away from cuDNN; take --layout NDHWC, or cuDNN 9.15 or newer",
        source="pytorch issue 163539, pull request 166480",
        refused=True,
    ),
    Fault(
        first=90800,
        fixed=91500,
        dtypes=HALVES,
        layouts=("NDHWC",),
        what="16-bit 3-D convolutions of contiguous tensors gave wrong results; nobody reported those of "
        "NDHWC, and cuDNN 9.15 is free of doubt",
        source="pytorch issue 163539, pull request 166480",
        refused=False,
    ),
    Fault(
        first=91002,
        fixed=91600,
        dtypes=(torch.float32,),
        layouts=BOTH,
        what="a TF32 kernel for 3-D convolutions is broken for shapes that were not named; take cuDNN 9.16 "
        "or newer, or set NVIDIA_TF32_OVERRIDE=0 for true float32",
        source="pytorch pull request 167024",
        refused=False,
    ),
    Fault(
        first=92000,
        fixed=92100,
        dtypes=(torch.bfloat16,),
        layouts=BOTH,
        what="another network's 3-D convolution found no bfloat16 engine for its backward pass; should that "
        "happen here, take --amp_dtype float16 or another cuDNN",
        source="NVIDIA-TAO/tao-core pull request 29",
        refused=False,
    ),
)
"""From reports, not from runs of ours. A version that is not named has no fault that we know of."""


def faults(cudnn: int, dtype: torch.dtype, layout: str, torch_version: str) -> list[Fault]:
    """What is known to be wrong with convolutions in ``dtype`` and ``layout``.

    Args:
        cudnn: As ``torch.backends.cudnn.version()`` gives it: 91501 is 9.15.1.
        dtype: Of the activations.
        layout: ``NCDHW`` or ``NDHWC``.
        torch_version: As ``torch.__version__``.
    """
    return [
        fault
        for fault in FAULTS
        if fault.first <= cudnn < fault.fixed
        and dtype in fault.dtypes
        and layout in fault.layouts
        and (not fault.torch or torch_version.split("+")[0] == fault.torch)
    ]


def version_name(cudnn: int) -> str:
    """9.15.1 for 91501, 8.9.2 for 8902."""
    major, rest = divmod(cudnn, 10000) if cudnn >= 90000 else divmod(cudnn, 1000)
    return f"{major}.{rest // 100}.{rest % 100}"
