"""The network's shapes and options; its numbers are tested against the reference in tests/numerics."""

import logging

import pytest
import torch

from model.unet3d import MLPERF_FILTERS, Unet3D


def test_the_mlperf_network_has_31_million_parameters() -> None:
    with torch.device("meta"):
        model = Unet3D(1, 3)
    assert sum(p.numel() for p in model.parameters()) == 31_190_243
    assert MLPERF_FILTERS == (32, 64, 128, 256, 320)


@pytest.mark.parametrize("filters", [(4,), (2, 4), (2, 3, 4, 5, 6, 7)])
def test_any_depth_keeps_the_shape(filters: tuple[int, ...]) -> None:
    size = 2 ** len(filters) * 2
    logits = Unet3D(1, 3, filters=filters)(torch.randn(1, 1, size, size, 2 * size))
    assert logits.shape == (1, 3, size, size, 2 * size)


@pytest.mark.parametrize("normalization", ["instancenorm", "batchnorm", "none"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_options_train_every_parameter(normalization: str, activation: str) -> None:
    model = Unet3D(1, 3, normalization, activation, filters=(2, 4))
    model(torch.randn(2, 1, 8, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv3d)]
    assert all((m.bias is not None) == (normalization == "none") for m in convolutions[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"normalization": "x"}, "instancenorm"), ({"activation": "x"}, "relu"), ({"filters": ()}, "filters")],
)
def test_unknown_options_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Unet3D(1, 3, **arguments)  # type: ignore[arg-type]


def test_the_model_is_silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        Unet3D(1, 3, filters=(2,))(torch.randn(1, 1, 4, 4, 4))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
