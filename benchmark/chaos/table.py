"""What a campaign found, as a table and as notes."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.chaos.judgement import HANG, LOST, SURVIVED, UNDOCUMENTED, WRONG

COLUMNS = (
    "fault", "tried", "survived", "lost steps (median, max)", "hangs", "wrong results", "lost checkpoints",
    "not as documented",
)  # fmt: skip

NOTES = """# {heading}

{table}

`{command}`, {minutes:.0f} min{unfinished}. A cycle starts a small training run (60 steps; a network of two
levels, patches of 16^3; both loaders, one process or two ranks under torchrun, float32 or bfloat16 with
gradient accumulation), hits it at a random moment, resumes it with `--resume auto` and without the fault, and
compares: the samples of every step and their losses, the losses of epochs, the scores, and all tensors and
numbers of the last checkpoint, bit by bit, with those of a run of the same configuration that nothing
disturbed.

* **Survived**: status, last line on standard error, what is left behind (no process, no name in /dev/shm, no
  file beside the checkpoints) are as documented, the resumed run went to its end, and nothing differs.
* **Lost steps** were done by the disturbed run and are in no checkpoint it left: they are done again.
* **Hang**: a process had not ended 30 s after the fault, or 10 s after `--rank_timeout`.
* **Lost checkpoint**: one had been written, and none could be read, or an older one was gone on from.
* Moments are drawn over the training of an undisturbed run; of the faults that may come while a run starts,
  some do. Those that came after the end of a run were tried again, earlier.
{skipped}
`record.json` has every cycle. Cycle N again: `python -m benchmark chaos --seed {seed} --only N`.
"""


def rows(cycles: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[list[str]]:
    """The heading, a row for each kind of fault in ``order``, and one for all."""
    found = [list(COLUMNS)]
    for name in (*order, "all"):
        own = [cycle for cycle in cycles if name in (cycle["fault"], "all")]
        lost = [cycle["lost_steps"] for cycle in own]
        outcomes = [cycle["outcome"] for cycle in own]
        steps = f"{statistics.median(lost):g}, {max(lost)}" if lost else "-"
        counts = [str(outcomes.count(one)) for one in (HANG, WRONG, LOST, UNDOCUMENTED)]
        found.append([name, str(len(own)), str(outcomes.count(SURVIVED)), steps, *counts])
    return found


def heading(cycles: Sequence[Mapping[str, Any]]) -> str:
    """What was found, in a line."""
    outcomes = [cycle["outcome"] for cycle in cycles]
    return (
        f"{len(outcomes)} faults at random moments of training: {outcomes.count(SURVIVED)} survived, "
        f"{outcomes.count(WRONG)} wrong results, {outcomes.count(HANG)} hangs, "
        f"{outcomes.count(LOST)} lost checkpoints"
    )
