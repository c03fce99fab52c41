"""Where things are in a package (submission_rules.adoc of mlcommons/policies)."""

from dataclasses import dataclass
from pathlib import Path

BENCHMARK = "unet3d"
IMPLEMENTATION = "pytorch"
"""Name of our code among a benchmark's implementations."""

MARK = "NOT_FOR_SUBMISSION"
"""File at the root of a rehearsal's package."""

SCRIPTS = ("setup.sh", "init_datasets.sh", "run_and_time.sh")


@dataclass(frozen=True)
class Layout:
    """A package at ``root`` and one system in it."""

    root: Path
    system: str

    @property
    def description(self) -> Path:
        """The system description."""
        return self.root / "systems" / f"{self.system}.json"

    @property
    def results(self) -> Path:
        """The folder of the logs."""
        return self.root / "results" / self.system / BENCHMARK

    @property
    def benchmark(self) -> Path:
        """The folder of all implementations and systems of the benchmark."""
        return self.root / "benchmarks" / BENCHMARK

    @property
    def implementation(self) -> Path:
        """The folder of the code."""
        return self.benchmark / "implementations" / IMPLEMENTATION

    @property
    def scripts(self) -> Path:
        """The folder of what sets up and runs the implementation on the system."""
        return self.benchmark / self.system

    @property
    def metadata(self) -> Path:
        """What this system does with the implementation."""
        return self.scripts / f"{self.system}_{IMPLEMENTATION}.json"

    def logs(self) -> list[Path]:
        """What the official checkers take for logs, result_2.txt before result_10.txt."""
        return sorted(self.results.glob("result_*.txt"), key=lambda path: (len(path.name), path.name))
