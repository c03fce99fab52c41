"""NVIDIA's published runs: what the model's constants are taken from, and what it is checked against.

All are closed-division results with the MXNet code and 8 GPUs a node. Images per second, minutes and
samples are what ``python -m benchmark mllog`` finds in their logs, mlcommons/training_results_<round>: the
median rate of training, and the mean time and samples to converge as MLPerf averages them over 40 runs,
without the factor of scaling.json. The other seconds are medians over the runs.
"""

from dataclasses import dataclass

from benchmark.scale.network import DGX_A100, DGX_H100, Network

GPUS_PER_NODE = 8
"""Of all of them."""


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """One result."""

    name: str
    source: str
    """Round and folder of the logs."""
    nodes: int = 1
    evaluation_nodes: int = 0
    batch: int = 7
    """Images per GPU, or per group of GPUs that share them."""
    group: int = 1
    """GPUs that share an image, by spatial parallelism."""
    images_per_s: float
    """Of all training GPUs."""
    minutes: float
    samples: float
    network: Network = DGX_H100

    @property
    def gpus(self) -> int:
        """That train."""
        return GPUS_PER_NODE * (self.nodes - self.evaluation_nodes)


GRADIENT_DTYPE = "float16"
"""What they exchange, in one group after the backward pass, so that nothing overlaps: NVIDIA's run.sub
tests ``62M -d half``, and Horovod has num_groups=1."""

H100_V21 = PublishedRun(
    name="1 node H100, preview",
    source="v2.1 dgxh100_preview",
    images_per_s=551.46,
    minutes=13.10,
    samples=364_350,
)
H100_V21_3 = PublishedRun(
    name="3 nodes H100, preview", source="v2.1 dgxh100_n3_preview", nodes=3, batch=1, images_per_s=1432.96,
    minutes=5.347, samples=376_530,
)  # fmt: skip
H100_V30 = PublishedRun(
    name="1 node H100",
    source="v3.0 dgxh100_ngc23.04_mxnet",
    images_per_s=565.43,
    minutes=12.10,
    samples=347_235,
)
H100_V30_54 = PublishedRun(
    name="54 nodes H100", source="v3.0 dgxh100_n54_ngc23.04_mxnet", nodes=54, evaluation_nodes=12, batch=1,
    group=4, images_per_s=9461.7, minutes=0.8182, samples=420_420,
)  # fmt: skip
H100_V31 = PublishedRun(
    name="1 node H100", source="v3.1 eos_ngc23.04_mxnet", images_per_s=566.18, minutes=12.18, samples=351_645
)
H100_V31_96 = PublishedRun(
    name="96 nodes H100", source="v3.1 eos_n96_ngc23.04_mxnet, again in v4.0", nodes=96, evaluation_nodes=12,
    batch=1, group=8, images_per_s=10934.2, minutes=0.7727, samples=438_270,
)  # fmt: skip
H100_V40 = PublishedRun(
    name="1 node H100", source="v4.0 eos_ngc24.04_mxnet", images_per_s=577.45, minutes=12.01, samples=353_535
)
H100_V40_9 = PublishedRun(
    name="9 nodes H100", source="v4.0 eos_n9_ngc24.04_mxnet", nodes=9, evaluation_nodes=2, batch=1,
    images_per_s=3519.4, minutes=1.914, samples=382_515,
)  # fmt: skip
H200_V40 = PublishedRun(
    name="1 node H200", source="v4.0 h200_ngc24.04_mxnet", images_per_s=607.61, minutes=11.46, samples=355_845
)
A100_V20 = PublishedRun(
    name="1 node A100", source="v2.0 dgxa100_ngc22.04_mxnet", images_per_s=291.70, minutes=23.82,
    samples=358_680, network=DGX_A100,
)  # fmt: skip
A100_V20_9 = PublishedRun(
    name="9 nodes A100", source="v2.0 dgxa100_n9_ngc22.04_mxnet", nodes=9, evaluation_nodes=2, batch=1,
    images_per_s=1826.4, minutes=3.457, samples=368_865, network=DGX_A100,
)  # fmt: skip
A100_V20_96 = PublishedRun(
    name="96 nodes A100", source="v2.0 dgxa100_n96_ngc22.04_mxnet", nodes=96, evaluation_nodes=12, batch=1,
    group=8, images_per_s=6265.5, minutes=1.216, samples=424_620, network=DGX_A100,
)  # fmt: skip

CYCLE_SAMPLES = 20 * 168
"""Between two evaluations."""

V21_EVALUATION_S = 1.845
"""Of an evaluation of `H100_V21`, on its 8 GPUs."""
EVALUATION_IMAGES = V21_EVALUATION_S * H100_V21.images_per_s
"""An evaluation takes as long as training this many images on the same 8 GPUs."""

V21_STARTUP_S = 4.456 + CYCLE_SAMPLES / 483.15 - CYCLE_SAMPLES / H100_V21.images_per_s
V30_54_STARTUP_S = 0.627 + CYCLE_SAMPLES / 3630.6 - CYCLE_SAMPLES / H100_V30_54.images_per_s
"""From run_start to the first block of training, and what that block is longer than the others."""

V30_54_HANDOVER_S = 0.391 - CYCLE_SAMPLES / H100_V30_54.images_per_s
"""What a cycle of `H100_V30_54` takes longer, from score to score, than its training: among it the time until
the evaluation nodes have the weights."""
