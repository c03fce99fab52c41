"""What ``--fused`` chooses, on machines that this one is not."""

import pytest
import torch

import model.ops
from model.ops import NATIVE, Ops
from runtime.arguments import parse_arguments
from runtime.errors import RunError
from runtime.fast_paths import choose_ops

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
KERNELS = Ops(norm="triton", join="triton", loss="triton", stem="triton", head="triton")
TWINS = Ops(norm="reference", join="reference", loss="reference")


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def chosen(flags: str, device: torch.device) -> tuple[Ops, str]:
    return choose_ops(parse_arguments(["--data_dir", "d", *flags.split()]), device)


@pytest.mark.usefixtures("capability")
@pytest.mark.parametrize(
    ("flags", "device", "ops", "sentence"),
    [
        ("", GPU, NATIVE, "nothing, PyTorch's own modules (auto: the kernels do not read --layout NCDHW)"),
        ("--layout NDHWC", GPU, KERNELS,
         "norm, join, loss, stem, head by Triton's kernels (auto: a GPU that runs them)"),
        ("--layout NDHWC", CPU, TWINS, "by plain formulas (auto: no GPU, and these keep the layout)"),
        ("--layout NDHWC --fused native", GPU, NATIVE, "as asked"),
        ("--layout NDHWC --fused off", GPU, TWINS, "by plain formulas (as asked)"),
        ("--fused off", CPU, TWINS, "as asked"),
        ("--layout NDHWC --fused triton", GPU, KERNELS, "as asked"),
        ("--layout NDHWC --fused_ops loss stem head", GPU,
         Ops(loss="triton", stem="triton", head="triton"), "loss, stem, head by Triton"),
        ("--layout NDHWC --normalization batchnorm", GPU, Ops(loss="triton", head="triton"),
         "loss, head by Triton"),
        ("--layout NDHWC --normalization batchnorm --fused_ops norm join", GPU, NATIVE, "nothing"),
    ],
)  # fmt: skip
def test_the_choice_and_its_sentence(flags: str, device: torch.device, ops: Ops, sentence: str) -> None:
    found, text = chosen(flags, device)
    assert found == ops
    assert text.startswith("fused: ")
    assert sentence in text


@pytest.mark.usefixtures("capability")
def test_kernels_that_cannot_run_are_refused_when_asked_for_and_passed_over_by_auto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RunError, match=r"--fused triton cannot run: .*need a CUDA device; use --fused auto"):
        chosen("--layout NDHWC --fused triton", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(RunError, match=r"need compute capability 8.0, and this GPU's is 7.5"):
        chosen("--layout NDHWC --fused triton", GPU)
    assert chosen("--layout NDHWC", GPU)[0] == NATIVE
    monkeypatch.setattr(model.ops.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"Triton is not installed \(pip install triton"):
        chosen("--layout NDHWC --fused triton", GPU)
    found, text = chosen("--layout NDHWC", GPU)
    assert found == NATIVE
    assert "auto: Triton is not installed" in text


@pytest.mark.usefixtures("capability")
@pytest.mark.parametrize("flags", ["", "--layout NDHWC --normalization batchnorm"])
def test_recomputing_needs_a_fused_norm(flags: str) -> None:
    with pytest.raises(RunError, match=r"--recompute_norm needs the fused norm, which is not used here"):
        chosen(f"{flags} --recompute_norm", GPU)


def test_join_needs_norm() -> None:
    with pytest.raises(ValueError, match="fuse norm as well"):
        Ops(join="triton")
