"""NVML through a pynvml of the tests' own: which GPU is asked, what it tells, and what is not supported."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark import nvml as nvml_module
from benchmark.disturbances import Disturbances
from benchmark.environment import describe
from benchmark.nvml import EnergyMeter, describe_gpu, import_nvml

CLOCKS = {(False, 1): 1200, (True, 1): 1980, (False, 2): 2000, (True, 2): 2619}


class NvmlError(Exception):
    """Stands for pynvml.NVMLError."""


def _kind(name: str) -> type[NvmlError]:
    return type(f"NVMLError_{name}", (NvmlError,), {})


class FakeNvml:
    """Two GPUs, of which CUDA sees the second as its first; ``failing`` maps functions to what they raise."""

    NVMLError = NvmlError
    NVMLError_LibraryNotFound = _kind("LibraryNotFound")
    NVMLError_DriverNotLoaded = _kind("DriverNotLoaded")
    NVMLError_NotSupported = _kind("NotSupported")
    NVMLError_FunctionNotFound = _kind("FunctionNotFound")
    NVMLError_NoPermission = _kind("NoPermission")
    NVMLError_NotFound = _kind("NotFound")
    NVMLError_InvalidArgument = _kind("InvalidArgument")
    NVMLError_Unknown = _kind("Unknown")
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        self.failing: dict[str, type[NvmlError]] = {}
        self.open = 0
        self.uuids = {"GPU-aaaa": "first", "GPU-bbbb": "second"}
        self.reasons = 0x4 | 0x20
        self.slowed = {0: 5_000_000_000, 1: 0, 2: 0, 3: 0, 5: 0}
        own, other = (
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=5),
            SimpleNamespace(pid=7, usedGpuMemory=9),
        )
        counter = iter((1_000_000, 1_012_500, 1_500_000, 1_500_000))
        self.of_the_machine: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: self.count(1),
            "nvmlShutdown": lambda: self.count(-1),
            "nvmlSystemGetDriverVersion": lambda: "580.1",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 13010,
            "nvmlDeviceGetHandleByUUID": self.by_uuid,
            "nvmlDeviceGetHandleByPciBusId": {"00000000:0a:00.0": "first", "00000000:c1:00.0": "second"}.get,
        }
        self.of_the_second: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetClockInfo": lambda clock: CLOCKS[False, clock],
            "nvmlDeviceGetMaxClockInfo": lambda clock: CLOCKS[True, clock],
            "nvmlDeviceGetEnforcedPowerLimit": lambda: 700_000,
            "nvmlDeviceGetPowerUsage": lambda: 123_456,
            "nvmlDeviceGetTemperature": lambda sensor: 41 + sensor,
            "nvmlDeviceGetPersistenceMode": lambda: 1,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda: self.reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda: 0x8,
            "nvmlDeviceGetMigMode": lambda: [0, 1],
            "nvmlDeviceGetComputeMode": lambda: 3,
            "nvmlDeviceGetComputeRunningProcesses": lambda: [own, other],
            "nvmlDeviceGetGraphicsRunningProcesses": lambda: [SimpleNamespace(pid=3, usedGpuMemory=None)],
            "nvmlDeviceGetMPSComputeRunningProcesses": list,
            "nvmlDeviceGetTotalEnergyConsumption": lambda: next(counter),
            "nvmlDeviceGetViolationStatus": lambda policy: SimpleNamespace(violationTime=self.slowed[policy]),
        }

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def ask(*arguments: Any) -> Any:
            if name in self.failing:
                raise self.failing[name](f"{name} fails")
            if name in self.of_the_machine:
                return self.of_the_machine[name](*arguments)
            assert self.open > 0
            assert arguments[0] == "second"
            return self.of_the_second[name](*arguments[1:])

        return ask

    def count(self, change: int) -> None:
        self.open += change

    def by_uuid(self, uuid: str) -> str:
        if uuid not in self.uuids:
            raise self.NVMLError_NotFound(uuid)
        return self.uuids[uuid]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """NVML's second GPU is torch's only one, as under CUDA_VISIBLE_DEVICES=1."""
    device = SimpleNamespace(
        name="H", total_memory=80, uuid="bbbb", pci_domain_id=0, pci_bus_id=0xC1, pci_device_id=0
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: [device][index])
    return FakeNvml()


def test_all_is_told_of_the_gpu_that_torch_sees(nvml: FakeNvml) -> None:
    assert describe_gpu(0, nvml) == {
        "driver_version": "580.1",
        "cuda_driver_version": "13.1",
        "sm_clock_mhz": 1200,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 2000,
        "memory_clock_max_mhz": 2619,
        "power_limit_w": 700.0,
        "power_draw_w": 123.456,
        "temperature_c": 41,
        "persistence_mode": True,
        "throttle_reasons": ["sw_power_cap", "sw_thermal_slowdown"],
        "mig_mode": False,
        "compute_mode": "exclusive_process",
        "other_processes": [{"pid": 3, "memory_bytes": None}, {"pid": 7, "memory_bytes": 9}],
    }
    assert nvml.open == 0


def test_a_gpu_that_nvml_does_not_know_by_uuid_is_found_on_the_bus(nvml: FakeNvml) -> None:
    del nvml.uuids["GPU-bbbb"]
    assert describe_gpu(0, nvml)["temperature_c"] == 41


def test_the_environment_has_it_beside_name_and_memory(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml_module, "import_nvml", lambda: nvml)
    (gpu,) = describe()["gpus"]
    assert (gpu["name"], gpu["memory_bytes"], gpu["driver_version"]) == ("H", 80, "580.1")
    nvml.failing["nvmlInit"] = nvml.NVMLError_LibraryNotFound
    assert describe()["gpus"] == [{"name": "H", "memory_bytes": 80}]


@pytest.mark.parametrize("error", ["NotSupported", "FunctionNotFound", "NoPermission"])
def test_what_is_not_supported_is_null(nvml: FakeNvml, error: str) -> None:
    nvml.failing["nvmlDeviceGetMigMode"] = getattr(nvml, f"NVMLError_{error}")
    nvml.failing["nvmlDeviceGetMPSComputeRunningProcesses"] = getattr(nvml, f"NVMLError_{error}")
    found = describe_gpu(0, nvml)
    assert found["mig_mode"] is None
    assert len(found["other_processes"]) == 2
    assert "nvml_errors" not in found


def test_other_failures_are_told(nvml: FakeNvml) -> None:
    nvml.failing["nvmlDeviceGetPowerUsage"] = nvml.NVMLError_Unknown
    found = describe_gpu(0, nvml)
    assert (found["power_draw_w"], found["power_limit_w"]) == (None, 700.0)
    assert found["nvml_errors"] == {"power_draw_w": "NVMLError_Unknown: nvmlDeviceGetPowerUsage fails"}
    nvml.failing["nvmlInit"] = nvml.NVMLError_Unknown
    assert describe_gpu(0, nvml) == {"nvml_errors": {"device": "NVMLError_Unknown: nvmlInit fails"}}
    meter = EnergyMeter(0, nvml)
    meter.start()
    assert meter.stop() is None
    assert "nvmlInit fails" in meter.error


def test_a_counter_that_fails_costs_the_energy_alone(nvml: FakeNvml) -> None:
    meter = EnergyMeter(0, nvml)
    meter.start()
    nvml.failing["nvmlDeviceGetTotalEnergyConsumption"] = nvml.NVMLError_Unknown
    assert meter.stop() is None
    assert "nvmlDeviceGetTotalEnergyConsumption fails" in meter.error


@pytest.mark.parametrize("error", ["LibraryNotFound", "DriverNotLoaded"])
def test_without_nvml_nothing_is_told(nvml: FakeNvml, error: str) -> None:
    nvml.failing["nvmlInit"] = getattr(nvml, f"NVMLError_{error}")
    assert describe_gpu(0, nvml) == {}
    meter = EnergyMeter(0, nvml)
    meter.start()
    assert meter.stop() is None


@pytest.mark.parametrize(
    ("mask", "names"),
    [(0, []), (0x1, ["gpu_idle"]), (0x48, ["hw_slowdown", "hw_thermal_slowdown"]), (0x8000, ["0x8000"])],
)
def test_throttle_reasons_have_names(nvml: FakeNvml, mask: int, names: list[str]) -> None:
    nvml.reasons = mask
    assert describe_gpu(0, nvml)["throttle_reasons"] == names
    assert nvml.open == 0


def test_an_old_driver_is_asked_by_the_old_name(nvml: FakeNvml) -> None:
    nvml.failing["nvmlDeviceGetCurrentClocksEventReasons"] = nvml.NVMLError_FunctionNotFound
    assert describe_gpu(0, nvml)["throttle_reasons"] == ["hw_slowdown"]
    nvml.failing["nvmlDeviceGetCurrentClocksThrottleReasons"] = nvml.NVMLError_FunctionNotFound
    assert describe_gpu(0, nvml)["throttle_reasons"] is None


def test_energy_is_the_difference_of_the_counter(nvml: FakeNvml) -> None:
    meter = EnergyMeter(torch.device("cuda", 0), nvml)
    meter.start()
    assert meter.stop() == 12.5
    meter.start()
    assert meter.stop() == 0.0
    with pytest.raises(RuntimeError, match="started before"):
        meter.stop()


def test_a_gpu_without_the_counter_has_no_energy(nvml: FakeNvml) -> None:
    nvml.failing["nvmlDeviceGetTotalEnergyConsumption"] = nvml.NVMLError_NotSupported
    meter = EnergyMeter(0, nvml)
    meter.start()
    assert meter.stop() is None


@pytest.mark.parametrize("device", [None, torch.device("cpu"), 1, torch.device("cuda", 1)])
def test_what_is_no_gpu_has_neither(nvml: FakeNvml, device: Any) -> None:
    meter = EnergyMeter(device, nvml)
    meter.start()
    assert meter.stop() is None
    assert nvml.open == 0


def test_what_disturbs_a_gpu_is_told(nvml: FakeNvml) -> None:
    disturbances = Disturbances(torch.device("cuda", 0), nvml)
    disturbances.start()
    nvml.slowed |= {0: 5_050_000_000, 1: 2_500_000_000}  # of which 50 ms by power are no word worth
    assert disturbances.stop(10.0) == [
        "the GPU was slowed down by heat for 2.5 of 10.0 s",
        "the GPU was shared with process 3, 7",
    ]
    assert nvml.open == 0


def test_what_nvml_cannot_tell_disturbs_nobody(nvml: FakeNvml) -> None:
    nvml.failing["nvmlDeviceGetViolationStatus"] = FakeNvml.NVMLError_NotSupported
    nvml.failing["nvmlDeviceGetComputeRunningProcesses"] = FakeNvml.NVMLError_Unknown
    disturbances = Disturbances(torch.device("cuda", 0), nvml)
    disturbances.start()
    assert disturbances.stop(10.0) == []
    on_cpu = Disturbances(torch.device("cpu"))
    on_cpu.start()
    assert on_cpu.stop(10.0) == []


def test_the_names_are_those_of_the_installed_package() -> None:
    fake, real = FakeNvml(), import_nvml()
    for name in (*fake.of_the_machine, *fake.of_the_second):
        assert callable(getattr(real, name)), name
    kinds = [name for name in dir(FakeNvml) if name.startswith("NVMLError_")]
    assert len(kinds) == 8
    assert all(issubclass(getattr(real, name), real.NVMLError) for name in kinds)
    for name in ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU"):
        assert getattr(real, name) == getattr(fake, name)


def test_this_machine_is_described_with_the_real_package() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    meter = EnergyMeter(torch.device("cpu"))
    meter.start()
    assert meter.stop() is None
    assert describe_gpu(0) == {}
