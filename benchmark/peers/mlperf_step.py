"""The training step of the MLPerf reference, from the user's own checkout of github.com/mlcommons/training.

Network, loss, optimizer and training loop of ``retired_benchmarks/unet3d/pytorch`` run unchanged. Their files
import each other by names that are ours as well (``model.layers``, ``runtime.logging``): while they are read,
those names mean the reference's. Its logging, which needs dllogger, and its evaluation, which is never
reached, are stood in for.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmark.peers.mlperf_reference import find_reference
from preprocess.spec import NUM_CLASSES

_STYLE = ("instancenorm", "relu")


def reference_folder(text: str) -> Path:
    """The reference's folder in a checkout of mlcommons/training; an argparse type."""
    folder = find_reference(Path(text).resolve())
    if folder is None:
        raise argparse.ArgumentTypeError(
            f"no retired_benchmarks/unet3d/pytorch in {text}, expected a checkout of mlcommons/training"
        )
    return folder


class ReferenceStep:
    """What a training step of the reference is made of.

    Args:
        folder: Its ``retired_benchmarks/unet3d/pytorch``.

    Raises:
        OSError: A file is not there.
    """

    def __init__(self, folder: Path) -> None:
        stand_ins = {
            "mlperf_logging.mllog": _module(constants=_Constants()),
            "runtime.logging": _module(
                CONSTANTS=_Constants(), mllog_event=_silent, mllog_start=_silent, mllog_end=_silent
            ),
            "runtime.inference": _module(evaluate=_silent),
        }
        with _named(stand_ins):
            self._layers = _executed(folder / "model" / "layers.py")
            with _named({"model.layers": self._layers}):
                self._unet3d = _executed(folder / "model" / "unet3d.py")
            self._losses = _executed(folder / "model" / "losses.py")
            ranks = _executed(folder / "runtime" / "distributed_utils.py")
            with _named({"runtime.distributed_utils": ranks}):
                self._training = _executed(folder / "runtime" / "training.py")

    def network(self, filters: Sequence[int]) -> nn.Module:
        """Its network. One of other filters than its own is assembled of its blocks, as its own is."""
        network: nn.Module = self._unet3d.Unet3D(1, NUM_CLASSES, *_STYLE)
        if list(filters) == network.filters:
            return network
        layers, levels = self._layers, list(pairwise(filters))
        network.input_block = layers.InputBlock(1, filters[0], *_STYLE)
        network.downsample = nn.ModuleList(layers.DownsampleBlock(i, o, *_STYLE, index=0) for i, o in levels)
        network.bottleneck = layers.DownsampleBlock(filters[-1], filters[-1], *_STYLE, index=0)
        ups = [(filters[-1], filters[-1]), *((o, i) for i, o in reversed(levels))]
        network.upsample = nn.ModuleList(layers.UpsampleBlock(i, o, *_STYLE, index=0) for i, o in ups)
        network.output = layers.OutputLayer(filters[0], NUM_CLASSES)
        return network

    def loss(self) -> nn.Module:
        """Its loss of logits and labels, both N x C x D x H x W, as its ``main.py`` makes it."""
        loss: nn.Module = self._losses.DiceCELoss(
            to_onehot_y=True, use_softmax=True, layout="NCDHW", include_background=False
        )
        return loss

    def optimizer(self, params: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
        """Its default: SGD with Nesterov's momentum of 0.9."""
        optimizer: Optimizer = self._training.get_optimizer(params, _flags(learning_rate))
        return optimizer

    def train(
        self,
        network: nn.Module,
        loss: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        learning_rate: float,
    ) -> None:
        """Its training loop over one epoch of ``batches``, in float32 on the CPU, without an evaluation."""
        self._training.train(
            _flags(learning_rate), network, batches, None, loss, None, torch.device("cpu"), (), False
        )


def _flags(learning_rate: float) -> SimpleNamespace:
    """Those of its flags that are read here, at their defaults."""
    return SimpleNamespace(
        optimizer="sgd",
        learning_rate=learning_rate,
        momentum=0.9,
        weight_decay=0.0,
        lr_decay_epochs=[],
        lr_warmup_epochs=0,
        epochs=1,
        ga_steps=1,
        amp=False,
        start_eval_at=2,
        verbose=False,
        cudnn_benchmark=False,
        cudnn_deterministic=False,
    )


class _Constants:
    """Any constant of ``mlperf_logging``, for a log that nobody keeps."""

    def __getattr__(self, name: str) -> str:
        return name


def _silent(*arguments: Any, **named: Any) -> None:
    pass


def _module(**contents: Any) -> ModuleType:
    module = ModuleType("stand_in")
    vars(module).update(contents)
    return module


@contextmanager
def _named(modules: dict[str, ModuleType]) -> Iterator[None]:
    """While this is on, imports by these names find these modules."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _executed(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mlperf_reference_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
