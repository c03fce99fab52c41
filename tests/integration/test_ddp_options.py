"""How two Gloo ranks average their gradients: every option against plain averages."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.unet3d import Unet3D
from runtime.distributed_utils import World, gradients_kept_local, parallel, unwrapped
from runtime.optimizers import OptimizerConfig, build_optimizer

STEPS, GA_STEPS = 4, 2
"""A static graph has its buckets from the third step on."""
EXACT: dict[str, dict[str, Any]] = {
    "ours": {},
    "static": {"static_graph": True},
    "one": {"one_bucket": True},
    "all": {"static_graph": True, "one_bucket": True},
}
ROUNDED: dict[str, dict[str, Any]] = {
    "float16 all": {"gradient_dtype": "float16", **EXACT["all"]},
    "bfloat16 all": {"gradient_dtype": "bfloat16", **EXACT["all"]},
    "bfloat16 ours": {"gradient_dtype": "bfloat16"},
}
CPU = torch.device("cpu")


def network(layout: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """More than a bucket's 1 MiB, with one weight of one channel and one of 1x1x1."""
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=(4, 8, 48))
    if layout == "NDHWC":
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model.to(dtype)


def image(step: int, micro_step: int, rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * step + 10 * micro_step + rank)
    return torch.randn(1, 1, 16, 16, 16, generator=generator)


def loss(model: nn.Module, step: int, micro_step: int, rank: int) -> Tensor:
    dtype = next(model.parameters()).dtype
    return model(image(step, micro_step, rank).to(dtype)).square().mean() / GA_STEPS


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad for p in unwrapped(model).parameters()]
    return [gradient.clone() for gradient in found if gradient is not None]


def train(model: nn.Module, rank: int, ga_steps: int) -> dict[str, Any]:
    """Steps with an evaluation before each; the gradients of the first and last, and what was warned of."""
    optimizer, _ = build_optimizer(model.parameters(), 0.02, OptimizerConfig())
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(STEPS):
            with torch.no_grad():
                loss(model, step, 0, rank)
            for micro_step in range(1, ga_steps + 1):
                with gradients_kept_local(model, micro_step < ga_steps):
                    loss(model, step, micro_step, rank).backward()
            found.append(gradients(model))
            optimizer.step()
            optimizer.zero_grad()
    return {
        "first": found[0],
        "last": found[-1],
        "warnings": [str(warning.message) for warning in caught],
        "buckets": str(model._get_ddp_logging_data().get("rebuilt_bucket_sizes")),  # type: ignore[operator]
    }


def rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    world = World(CPU, rank, 2)
    found: dict[str, Any] = {}
    for layout in ("NCDHW", "NDHWC"):
        found[f"plain {layout}"] = train(DistributedDataParallel(network(layout)), rank, 1)
        for name, options in (EXACT | ROUNDED).items():
            if layout == "NDHWC" or name == "all":
                found[f"{name} {layout}"] = train(parallel(network(layout), world, **options), rank, 1)
    for ga_steps in (1, GA_STEPS):
        model = parallel(network("NDHWC", torch.float64), world, one_bucket=True)
        found[f"of {ga_steps}"] = train(model, rank, ga_steps)
    try:
        train(parallel(network("NDHWC"), world, static_graph=True), rank, GA_STEPS)
    except ValueError as error:
        found["refused"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks found."""
    folder: Path = tmp_path_factory.mktemp("ddp")
    torch.multiprocessing.spawn(rank_main, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def alike(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize(
    "name", [*(f"{name} NDHWC" for name in EXACT | ROUNDED), "all NCDHW", "of 1", "of 2"]
)
def test_ranks_have_one_gradient(ranks: list[dict[str, Any]], name: str) -> None:
    assert alike(ranks[0][name]["last"], ranks[1][name]["last"])


@pytest.mark.parametrize("name", [*(f"{name} NDHWC" for name in EXACT), "all NCDHW"])
def test_options_do_not_change_gradients(ranks: list[dict[str, Any]], name: str) -> None:
    plain = ranks[0][f"plain {name.split()[-1]}"]
    for when in ("first", "last"):
        assert alike(ranks[0][name][when], plain[when])


@pytest.mark.parametrize("ga_steps", [1, GA_STEPS])
def test_gradients_are_the_mean_over_ranks(ranks: list[dict[str, Any]], ga_steps: int) -> None:
    model = network("NDHWC", torch.float64)
    for rank in range(2):
        for micro_step in range(1, ga_steps + 1):
            (loss(model, 0, micro_step, rank) / 2).backward()
    for found, expected in zip(ranks[0][f"of {ga_steps}"]["first"], gradients(model), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*ROUNDED])
def test_gradients_go_over_the_wire_in_16_bits(ranks: list[dict[str, Any]], name: str) -> None:
    dtype = getattr(torch, name.split()[0])
    for found, exact in zip(
        ranks[0][f"{name} NDHWC"]["first"], ranks[0]["plain NDHWC"]["first"], strict=True
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, found.to(dtype).float()), "a sum that was not rounded"
        # Each rank's half and the sum round by half a unit in the last place.
        bound = 2 * torch.finfo(dtype).eps * exact.abs().max() + torch.finfo(dtype).tiny
        assert (found - exact).abs().max() <= bound


def test_strides_are_warned_of_without_us_alone(ranks: list[dict[str, Any]]) -> None:
    def warned(name: str) -> bool:
        return any("Grad strides do not match" in text for text in ranks[0][name]["warnings"])

    assert warned("plain NDHWC"), "the trap is not set, so this test shows nothing"
    ours = [name for name in ranks[0] if name not in ("plain NDHWC", "refused")]
    assert len(ours) == 11
    assert not any(warned(name) for name in ours)


def test_buckets(ranks: list[dict[str, Any]]) -> None:
    size = sum(p.numel() * p.element_size() for p in network("NCDHW").parameters())
    for name in ("one NDHWC", "all NDHWC", "float16 all NDHWC"):
        assert ranks[0][name]["buckets"] == str(size)
    for name in ("plain NDHWC", "ours NDHWC", "static NDHWC"):
        assert len(ranks[0][name]["buckets"].split(",")) > 1


def test_a_static_graph_does_not_accumulate(ranks: list[dict[str, Any]]) -> None:
    assert "static_graph=False" in ranks[0]["refused"]


def test_one_rank_is_left_alone() -> None:
    model = network("NCDHW")
    assert parallel(model, World(CPU), static_graph=True, one_bucket=True, gradient_dtype="bfloat16") is model


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="gradient dtype must be float32, float16, bfloat16, found 'int8'"):
        parallel(network("NCDHW"), World(CPU, 0, 2), gradient_dtype="int8")
