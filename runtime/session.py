"""The parts of a run, built from its configuration."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from model.convolutions import ShadowWeights
from model.losses import DiceCELoss, DiceScore
from model.ops import Ops
from model.unet3d import Unet3D
from pipelines.base import EvalLoader, Shard
from preprocess.spec import NUM_CLASSES
from runtime.arguments import RunConfig
from runtime.cudnn_gate import check_convolutions, set_cudnn
from runtime.distributed_utils import MachineRanks, World, parallel, resolve_seed
from runtime.errors import RunError
from runtime.fast_paths import choose_ops
from runtime.graph_recorder import CudaRecorder
from runtime.inference import Evaluator
from runtime.optimizers import build_optimizer
from runtime.precision import AMP_DTYPES, Precision
from runtime.state import TrainState
from runtime.step_graph import StepGraph


@dataclass(frozen=True)
class Session:
    """A run's configuration with its seed drawn, and the parts that every mode needs."""

    config: RunConfig
    world: World
    ops: Ops
    """Who computes what of the network."""

    @classmethod
    def of(cls, config: RunConfig, world: World) -> "Session":
        """Draw the seed, choose the operations and set what is global to the process.

        Raises:
            RunError: A fast path was asked for that cannot run here.
        """
        workers, cpus = config.loader.num_workers, len(os.sched_getaffinity(0))
        if config.loader.loader != "synthetic" and workers > cpus:
            world.say(f"note: --num_workers {workers} exceeds the {cpus} usable CPUs")
        seed = resolve_seed(config.seed, world)
        torch.manual_seed(seed)
        speed = config.speed
        set_cudnn(
            benchmark=speed.cudnn_benchmark,
            benchmark_limit=speed.cudnn_benchmark_limit,
            deterministic=speed.cudnn_deterministic,
        )
        ops, choice = choose_ops(config, world.device)
        world.say(choice)
        return cls(replace(config, seed=seed, loader=replace(config.loader, seed=seed)), world, ops)

    @property
    def shard(self) -> Shard:
        """This rank's part of the data."""
        return Shard(self.world.rank, self.world.size, MachineRanks(self.world))

    @property
    def precision(self) -> Precision:
        """As ``--amp``, ``--amp_dtype`` and ``--static_loss_scale`` say."""
        config = self.config
        return Precision(self.world.device.type, config.amp, config.amp_dtype, config.speed.static_loss_scale)

    @property
    def global_batch_size(self) -> int:
        """Samples per optimiser step."""
        return self.config.loader.batch_size * self.config.loader.ga_steps * self.world.size

    def model(self) -> Unet3D:
        """The network with fresh weights, on the device and in the layout asked for."""
        config = self.config
        if (
            config.normalization == "syncbatchnorm"
            and self.world.size > 1
            and self.world.device.type == "cpu"
        ):
            raise RunError("--normalization syncbatchnorm of several ranks needs GPUs; use batchnorm")
        model = Unet3D(
            1,
            NUM_CLASSES,
            config.normalization,
            config.activation,
            config.filters,
            self.ops,
            config.speed.recompute_norm,
        )
        if config.loader.layout == "NDHWC":
            model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return model.to(self.world.device)

    def check(self, model: Unet3D, shape: tuple[int, ...]) -> None:
        """Refuse what would spoil the convolutions of N x C x D x H x W images: see `check_convolutions`."""
        config = self.config
        amp_dtype = AMP_DTYPES[config.amp_dtype] if config.amp else None
        check_convolutions(model, shape, self.world.device, amp_dtype, config.loader.layout, self.world.say)

    @property
    def windows_shape(self) -> tuple[int, ...]:
        """N x C x D x H x W of the evaluation windows that go through the network together."""
        return (self.config.speed.val_batch_size, 1, *self.config.loader.val_input_shape)

    def loss(self) -> DiceCELoss:
        """The training and evaluation loss."""
        return DiceCELoss(self.config.include_background, backend=self.ops.loss)

    def state(self, model: Unet3D, *, some_steps_local: bool = False) -> TrainState:
        """What a training step works on.

        Args:
            model: Of `model`.
            some_steps_local: Whether steps without an average over ranks will be asked for.

        Raises:
            RunError: cuDNN or a fast path cannot do it here, see `check_convolutions` and `StepGraph`.
        """
        config, speed, world = self.config, self.config.speed, self.world
        self.check(model, (config.loader.batch_size, 1, *config.loader.input_shape))
        if world.size == 1 and (speed.ddp_one_bucket or speed.ddp_gradient_dtype != "float32"):
            world.say("note: one rank exchanges no gradients, so the --ddp flags have no effect")
        optimizer, whose = build_optimizer(
            model.parameters(), config.learning_rate.base, config.optimizer, tensor_lr=speed.cuda_graph
        )
        world.say(f"optimizer: {whose}")
        shadows = None
        if speed.shadow_weights:
            shadows = ShadowWeights(model, AMP_DTYPES[config.amp_dtype])
            shadows.follow(optimizer)
        if speed.compile:
            model.compile()
        recorder = CudaRecorder(world.device) if speed.cuda_graph else None
        # DDP must be built on the stream that will be recorded.
        with recorder.beside() if recorder else nullcontext():
            whole = parallel(
                model,
                world,
                static_graph=config.loader.ga_steps == 1 and not some_steps_local,
                one_bucket=speed.ddp_one_bucket,
                gradient_dtype=speed.ddp_gradient_dtype,
            )
        scaler = self.precision.scaler()
        graph = None
        if recorder:
            refresh = shadows.refresh if shadows else None
            graph = StepGraph(whole, optimizer, scaler, config.loader.ga_steps, recorder, refresh)
        return TrainState(
            whole, self.loss(), optimizer, scaler, self.precision, config.loader.ga_steps, graph, shadows
        )

    def evaluator(self, loader: EvalLoader, asked_to_stop: Callable[[], int] = lambda: 0) -> Evaluator:
        """Scores a model on the volumes of all ranks, unless it is ``asked_to_stop`` by a signal."""
        return Evaluator(
            loader=loader,
            loss_fn=self.loss(),
            score_fn=DiceScore(self.config.include_background),
            roi_shape=self.config.loader.val_input_shape,
            overlap=self.config.overlap,
            precision=self.precision,
            world=self.world,
            val_batch_size=self.config.speed.val_batch_size,
            backend="triton" if "triton" in (self.ops.norm, self.ops.loss) else "reference",
            verbose=self.config.verbose,
            asked_to_stop=asked_to_stop,
        )
