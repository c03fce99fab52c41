"""The table of faulty versions, and who computes the network's convolutions."""

import pytest
import torch
from torch import nn

from model.unet3d import Unet3D
from runtime import cudnn_gate
from runtime.cudnn_faults import FAULTS, faults, version_name
from runtime.cudnn_gate import Convolution, check_convolutions, convolutions, set_cudnn
from runtime.errors import RunError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (1, 1, 16, 16, 16)
FAST = Convolution("Cudnn", torch.float16, (2, 32, 8, 8, 8), (64, 32, 3, 3, 3), transposed=False)


@pytest.mark.parametrize(("number", "name"), [(91501, "9.15.1"), (91002, "9.10.2"), (8902, "8.9.2")])
def test_versions_have_their_names(number: int, name: str) -> None:
    assert version_name(number) == name


@pytest.mark.parametrize(
    ("cudnn", "dtype", "layout", "pytorch", "refused"),
    [
        (91900, torch.bfloat16, "NDHWC", "2.11.0+cu130", []),
        (91900, torch.float16, "NCDHW", "2.11.0+cu130", []),
        (91900, torch.float32, "NCDHW", "2.11.0+cu130", []),
        (90701, torch.bfloat16, "NCDHW", "2.7.0", []),
        (90800, torch.bfloat16, "NCDHW", "2.8.0", [True]),
        (91400, torch.float16, "NCDHW", "2.9.1", [True]),
        (91499, torch.float16, "NDHWC", "2.9.1", [False]),
        (91500, torch.float16, "NCDHW", "2.9.1", []),
        (91501, torch.float16, "NDHWC", "2.9.0+cu130", [True]),
        (91002, torch.float32, "NDHWC", "2.9.0", [False]),
        (91501, torch.float32, "NCDHW", "2.10.0", [False]),
        (91001, torch.float32, "NCDHW", "2.10.0", []),
        (92000, torch.bfloat16, "NDHWC", "2.12.0", [False]),
        (92000, torch.float16, "NDHWC", "2.12.0", []),
    ],
)
def test_the_faults_of_a_version(
    cudnn: int, dtype: torch.dtype, layout: str, pytorch: str, refused: list[bool]
) -> None:
    assert [fault.refused for fault in faults(cudnn, dtype, layout, pytorch)] == refused


def test_every_fault_has_a_source() -> None:
    for fault in FAULTS:
        assert any(word.isdigit() for word in fault.source.replace(",", "").split())


@pytest.mark.parametrize(("layout", "training"), [("NCDHW", True), ("NDHWC", False)])
@pytest.mark.parametrize("normalization", ["instancenorm", "batchnorm"])
def test_all_convolutions_are_found_and_nothing_is_touched(
    layout: str, training: bool, normalization: str
) -> None:
    model = Unet3D(1, 3, normalization, filters=(2, 4)).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = convolutions(model, SHAPE, CPU, None, layout)
    modules = [m for m in model.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]
    assert sorted(c.weight for c in found) == sorted(tuple(m.weight.shape) for m in modules)
    assert [c.transposed for c in found].count(True) == 2
    assert found[0].image == SHAPE
    assert {c.dtype for c in found} == {torch.float32}
    assert model.training is training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model(torch.zeros(2, *SHAPE[1:])).isfinite().all(), "and the model still runs on real data"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_convolutions_are_those_of_autocast(dtype: torch.dtype) -> None:
    found = convolutions(Unet3D(1, 3, filters=(2,)), SHAPE, CPU, dtype, "NCDHW")
    assert {c.dtype for c in found} == {dtype}


def test_shapes_of_a_whole_run_need_no_memory() -> None:
    found = convolutions(Unet3D(1, 3, filters=(32,)), (512, 1, 128, 128, 128), CPU, None, "NDHWC")
    assert found[1].image == (512, 32, 128, 128, 128)


def test_pytorchs_own_loops_are_seen_and_refused_by_name() -> None:
    model = Unet3D(1, 3, filters=(2,))
    with torch.backends.mkldnn.flags(enabled=False):
        found = convolutions(model, SHAPE, CPU, None, "NCDHW")
        with pytest.raises(
            RunError, match=r"cuDNN 9.12.0 would not do the float32 convolution .*slow_conv3d"
        ):
            convolutions(model, SHAPE, CPU, None, "NCDHW", "cuDNN 9.12.0")
    assert {c.backend for c in found} == {"Slow3d", "SlowTranspose3d"}
    assert str(found[-4]) == (
        "the float32 transposed convolution of [1, 2, 8, 8, 8] by weights of [2, 2, 2, 2, 2]"
    )


def test_a_cpu_is_not_gated() -> None:
    said: list[str] = []
    with torch.backends.mkldnn.flags(enabled=False):
        check_convolutions(Unet3D(1, 3, filters=(2,)), SHAPE, CPU, None, "NCDHW", said.append)
    assert said == []


def gate(
    monkeypatch: pytest.MonkeyPatch, cudnn: int | None, found: list[Convolution], layout: str
) -> list[str]:
    """What the gate says where a GPU has this cuDNN and PyTorch chooses these backends."""
    said: list[str] = []
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    monkeypatch.setattr(cudnn_gate, "convolutions", lambda *a: found if a[5].startswith("cuDNN") else [])
    check_convolutions(nn.Identity(), SHAPE, CUDA, torch.float16, layout, said.append)
    return said


def test_a_good_version_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = gate(monkeypatch, 91900, [FAST, FAST], "NDHWC")
    assert said == ["convolutions: 2 by Cudnn (cuDNN 9.19.0 with PyTorch 2.11.0+cu130)"]


def test_a_doubt_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = gate(monkeypatch, 91200, [FAST], "NDHWC")
    assert said[0].startswith("note: cuDNN 9.12.0 with PyTorch 2.11.0+cu130: 16-bit")
    assert len(said) == 2


@pytest.mark.parametrize(
    ("cudnn", "message"),
    [(91200, "cuDNN 9.12.0 with PyTorch 2.11.0.*take --layout NDHWC"), (None, "no cuDNN")],
)
def test_what_spoils_convolutions_is_refused(
    monkeypatch: pytest.MonkeyPatch, cudnn: int | None, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        gate(monkeypatch, cudnn, [FAST], "NCDHW")


def test_cudnn_is_set() -> None:
    with torch.backends.cudnn.flags():
        set_cudnn(benchmark=True, benchmark_limit=0, deterministic=True)
        cudnn = torch.backends.cudnn
        assert (cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic) == (True, 0, True)
        set_cudnn(benchmark=False, benchmark_limit=10, deterministic=False)
        assert (cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic) == (False, 10, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_this_gpus_convolutions_are_cudnns(dtype: torch.dtype | None) -> None:
    model = Unet3D(1, 3, filters=(8, 16)).cuda().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    said: list[str] = []
    check_convolutions(model, (2, 1, 32, 32, 32), CUDA, dtype, "NDHWC", said.append)
    assert "11 by Cudnn, 2 by CudnnTranspose" in said[-1]
    with torch.backends.cudnn.flags(enabled=False), pytest.raises(RunError, match="no cuDNN"):
        check_convolutions(model, (2, 1, 32, 32, 32), CUDA, dtype, "NDHWC", said.append)
