"""At start-up: whether cuDNN computes the network's convolutions, in a version that does it well."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from runtime.cudnn_faults import faults, version_name
from runtime.errors import RunError

LAYOUTS = {"NCDHW": torch.contiguous_format, "NDHWC": torch.channels_last_3d}


@dataclass(frozen=True)
class Convolution:
    """One call of a convolution, and which of PyTorch's backends computes it."""

    backend: str
    dtype: torch.dtype
    image: tuple[int, ...]
    weight: tuple[int, ...]
    transposed: bool

    @property
    def is_slow(self) -> bool:
        """Whether it is one of PyTorch's own loops over ``vol2col`` and a matrix product."""
        return self.backend.startswith("Slow")

    def __str__(self) -> str:
        kind = "transposed convolution" if self.transposed else "convolution"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"the {dtype} {kind} of {list(self.image)} by weights of {list(self.weight)}"


class _Witness(TorchDispatchMode):
    """Notes the convolutions that pass, and with ``versions`` stops the first slow one."""

    def __init__(self, versions: str | None) -> None:
        super().__init__()
        self.seen: list[Convolution] = []
        self._versions = versions

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            image, weight = args[:2]
            backend = torch._C._select_conv_backend(*args, **(kwargs or {}))
            shapes = tuple(image.shape), tuple(weight.shape)
            convolution = Convolution(backend.name, image.dtype, *shapes, bool(args[6]))
            self.seen.append(convolution)
            if self._versions and convolution.is_slow:
                raise RunError(
                    f"{self._versions} would not do {convolution} by cuDNN but by PyTorch's slow_conv3d "
                    f"({convolution.backend}): take --layout NDHWC, another --amp_dtype, or a newer PyTorch"
                )
        return func(*args, **(kwargs or {}))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In training, batch norms of several ranks would talk to each other."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def convolutions(
    model: nn.Module,
    shape: Sequence[int],
    device: torch.device,
    amp_dtype: torch.dtype | None,
    layout: str,
    versions: str | None = None,
) -> list[Convolution]:
    """The convolutions that PyTorch itself does in a forward pass, in order; nothing is computed.

    The pass runs on tensors without data, on ``device`` and with the strides of real ones. PyTorch chooses
    by the same rule for the backward pass. Convolutions by kernels of ours are not PyTorch's, so not listed.

    Args:
        model: On ``device``, in its layout, not compiled, not parallel.
        shape: Of the image: N, C, D, H, W.
        device: Where the model runs.
        amp_dtype: Of autocast, or None without it.
        layout: ``NCDHW`` or ``NDHWC``.
        versions: Of cuDNN and PyTorch, in words, to refuse slow convolutions of theirs.

    Raises:
        RunError: With ``versions``: a convolution falls to one of PyTorch's slow loops.
    """
    # Without a cache of casts: it would keep tensors without data for the weights.
    amp = torch.autocast(
        device.type, amp_dtype or torch.float16, enabled=amp_dtype is not None, cache_enabled=False
    )
    with (
        _evaluating(model),
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True),
        _Witness(versions) as witness,
        amp,
    ):
        image: Tensor = torch.empty(tuple(shape), device=device)
        model(image.to(memory_format=LAYOUTS[layout]))
    return witness.seen


def check_convolutions(
    model: nn.Module,
    shape: Sequence[int],
    device: torch.device,
    amp_dtype: torch.dtype | None,
    layout: str,
    say: Callable[[str], None],
) -> None:
    """At start-up on a GPU: refuse versions and choices that spoil the convolutions, note doubtful ones.

    Says one line about who computes them; on a CPU, where there is no cuDNN, nothing. ``say`` prints a line;
    the other arguments are those of `convolutions`.

    Raises:
        RunError: cuDNN is missing, has a fault of `runtime.cudnn_faults` that is refused, or is not used.
    """
    if device.type != "cuda":
        return
    cudnn = torch.backends.cudnn.version()
    if cudnn is None or not torch.backends.cudnn.enabled:
        raise RunError(
            "PyTorch has no cuDNN here, so every 3-D convolution would be slow: install PyTorch for CUDA"
        )
    versions = f"cuDNN {version_name(cudnn)} with PyTorch {torch.__version__}"
    for fault in faults(cudnn, amp_dtype or torch.float32, layout, torch.__version__):
        if fault.refused:
            raise RunError(f"{versions}: {fault.what} ({fault.source})")
        say(f"note: {versions}: {fault.what} ({fault.source})")
    found = convolutions(model, shape, device, amp_dtype, layout, versions)
    backends = Counter(convolution.backend for convolution in found)
    say(f"convolutions: {', '.join(f'{n} by {name}' for name, n in backends.items())} ({versions})")


def set_cudnn(*, benchmark: bool, benchmark_limit: int, deterministic: bool) -> None:
    """Set how cuDNN chooses its algorithms, for the process.

    Args:
        benchmark: Time algorithms for each new shape and keep the fastest.
        benchmark_limit: How many to time; 0 is all (PyTorch's default is 10).
        deterministic: Only deterministic ones.
    """
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cudnn.benchmark_limit = benchmark_limit
    torch.backends.cudnn.deterministic = deterministic
