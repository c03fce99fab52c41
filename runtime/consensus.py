"""What the ranks of a run decide together between two steps, without a wait for the device."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from runtime.distributed_utils import World


class Consensus:
    """Asks all training ranks, after each step, whether a checkpoint is due and whether to stop.

    The answer is one step late: a question is on its way, over Gloo and in host memory, while the next step
    is launched. Every rank gets the same answers after the same steps, so that all stop at the same one. A
    process alone is answered at once.
    """

    def __init__(self, world: World) -> None:
        self._group = world.control
        self._under_way: tuple[Tensor, Any] | None = None

    def exchange(self, save: bool, signal: int) -> tuple[bool, int]:
        """Whether any rank wanted to save, and the signal (0: none) that any had, when asked before."""
        if self._group is None:
            return save, signal
        asked = torch.tensor([save, signal], dtype=torch.int32)
        work = dist.all_reduce(asked, dist.ReduceOp.MAX, self._group, async_op=True)
        answer = self.close()
        self._under_way = asked, work
        return answer

    def close(self) -> tuple[bool, int]:
        """The answer that is still on its way, if any; to be called by all ranks."""
        before, self._under_way = self._under_way, None
        if before is None:
            return False, 0
        answered, work = before
        work.wait()
        save, signal = answered.tolist()
        return bool(save), signal
