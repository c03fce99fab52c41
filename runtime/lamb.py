"""LAMB for machines without apex, with the semantics of apex's."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Lamb(Optimizer):
    """LAMB with the semantics of ``apex.optimizers.FusedLAMB`` at its defaults.

    The gradient is first clipped to a global norm of ``max_grad_norm``; then, per parameter p with
    gradient g (apex ``csrc/multi_tensor_lamb.cu``, MOMENT_MODE_1)::

        m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
        u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p
        p -= lr * r * u,    r = |p| / |u| where weight_decay and both norms are not zero, else 1

    States have the dtype of the parameters and steps are horizontally batched (``torch._foreach``). Nothing
    waits for the device, and a CUDA graph may record a step: t is counted there, and ``lr`` may be a 0-d
    tensor there. A ``state_dict`` holds t as a whole number per group, as apex's does.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float | Tensor = 1e-3,
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
        self._count_on_device()

    def _count_on_device(self) -> None:
        for group in self.param_groups:
            # In float64, so that 1 - b2^t keeps its digits while t is small.
            group["step"] = torch.tensor(
                float(group["step"]), dtype=torch.float64, device=group["params"][0].device
            )

    def state_dict(self) -> dict[str, Any]:
        """As every optimizer's; waits for the device."""
        found = super().state_dict()
        for group in found["param_groups"]:
            group["step"] = int(group["step"])
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of this optimizer or of apex's."""
        super().load_state_dict(state_dict)
        self._count_on_device()

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
        group["step"].add_(1)
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, gradient, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradient, gradient, 1 - beta2)

        correction1, correction2 = (
            (1 - beta ** group["step"]).to(params[0].dtype) for beta in group["betas"]
        )
        denominator = torch._foreach_div(second, correction2)
        torch._foreach_sqrt_(denominator)
        torch._foreach_add_(denominator, group["eps"])
        update = torch._foreach_div(first, correction1)
        torch._foreach_div_(update, denominator)
        if group["weight_decay"]:
            torch._foreach_add_(update, params, alpha=group["weight_decay"])
            sizes = zip(torch._foreach_norm(params), torch._foreach_norm(update), strict=True)
            trust = [torch.where((p > 0) & (u > 0), p / u, torch.ones_like(p)) for p, u in sizes]
            torch._foreach_mul_(update, trust)
        torch._foreach_mul_(update, group["lr"])
        torch._foreach_sub_(params, update)
