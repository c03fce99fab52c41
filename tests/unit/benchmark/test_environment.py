"""What is told of a machine, by files of the kernel of its own making and by the real ones."""

import json
import os
from pathlib import Path

import pytest
import torch

from benchmark import environment
from benchmark.environment import describe, describe_storage

UNLIMITED_V1 = str((1 << 63) - 4096)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /proc and /sys."""
    root = tmp_path / "system"
    root.mkdir()
    monkeypatch.setattr(environment, "SYSTEM", root)
    return root


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_a_description_is_plain_and_has_all() -> None:
    found = json.loads(json.dumps(describe()))
    assert found["cpu_affinity"] == sorted(os.sched_getaffinity(0))
    assert found["usable_cpus"] == len(found["cpu_affinity"])
    assert len(found["load_average"]) == 3
    assert found["torch_threads"]["intra_op"] == torch.get_num_threads()
    assert found["transparent_huge_pages"] in (None, "always", "madvise", "never")
    assert {"cpu_quota", "memory_limit_bytes", "cpu_governors"} <= found.keys()
    assert {"matplotlib", "nvidia-ml-py", "connected-components-3d", "mlperf-logging"} <= found[
        "packages"
    ].keys()
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_nothing_is_made_up_where_the_kernel_is_silent(system: Path) -> None:
    found = describe()
    silent = ("cpu_quota", "memory_limit_bytes", "cpu_governors", "transparent_huge_pages")
    assert [found[key] for key in silent] == [None] * 4
    storage = describe_storage(system)
    assert (storage["filesystem"], storage["mount_options"], storage["read_ahead_kb"]) == (None, [], None)
    assert 0 < storage["free_bytes"] <= storage["total_bytes"]


def test_version_2_of_control_groups(system: Path) -> None:
    group = "sys/fs/cgroup/jobs/mine"
    write(
        system,
        {
            "proc/self/cgroup": "0::/jobs/mine",
            f"{group}/cpu.max": "max 100000",
            f"{group}/memory.max": "8589934592",
            "sys/fs/cgroup/jobs/cpu.max": "150000 100000",
            "sys/fs/cgroup/jobs/memory.max": "max",
        },
    )
    assert (describe()["cpu_quota"], describe()["memory_limit_bytes"]) == (1.5, 8 << 30)
    write(system, {f"{group}/cpu.max": "50000 100000", "sys/fs/cgroup/jobs/memory.max": "4294967296"})
    assert (describe()["cpu_quota"], describe()["memory_limit_bytes"]) == (0.5, 4 << 30)


def test_version_1_of_control_groups(system: Path) -> None:
    cpu, memory = "sys/fs/cgroup/cpu/mine", "sys/fs/cgroup/memory"
    write(
        system,
        {
            "proc/self/cgroup": "5:memory:/not/seen/here\n4:cpu,cpuacct:/mine\n1:name=systemd:/x\n0::/",
            f"{cpu}/cpu.cfs_quota_us": "-1",
            f"{cpu}/cpu.cfs_period_us": "100000",
            f"{memory}/memory.limit_in_bytes": UNLIMITED_V1,
        },
    )
    assert (describe()["cpu_quota"], describe()["memory_limit_bytes"]) == (None, None)
    write(system, {f"{cpu}/cpu.cfs_quota_us": "250000", f"{memory}/memory.limit_in_bytes": "1073741824"})
    assert (describe()["cpu_quota"], describe()["memory_limit_bytes"]) == (2.5, 1 << 30)


def test_huge_pages_and_governors(system: Path) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    governor = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    write(
        system,
        {"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never"}
        | {governor.format(cpu): "powersave" for cpu in others}
        | {governor.format(first): "performance"},
    )
    assert describe()["transparent_huge_pages"] == "madvise"
    assert describe()["cpu_governors"] == sorted({"performance", *["powersave" for _ in others]})


def test_storage_is_that_of_the_longest_mount_without_private_names(system: Path, tmp_path: Path) -> None:
    data = tmp_path / "data set" / "kits"
    data.mkdir(parents=True)
    place = str(data.parent).replace(" ", "\\040")
    write(
        system,
        {
            "proc/self/mountinfo": "\n".join(
                (
                    "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,data=ordered",
                    f"21 20 0:7 / {tmp_path} rw - overlay overlay rw,upperdir=/secret",
                    f"22 20 0:8 / {place} rw - tmpfs hidden rw",
                    f"23 20 0:9 /vol {place} rw,noatime - nfs4 host:/vol vers=4.2,rsize=65536,addr=10.0.0.1",
                    f"24 20 0:10 / {data}x rw - xfs /dev/sdb ro",
                )
            ),
            "sys/class/bdi/0:9/read_ahead_kb": "15360",
        },
    )
    found = describe_storage(data)
    assert found["filesystem"] == "nfs4"
    assert found["mount_options"] == ["noatime", "rsize=65536", "rw", "vers=4.2"]
    assert found["read_ahead_kb"] == 15360
    assert not any(name in json.dumps(found) for name in ("host", "/vol", "10.0.0.1"))
    assert found["total_bytes"] == os.statvfs(data).f_blocks * os.statvfs(data).f_frsize


def test_a_partition_reads_ahead_as_its_disk(system: Path, tmp_path: Path) -> None:
    write(
        system,
        {
            "proc/self/mountinfo": "20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
            "sys/devices/sda/queue/read_ahead_kb": "128",
        },
    )
    (system / "sys/devices/sda/sda1").mkdir()
    (system / "sys/dev/block").mkdir(parents=True)
    (system / "sys/dev/block/8:1").symlink_to("../../devices/sda/sda1")
    assert describe_storage(tmp_path)["read_ahead_kb"] == 128


def test_storage_of_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        describe_storage(tmp_path / "none")


def test_the_real_file_system_is_told(tmp_path: Path) -> None:
    assert describe_storage(tmp_path)["filesystem"]
    assert describe_storage(Path("/proc"))["filesystem"] == "proc"
