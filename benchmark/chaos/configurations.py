"""The training runs that are disturbed: small, and each of another kind."""

import sys
from dataclasses import dataclass
from pathlib import Path

CASES = 10
"""Eight to train on and two to evaluate."""
EDGE = 32
"""Voxels of a volume along each axis."""

SMALL = (
    "--filters", "4", "8", "--input_shape", "16", "16", "16", "--val_input_shape", "32", "32", "32",
    "--learning_rate", "0.01", "--seed", "3", "--epochs", "15",
    "--start_eval_at", "5", "--evaluate_every", "5", "--quality_threshold", "1.0",
)  # fmt: skip
"""Sixty steps of milliseconds, four in an epoch (two of two ranks that accumulate), and three evaluations.
Patches are no smaller, since torch's bfloat16 convolutions on a CPU are wrong on smaller ones."""

VARIANTS = {
    "float32": ("--save_every_steps", "2"),
    "bfloat16": ("--amp", "--amp_dtype", "bfloat16", "--ga_steps", "2", "--save_every_minutes", "0.01"),
}


@dataclass(frozen=True)
class Configuration:
    """One run."""

    loader: str
    ranks: int
    variant: str
    """A key of ``VARIANTS``."""

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.loader}, {self.ranks} rank{'s' * (self.ranks > 1)}, {self.variant}"

    def command(self, folder: Path, part: str, data: Path, checkpoint: Path) -> list[str]:
        """The command line, to be run at the repository's root.

        Args:
            folder: Takes what the run writes, in names that begin with ``part``.
            part: Of the run.
            data: Folder of the cases.
            checkpoint: To write.
        """
        launcher = []
        if self.ranks > 1:
            launcher = [
                "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.ranks}",
                "--redirects=3", f"--log-dir={folder / f'{part}.ranks'}",
            ]  # fmt: skip
        batch_size = 1 if self.ranks > 1 or self.variant == "bfloat16" else 2
        return [
            sys.executable, *launcher, "-m", "benchmark.chaos.child", str(folder / f"{part}.trace"),
            "--data_dir", str(data), "--log_dir", str(folder / f"{part}.log"), "--loader", self.loader,
            "--save_ckpt_path", str(checkpoint), "--num_workers", str(2 // self.ranks),
            "--batch_size", str(batch_size), *SMALL, *VARIANTS[self.variant],
        ]  # fmt: skip
