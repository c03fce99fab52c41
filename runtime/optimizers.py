"""SGD, Adam and LAMB, from torch or, on a GPU where it is installed, from NVIDIA apex."""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from runtime.errors import RunError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """``name`` is sgd, adam or lamb; ``backend`` is auto, torch or apex. Momentum is SGD's alone."""

    name: str = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    backend: str = "auto"


class Lamb(Optimizer):
    """LAMB with the semantics of ``apex.optimizers.FusedLAMB`` at its defaults.

    The gradient is first clipped to a global norm of ``max_grad_norm``; then, per parameter p with
    gradient g (apex ``csrc/multi_tensor_lamb.cu``, MOMENT_MODE_1)::

        m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
        u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p
        p -= lr * r * u,    r = |p| / |u| where weight_decay and both norms are not zero, else 1

    States are float32 and steps are horizontally batched (``torch._foreach``), without a host sync.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "max_grad_norm": max_grad_norm,
                "step": 0,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update. ``closure``, if given, recomputes the loss and its gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            global_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            for group in self.param_groups:
                self._update(group, (global_norm / group["max_grad_norm"]).clamp(min=1.0))
        return loss

    def _update(self, group: dict[str, Any], clip: Tensor) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if not self.state[p]:
                self.state[p]["exp_avg"] = torch.zeros_like(p)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
        gradient = torch._foreach_div([p.grad for p in params], clip)
        first = [self.state[p]["exp_avg"] for p in params]
        second = [self.state[p]["exp_avg_sq"] for p in params]
        group["step"] += 1
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, gradient, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradient, gradient, 1 - beta2)

        denominator = torch._foreach_div(second, 1 - beta2 ** group["step"])
        torch._foreach_sqrt_(denominator)
        torch._foreach_add_(denominator, group["eps"])
        update = torch._foreach_div(first, 1 - beta1 ** group["step"])
        torch._foreach_div_(update, denominator)
        if group["weight_decay"]:
            torch._foreach_add_(update, params, alpha=group["weight_decay"])
            sizes = zip(torch._foreach_norm(params), torch._foreach_norm(update), strict=True)
            trust = [torch.where((p > 0) & (u > 0), p / u, torch.ones_like(p)) for p, u in sizes]
            torch._foreach_mul_(update, trust)
        torch._foreach_add_(params, update, alpha=-group["lr"])


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


def build_optimizer(
    params: Iterable[nn.Parameter], learning_rate: float, config: OptimizerConfig
) -> tuple[Optimizer, str]:
    """The optimizer, and a sentence that says whose it is and why.

    SGD is Nesterov's where there is momentum, as in the reference.

    Raises:
        RunError: apex was asked for and cannot be used.
        ValueError: An unknown name or backend.
    """
    apex, reason = (None, "as asked") if config.backend == "torch" else _apex_optimizers()
    if config.backend == "apex" and apex is None:
        raise RunError(f"--optimizer_backend apex cannot be used: {reason}; use auto or torch")
    if config.backend not in ("auto", "torch", "apex"):
        raise ValueError(f"optimizer backend must be auto, torch or apex, found {config.backend!r}")
    common: dict[str, Any] = {"lr": learning_rate, "weight_decay": config.weight_decay}
    match config.name:
        case "sgd":
            sgd = apex.FusedSGD if apex else SGD
            optimizer = sgd(params, momentum=config.momentum, nesterov=config.momentum > 0, **common)
        case "adam" if apex:
            # apex's default is AdamW; torch's Adam, like the reference's, adds the decay to the gradient.
            optimizer = apex.FusedAdam(params, **common, adam_w_mode=False)
        case "adam":
            optimizer = Adam(params, **common)
        case "lamb":
            optimizer = (apex.FusedLAMB if apex else Lamb)(params, **common, betas=config.betas)
        case _:
            raise ValueError(f"optimizer must be sgd, adam or lamb, found {config.name!r}")
    return optimizer, f"{config.name} of {'apex' if apex else 'torch'} ({reason})"
