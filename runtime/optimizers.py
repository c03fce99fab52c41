"""SGD, Adam and LAMB, from torch or, on a GPU where it is installed, from NVIDIA apex."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from runtime.errors import RunError
from runtime.lamb import Lamb

HAS_FUSED_KERNELS = ("cuda", "cpu")
"""Devices on which torch's SGD and Adam update all parameters in one pass over memory."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """``name`` is sgd, adam or lamb; ``backend`` is auto, torch or apex. Momentum is SGD's alone."""

    name: str = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    backend: str = "auto"


def _apex_optimizers() -> tuple[Any, str]:
    """The module ``apex.optimizers``, or None, and the reason for either."""
    if not torch.cuda.is_available():
        return None, "apex's optimizers need a CUDA device"
    if importlib.util.find_spec("apex") is None:
        return None, "NVIDIA apex is not installed (github.com/NVIDIA/apex, or an NVIDIA PyTorch container)"
    try:
        from apex import optimizers
    except ImportError:
        return None, "the package installed as apex is PyPI's apex, which is not NVIDIA's"
    return optimizers, "NVIDIA apex is installed"


def _choose(backend: str, tensor_lr: bool) -> tuple[Any, str]:
    """apex's optimizers or None for torch's, and why."""
    if backend == "torch":
        return None, "as asked"
    if tensor_lr:
        apex, reason = None, "a CUDA graph needs the learning rate on the device, where apex's do not read it"
    else:
        apex, reason = _apex_optimizers()
    if backend == "apex" and apex is None:
        raise RunError(f"--optimizer_backend apex cannot be used: {reason}; use auto or torch")
    return apex, reason


def build_optimizer(
    params: Iterable[nn.Parameter], learning_rate: float, config: OptimizerConfig, *, tensor_lr: bool = False
) -> tuple[Optimizer, str]:
    """The optimizer, and a sentence that says whose it is and why.

    SGD is Nesterov's where there is momentum, as in the reference. Parameters and moments are float32, the
    master weights of a run in 16 bits.

    Args:
        params: Parameters, all on one device.
        learning_rate: To begin with.
        config: Which optimizer, and whose.
        tensor_lr: Keep the learning rate as a 0-d float32 tensor beside the parameters: a CUDA graph reads it
            there at each replay. Change it by ``fill_``. A ``state_dict`` holds it as a float all the same.

    Raises:
        RunError: apex was asked for and cannot be used.
        ValueError: An unknown name or backend.
    """
    if config.backend not in ("auto", "torch", "apex"):
        raise ValueError(f"optimizer backend must be auto, torch or apex, found {config.backend!r}")
    apex, reason = _choose(config.backend, tensor_lr)
    params = list(params)
    device = params[0].device
    lr = torch.tensor(learning_rate, dtype=torch.float32, device=device) if tensor_lr else learning_rate
    common: dict[str, Any] = {"lr": lr, "weight_decay": config.weight_decay}
    fused = device.type in HAS_FUSED_KERNELS
    optimizer: Optimizer
    match config.name:
        case "sgd":
            style: dict[str, Any] = {"momentum": config.momentum, "nesterov": config.momentum > 0}
            optimizer = (
                apex.FusedSGD(params, **style, **common)
                if apex
                else SGD(params, **style, **common, fused=fused)
            )
        case "adam" if apex:
            # apex's default is AdamW; torch's Adam, like the reference's, adds the decay to the gradient.
            optimizer = apex.FusedAdam(params, **common, adam_w_mode=False)
        case "adam":
            recorded = tensor_lr and device.type == "cuda"
            optimizer = Adam(params, **common, fused=fused, capturable=recorded)
        case "lamb":
            optimizer = (apex.FusedLAMB if apex else Lamb)(params, **common, betas=config.betas)
        case _:
            raise ValueError(f"optimizer must be sgd, adam or lamb, found {config.name!r}")
    if apex:
        return optimizer, f"{config.name} of apex ({reason})"
    _prepare(optimizer)
    how = ", fused" if is_fused(optimizer) else ""
    return optimizer, f"{config.name} of torch{how} ({reason})"


def is_fused(optimizer: Optimizer) -> bool:
    """Whether one of torch's fused kernels does the step, and with it the unscaling of the gradients."""
    return all(group.get("fused") for group in optimizer.param_groups)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give all parameter groups this learning rate, where they keep theirs."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def _prepare(optimizer: Optimizer) -> None:
    """Make torch's optimizers safe to record, to load and to run fused."""
    rates = [group["lr"] for group in optimizer.param_groups]

    def loaded(optimizer: Optimizer) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            if isinstance(rate, Tensor):
                group["lr"] = rate.fill_(float(group["lr"]))
        _place_moments(optimizer)

    optimizer.register_state_dict_post_hook(_with_plain_rates)
    optimizer.register_load_state_dict_post_hook(loaded)
    _place_moments(optimizer)
    if is_fused(optimizer) and optimizer.param_groups[0]["params"][0].device.type == "cpu":
        optimizer.register_step_pre_hook(_refuse_other_strides)


def _with_plain_rates(_: Optimizer, state_dict: dict[str, Any]) -> None:
    for group in state_dict["param_groups"]:
        group["lr"] = float(group["lr"])


def _place_moments(optimizer: Optimizer) -> None:
    """Lay moments out as their parameters are, and let SGD's momentum begin at zero.

    Fused kernels walk through memory, so a checkpoint of the other ``--layout`` must be laid out anew. And
    torch's fused SGD allocates momentum in its first step without a value; where a dynamic loss scale makes
    the kernel skip that step, the next one would take what lay in memory for momentum.
    """
    for group in optimizer.param_groups:
        for p in group["params"]:
            if group.get("momentum") and optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
            state = optimizer.state.get(p, {})
            for name, moment in state.items():
                if moment.shape == p.shape and not _lie_alike(moment, p):
                    state[name] = torch.empty_like(p).copy_(moment)


def _lie_alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in one order; axes of one element have none."""
    strides = zip(a.shape, a.stride(), b.stride(), strict=True)
    return all(size == 1 or one == other for size, one, other in strides)


def _refuse_other_strides(optimizer: Optimizer, *_: Any) -> None:
    """On CUDA the fused kernels refuse by themselves; on the CPU they would mix up elements."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None and not _lie_alike(p.grad, p):
                raise RuntimeError(
                    f"a gradient of strides {p.grad.stride()} for a parameter of strides {p.stride()}: fused "
                    "optimizers need both in one memory layout"
                )
