"""Mixed precision as torch defines it."""

from dataclasses import dataclass

import torch

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Precision:
    """float32 throughout, or autocast to ``amp_dtype`` (float16 or bfloat16) where ``amp`` is set."""

    device_type: str
    amp: bool = False
    amp_dtype: str = "float16"

    def autocast(self) -> torch.autocast:
        """The context in which forward passes and losses run."""
        return torch.autocast(self.device_type, AMP_DTYPES[self.amp_dtype], enabled=self.amp)

    def scaler(self) -> torch.amp.GradScaler:
        """A dynamic loss scaler; it does nothing except under float16, whose gradients may underflow."""
        return torch.amp.GradScaler(self.device_type, enabled=self.amp and self.amp_dtype == "float16")
