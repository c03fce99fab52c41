"""The folder of a check among the results, and the notes beside its record."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT

NOTES = """# {heading}

Written by `python -m benchmark gpu-check`{unfinished}. One process times; what it runs are children, one
after the other, but for the check of the kernels, where several compile and compute at a time.

```
{table}
```

How to read it:

* **Ceilings** are what this GPU reached in the same minutes: a product of two square matrices of normal
  noise, and a copy of a large tensor, bytes read and written counted. Shares are of these, not of a data
  sheet.
* **Exactness**: outputs and gradients of each kernel against the plain formulas in float64, for the same
  inputs. A kernel is right where its error, in the norm and at the worst element, is at most twice that of
  PyTorch's own path in the same dtype, plus 1e-6 of the whole. Memory is filled with NaN beforehand.
* **Convolutions** run the algorithm that cuDNN's heuristics take, as training does without
  `--cudnn_benchmark`; the step `search` lets PyTorch time ten for each.
* **Convolutions and fused operations** are timed between CUDA events; calls of less than a millisecond are
  recorded as a CUDA graph and its replay is timed (`how`). Inputs smaller than the L2 cache take turns, so
  that each has left it (`copies`): in training the operation before may have just written them, and such
  layers are then faster.
* **Steps** are `runtime.training.train_step` from `main.py`'s own flags (`flags`) on synthetic batches that
  lie on the device: no loading. Operations are those of the convolutions alone; peak memory is what PyTorch
  allocated.
* **76.0** is images/s of one H200 of eight in NVIDIA's submission to MLPerf Training v4.0
  (`benchmark/anchors.py`), with loading and the all-reduce of eight GPUs, which a step here does not have.
* **Loss curves** are means over 20 steps, of the same weights and batches; they agree where the fused curve
  leaves the native one by no more than three times what other native runs do, or 0.02.

To reproduce: `make gpu-check PYTHON=python3`, then `python -m benchmark results` for the table of all
results.
"""


def folder_of(date: str, environment: dict[str, Any]) -> Path:
    """``results/<date>_gpu-check_<machine>_<commit>``, as `benchmark.results_table` wants it."""
    gpus = [gpu["name"] for gpu in environment["gpus"]]
    machine = gpus[0] if gpus else f"{environment['usable_cpus']}cpu"
    machine = re.sub(r"[^a-z0-9.]+", "-", machine.lower()).strip("-")
    return ROOT / "results" / f"{date}_gpu-check_{machine}_{environment.get('commit', 'unknown')[:9]}"


def write_notes(folder: Path, table: Sequence[str], dry: bool, complete: bool) -> None:
    """Write ``notes.md``; its heading is the last line of the table."""
    kind = "Dry run of the GPU check" if dry else "GPU check"
    text = NOTES.format(
        heading=f"{kind}: {table[-1]}",
        table="\n".join(table),
        unfinished="" if complete else ", which has not come to its end",
    )
    temporary = folder / ".notes.md.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "notes.md")
