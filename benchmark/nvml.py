"""The state and the energy of a GPU, as NVML tells them: the one door to pynvml (package nvidia-ml-py).

NVML counts all GPUs of a machine, CUDA those of ``CUDA_VISIBLE_DEVICES`` in an order of its own; a device is
therefore found by its UUID, or by its place on the PCI bus where NVML does not know the UUID (a MIG instance:
what is told is then of the whole GPU).

What NVML is asked and does not support, or a driver too old for the question, gives None. Other failures are
told with their reason, under ``nvml_errors`` of `describe_gpu`.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
"""``nvmlClocksEventReasons`` of nvml.h."""

_POLICIES = {0: "its power limit", 1: "heat", 2: "sync boost", 3: "the board's limit", 5: "reliability"}
"""``nvmlPerfPolicyType_t`` of nvml.h, without low utilisation, which is no fault."""

_COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}
"""``nvmlComputeMode_t`` of nvml.h."""

Device = torch.device | int | None
"""As torch counts; None, or a device that is no GPU, is no GPU to NVML either."""


def import_nvml() -> Any:
    """The module pynvml, or None where nvidia-ml-py is not installed."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    return pynvml


def _opened(nvml: Any) -> bool:
    """Initialise NVML, which wants as many shutdowns; False where package, library or driver are missing."""
    if nvml is None:
        return False
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
        return False
    return True


def _handle(nvml: Any, index: int) -> Any:
    """NVML's handle of torch's device ``index``."""
    device = torch.cuda.get_device_properties(index)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{device.uuid}")
    except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
        place: Any = device
        bus = f"{place.pci_domain_id:08x}:{place.pci_bus_id:02x}:{place.pci_device_id:02x}.0"
        return nvml.nvmlDeviceGetHandleByPciBusId(bus)


def _supported(nvml: Any, question: Callable[[], Any]) -> Any:
    """The answer, or None where device or driver do not know the question or this user may not ask it."""
    try:
        return question()
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission):
        return None


def device_index(device: Device) -> int | None:
    """Of a GPU, as torch counts; None for anything else."""
    if isinstance(device, torch.device):
        if device.type != "cuda":
            return None
        device = torch.cuda.current_device() if device.index is None else device.index
    return device if device is not None and device < torch.cuda.device_count() else None


def _reasons(nvml: Any, handle: Any) -> list[str] | None:
    mask = _supported(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if mask is None:
        # Its name before driver 535.
        mask = _supported(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    if mask is None:
        return None
    bits = [1 << bit for bit in range(64) if mask >> bit & 1]
    return [_REASONS.get(bit, hex(bit)) for bit in bits]


def describe_gpu(index: int, nvml: Any = None) -> dict[str, Any]:
    """Driver, clocks (MHz), power (W), temperature (degrees Celsius) and sharing of torch's device ``index``.

    Empty where there is no NVML. ``other_processes`` are those on the GPU with another pid than ours; inside
    a container NVML gives the pids of the host, and ours may be among them. ``nvml_errors`` is there only
    where something failed: the reason by the name of the value, which is then None, or by ``device`` where
    nothing could be asked; a record is not lost for it.
    """
    nvml = nvml or import_nvml()
    if nvml is None:
        return {}
    try:
        if not _opened(nvml):
            return {}
        try:
            values, errors = _answers(nvml, _questions(nvml, _handle(nvml, index)))
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        values, errors = {}, {"device": _reason(error)}
    return values | ({"nvml_errors": errors} if errors else {})


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _answers(nvml: Any, questions: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    values, errors = {}, {}
    for name, question in questions.items():
        try:
            values[name] = _supported(nvml, question)
        except nvml.NVMLError as error:
            values[name], errors[name] = None, _reason(error)
    return values, errors


def _questions(nvml: Any, handle: Any) -> dict[str, Callable[[], Any]]:
    sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
    sensor = nvml.NVML_TEMPERATURE_GPU
    return {
        "driver_version": nvml.nvmlSystemGetDriverVersion,
        "cuda_driver_version": lambda: _cuda_version(nvml.nvmlSystemGetCudaDriverVersion_v2()),
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, sm),
        "sm_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, sm),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, memory),
        "memory_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, memory),
        "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "power_draw_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, sensor),
        "persistence_mode": lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle)),
        "throttle_reasons": lambda: _reasons(nvml, handle),
        "mig_mode": lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0]),
        "compute_mode": lambda: _COMPUTE_MODES.get(mode := nvml.nvmlDeviceGetComputeMode(handle), str(mode)),
        "other_processes": lambda: _other_processes(nvml, handle),
    }


def _cuda_version(number: int) -> str:
    """``13.0`` of 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _other_processes(nvml: Any, handle: Any) -> list[dict[str, int | None]]:
    """Pid and bytes (None where not told) of every process but ours that computes or draws on the GPU."""
    found = [
        *nvml.nvmlDeviceGetComputeRunningProcesses(handle),
        *nvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
        *(_supported(nvml, lambda: nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)) or ()),
    ]
    memory = {process.pid: process.usedGpuMemory for process in found if process.pid != os.getpid()}
    return [{"pid": pid, "memory_bytes": size} for pid, size in sorted(memory.items())]


def slowed_seconds(index: int, nvml: Any = None) -> dict[str, float]:
    """For how long torch's device ``index`` has been slowed down since its driver was loaded, by reason.

    Empty where there is no NVML, or it cannot tell; a measurement is not lost for that.
    """
    nvml = nvml or import_nvml()
    found: dict[str, float] = {}
    try:
        if not _opened(nvml):
            return found
        try:
            handle = _handle(nvml, index)
            for policy, name in _POLICIES.items():
                told = _supported(nvml, partial(nvml.nvmlDeviceGetViolationStatus, handle, policy))
                if told is not None:
                    found[name] = told.violationTime / 1e9
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:
        return {}
    return found


class EnergyMeter:
    """Joules that a GPU takes between ``start`` and ``stop``, all its users together, by its own counter.

    NVML does not say how often the counter moves: measure seconds.

    Args:
        device: As torch counts; one that is no GPU takes no energy that can be told.
        nvml: Stands in for pynvml in tests.
    """

    def __init__(self, device: Device, nvml: Any = None) -> None:
        nvml, index = nvml or import_nvml(), device_index(device)
        self._counter: Callable[[], int | None] = lambda: None
        self.error = ""
        """Why nothing can be told, where NVML failed: a measurement is not lost for it."""
        self._before: int | None = None
        self._started = False
        if index is None or nvml is None:
            return
        try:
            # It stays open as long as the process: opening it takes time, in which energy flows.
            if _opened(nvml):
                handle = _handle(nvml, index)
                self._counter = lambda: self._read(nvml, handle)
        except nvml.NVMLError as error:
            self.error = _reason(error)

    def _read(self, nvml: Any, handle: Any) -> int | None:
        """Millijoules since the driver was loaded; None, and ``error`` where NVML failed."""
        try:
            counter: int | None = _supported(nvml, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
            return counter
        except nvml.NVMLError as error:
            self.error = _reason(error)
            return None

    def start(self) -> None:
        """Read the counter."""
        self._before, self._started = self._counter(), True

    def stop(self) -> float | None:
        """Joules since ``start``; None where there is no GPU or NVML, no such counter (before Volta), or NVML
        fails.

        Raises:
            RuntimeError: it was not started.
        """
        if not self._started:
            raise RuntimeError("an energy meter is started before it is stopped")
        after, self._started = self._counter(), False
        return None if self._before is None or after is None else (after - self._before) / 1000
