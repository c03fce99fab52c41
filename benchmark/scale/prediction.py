"""Images per second and time to train of a layout of nodes."""

import math
from dataclasses import dataclass

from benchmark.scale import published
from benchmark.scale.convergence import Course
from benchmark.scale.step_time import MLPERF_BATCH, Computing, Reduction, spatial_seconds
from preprocess.spec import EVAL_SAMPLES


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Who does what."""

    nodes: int
    gpus_per_node: int
    evaluation_nodes: int
    """Which only evaluate, while the others train on. None: all evaluate, and training waits."""
    batch: int
    """Images per GPU, or per group."""
    group: int = 1
    """GPUs that share images by spatial parallelism, which voxelrate does not have."""

    @property
    def training_nodes(self) -> int:
        """Nodes that train."""
        return self.nodes - self.evaluation_nodes

    @property
    def training_gpus(self) -> int:
        """GPUs that train."""
        return self.training_nodes * self.gpus_per_node

    @property
    def global_batch(self) -> int:
        """Images of a step."""
        return self.training_gpus // self.group * self.batch


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one layout, with one overlap and one measured time."""

    images_per_s: float
    step_s: float
    reduce_s: float
    """The whole all-reduce, hidden or not."""
    minutes: float | None
    """From run_start to run_stop; None where no samples to converge are known."""
    samples: float | None
    """Until the last evaluation."""
    evaluations: float | None
    """On average."""
    evaluation_s: float
    """Of one evaluation."""
    startup_s: float
    training_s: float | None
    waiting_s: float | None
    """What all evaluations add to the training, the last one whole."""
    waits: bool
    """Whether training waits for evaluations that are not over when the next is due."""


def startup_seconds(training_nodes: int) -> float:
    """From the start to training at full speed. Each node reads its share of the volumes: a constant, and a
    part that is divided by the nodes, from NVIDIA's one node of v2.1 and its 54 of v3.0."""
    many = published.H100_V30_54.nodes - published.H100_V30_54.evaluation_nodes
    divided = (published.V21_STARTUP_S - published.V30_54_STARTUP_S) / (1 - 1 / many)
    return published.V21_STARTUP_S - divided + divided / training_nodes


def evaluation_seconds(case_s: float, gpus: int) -> float:
    """On so many GPUs, from the seconds of a case on one. A GPU evaluates whole cases, taken to be equally
    long."""
    return case_s * cases_of_busiest(gpus)


def cases_of_busiest(gpus: int) -> int:
    """Evaluation cases of the GPU that has most: 6 of 42 on 8."""
    return math.ceil(EVAL_SAMPLES / gpus)


def estimated_case_seconds(computing: Computing) -> float:
    """Of a case on one GPU, in proportion to its training: see `published.EVALUATION_IMAGES`."""
    node = (
        published.EVALUATION_IMAGES / published.GPUS_PER_NODE / MLPERF_BATCH * computing.seconds(MLPERF_BATCH)
    )
    return node / cases_of_busiest(published.GPUS_PER_NODE)


def predict(
    layout: Layout,
    computing: Computing,
    reduction: Reduction,
    course: Course | None,
    case_s: float | None,
) -> Prediction:
    """The model.

    In turn, each evaluation adds its time. Beside training, it adds the time until the weights are handed
    over; the next one waits until it is over; and the last one is waited for.

    Args:
        layout: Of the machines.
        computing: Of one GPU.
        reduction: Of the gradients.
        course: Samples and evaluations; None where nobody knows them.
        case_s: Measured seconds of an evaluation case on one GPU; None to estimate them.
    """
    own = (
        computing.seconds(layout.batch)
        if layout.group == 1
        else computing.shared(layout.group) + spatial_seconds()
    )
    reduce_s = reduction.seconds(layout.gpus_per_node, layout.training_nodes)
    step_s = own + reduction.added(own, reduce_s)
    rate = layout.global_batch / step_s
    if case_s is None:
        case_s = estimated_case_seconds(computing)
    evaluating = (layout.evaluation_nodes or layout.nodes) * layout.gpus_per_node
    evaluation_s = evaluation_seconds(case_s, evaluating)
    startup_s = startup_seconds(layout.training_nodes)
    training_s = waiting_s = minutes = None
    waits = False
    if course:
        training_s = course.samples / rate
        waiting_s = course.evaluations * evaluation_s
        if layout.evaluation_nodes:
            cycle_s = course.every / rate + published.V30_54_HANDOVER_S
            waits = evaluation_s > cycle_s
            behind = max(cycle_s, evaluation_s) - course.every / rate
            waiting_s = (course.evaluations - 1) * behind + evaluation_s
        minutes = (startup_s + training_s + waiting_s) / 60
    return Prediction(
        images_per_s=rate, step_s=step_s, reduce_s=reduce_s, minutes=minutes,
        samples=course.samples if course else None, evaluations=course.evaluations if course else None,
        evaluation_s=evaluation_s, startup_s=startup_s, training_s=training_s, waiting_s=waiting_s,
        waits=waits,
    )  # fmt: skip
