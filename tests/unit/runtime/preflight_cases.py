"""A legal run, and a data set of 210 very small cases that is legal by a table of its own."""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from preprocess.manifest import CaseRecord, Manifest
from runtime.arguments import RunConfig, parse_arguments
from runtime.mlperf_arguments import MlperfConfig
from runtime.preflight.finding import Finding, State
from runtime.preflight.voxels import LEAST

SHAPE = (4, 6, 8)
CLOSED = ("--mlperf_division", "closed", "--mlperf_container", "none", "--optimizer_backend", "torch")
LEGAL = (*CLOSED, "--epochs", "4000", "--batch_size", "7", "--caches_cleared", "yes")
RANKS = 8


@dataclass(frozen=True)
class DataSet:
    """Where it is, where its results go, and what stands in for the published md5s."""

    folder: Path
    results: Path
    table: dict[str, str]

    def copy(self, root: Path) -> "DataSet":
        """The same under ``root``, to be spoiled."""
        folder = shutil.copytree(self.folder, root / "data")
        return replace(self, folder=folder, results=root / "results")

    @property
    def flags(self) -> list[str]:
        """Of a legal run on it."""
        return ["--data_dir", str(self.folder), "--log_dir", str(self.results), *LEGAL]

    @property
    def config(self) -> RunConfig:
        """That run."""
        return parse_arguments(self.flags)


def legal_config(log_dir: Path = Path("/nowhere"), **mlperf: object) -> RunConfig:
    """A run whose settings are legal."""
    config = parse_arguments(["--data_dir", "/nowhere", "--log_dir", str(log_dir), *LEGAL])
    return replace(config, mlperf=replace(config.mlperf or MlperfConfig(), **mlperf))


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """1 x D x H x W float32 with the values of a CT: half of it air."""
    rng = np.random.default_rng(seed)
    voxels = rng.normal(-0.8, 0.4, (1, *shape)).clip(LEAST, 2.6).astype(np.float32)
    voxels[rng.random(voxels.shape) < 0.5] = LEAST
    voxels[0, 0, 0, 0] = LEAST
    return voxels


def make(root: Path) -> DataSet:
    """Write it, with its manifest."""
    folder, table = root / "data", {}
    folder.mkdir()
    manifest = Manifest("kits19")
    for case in range(210):
        name = f"case_{case:05d}"
        voxels = image(case)
        labels = np.full((1, *SHAPE), case % 3, np.uint8)
        for kind, volume in (("x", voxels), ("y", labels)):
            np.save(folder / f"{name}_{kind}.npy", volume)
            content = (folder / f"{name}_{kind}.npy").read_bytes()
            table[f"{name}_{kind}.npy"] = hashlib.md5(content).hexdigest()
        mean, std = voxels.mean(dtype=np.float64), voxels.astype(np.float64).std()
        manifest.cases[name] = CaseRecord(
            SHAPE, (1.0, 1.0, 1.0), float(mean), float(std), table[f"{name}_x.npy"], table[f"{name}_y.npy"]
        )
    manifest.save(folder)
    return DataSet(folder, root / "results", table)


def off(findings: list[Finding]) -> list[str]:
    """The rules that are off."""
    return [finding.rule for finding in findings if finding.state is State.OFF]


def of_rule(findings: list[Finding], rule: str) -> Finding:
    """What was found about one rule."""
    return next(finding for finding in findings if finding.rule == rule)
