"""Has DALI itself read whole files."""

import functools
from pathlib import Path
from typing import Any

from pipelines import dali_loader as graphs
from pipelines.cases import Step
from pipelines.dali_loader import GraphConfig
from pipelines.errors import CaseError
from pipelines.finite import check_finite
from pipelines.fronts import Drawn, Plan, Plans, arrays_of
from pipelines.samples import Samples
from pipelines.volumes import FileVolumes


class FileFront:
    """DALI reads whole files in the order of the draws, and crops afterwards. See ``Front``.

    A reader takes its list of files when it is built, so that a pipeline ends with the list.
    """

    def __init__(
        self,
        samples: Samples,
        files: FileVolumes,
        *,
        seed: int,
        noise_in_graph: bool,
        steps_per_pipeline: int,
        description: str,
    ) -> None:
        self._samples, self._files = samples, files
        self._seed, self._noise_in_graph = seed, noise_in_graph
        self.steps_per_pipeline: int | None = steps_per_pipeline
        self.description = description
        self._checked: set[int] = set()

    def plan(self, number: int, step: Step) -> Plan:
        """See ``Front``."""

        def draw(position: int, case: int) -> Drawn:
            self._check(case)
            return self._samples.draw(step.epoch, position, case)

        drawn = [
            self._samples.first_good(case, functools.partial(draw, position)).made
            for position, case in zip(step.positions, step.cases, strict=True)
        ]
        starts, draws, searched = arrays_of(drawn, self._samples, step, self._seed, self._noise_in_graph)
        read = sum(_size(path) for case in step.cases for path in self._files.paths(case))
        return Plan(draws, (), (), starts, searched + read)

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """See ``Front``."""
        paths = [self._files.paths(case) for step in steps for case in step.cases]
        images, labels = ([str(path) for path in column] for column in zip(*paths, strict=True))
        return graphs.files_pipeline(
            config, images, labels, lambda i: plans(i).starts, lambda i: plans(i).draws
        )

    def close(self) -> None:
        """See ``Front``."""

    def _check(self, case: int) -> None:
        """Look once at a whole case before DALI reads it: at what it reads nobody looks."""
        if case not in self._checked:
            self._samples.check(case, self._files.label(case)[0])
            check_finite(self._files.image(case)[0], self._files.paths(case)[0])
            self._checked.add(case)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise CaseError(f"cannot read {path}: {error.strerror}") from error
