"""Keeps autocast out of the plain twins, whose products are of float32 arguments."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast would round the products' float32 arguments. (The meta device has none.)"""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
