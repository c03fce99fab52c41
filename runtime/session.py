"""The parts of a run, built from its configuration."""

import os
from dataclasses import dataclass, replace

import torch

from model.losses import DiceCELoss, DiceScore
from model.unet3d import Unet3D
from pipelines.base import EvalLoader, Shard
from preprocess.spec import NUM_CLASSES
from runtime.arguments import RunConfig
from runtime.distributed_utils import MachineRanks, World, parallel, resolve_seed
from runtime.errors import RunError
from runtime.inference import Evaluator
from runtime.optimizers import build_optimizer
from runtime.precision import Precision
from runtime.state import TrainState


@dataclass(frozen=True)
class Session:
    """A run's configuration with its seed drawn, and the parts that every mode needs."""

    config: RunConfig
    world: World

    @classmethod
    def of(cls, config: RunConfig, world: World) -> "Session":
        """Draw the seed and set what is global to the process."""
        workers, cpus = config.loader.num_workers, len(os.sched_getaffinity(0))
        if config.loader.loader != "synthetic" and workers > cpus:
            world.say(f"note: --num_workers {workers} exceeds the {cpus} usable CPUs")
        seed = resolve_seed(config.seed, world)
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = config.cudnn_benchmark
        torch.backends.cudnn.deterministic = config.cudnn_deterministic
        return cls(replace(config, seed=seed, loader=replace(config.loader, seed=seed)), world)

    @property
    def shard(self) -> Shard:
        """This rank's part of the data."""
        return Shard(self.world.rank, self.world.size, MachineRanks(self.world))

    @property
    def precision(self) -> Precision:
        """As ``--amp`` and ``--amp_dtype`` say."""
        return Precision(self.world.device.type, self.config.amp, self.config.amp_dtype)

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
        model = Unet3D(1, NUM_CLASSES, config.normalization, config.activation, config.filters)
        if config.loader.layout == "NDHWC":
            model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return model.to(self.world.device)

    def loss(self) -> DiceCELoss:
        """The training and evaluation loss."""
        return DiceCELoss(self.config.include_background)

    def state(self, model: Unet3D) -> TrainState:
        """What a training step works on."""
        optimizer, whose = build_optimizer(
            model.parameters(), self.config.learning_rate.base, self.config.optimizer
        )
        self.world.say(f"optimizer: {whose}")
        return TrainState(
            parallel(model, self.world),
            self.loss(),
            optimizer,
            self.precision.scaler(),
            self.precision,
            self.config.loader.ga_steps,
        )

    def evaluator(self, loader: EvalLoader) -> Evaluator:
        """Scores a model on the volumes of all ranks."""
        return Evaluator(
            loader=loader,
            loss_fn=self.loss(),
            score_fn=DiceScore(self.config.include_background),
            roi_shape=self.config.loader.val_input_shape,
            overlap=self.config.overlap,
            precision=self.precision,
            world=self.world,
            verbose=self.config.verbose,
        )
