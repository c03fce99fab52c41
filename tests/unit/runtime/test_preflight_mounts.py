"""Which file system holds a path, by lines of mountinfo."""

from pathlib import Path

import pytest

from runtime.mounts import Mount, mount_of, read_mounts


def mounts(root: Path, *lines: str) -> tuple[Mount, ...]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))
    return read_mounts(root)


def test_the_longest_path_wins_and_of_several_at_one_place_the_last(tmp_path: Path) -> None:
    found = mounts(
        tmp_path,
        "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,data=ordered",
        "21 20 0:8 / /data rw - tmpfs tmpfs rw",
        "22 20 0:9 /v /data rw,noatime master:2 propagate_from:3 - nfs4 host:/a\\040b vers=4.2",
        "23 20 0:5 / /a\\040folder rw - xfs /dev/sdb rw",
    )
    held = mount_of(Path("/data/kits"), found)
    assert held == Mount("0:9", Path("/data"), "nfs4", "host:/a b", ("rw", "noatime", "vers=4.2"))
    assert mount_of(Path("/data"), found) == held
    assert str(mount_of(Path("/database"), found)) == "ext4"
    assert str(mount_of(Path("/a folder/x"), found)) == "xfs"
    assert mount_of(Path("relative"), found) is None


@pytest.mark.parametrize(
    ("line", "in_memory", "name"),
    [
        ("1 1 0:8 / / rw - tmpfs tmpfs rw", True, "tmpfs"),
        ("1 1 0:8 / / rw - ramfs none rw", True, "ramfs"),
        ("1 1 0:8 / / rw - devtmpfs devtmpfs rw", True, "devtmpfs"),
        ("1 1 0:8 / / rw - hugetlbfs hugetlbfs rw", True, "hugetlbfs"),
        ("1 1 1:0 / / rw - ext4 /dev/ram0 rw", True, "ext4 on /dev/ram0"),
        ("1 1 252:0 / / rw - xfs /dev/zram0 rw", True, "xfs on /dev/zram0"),
        ("1 1 8:1 / / rw - ext4 /dev/sda1 rw", False, "ext4"),
        ("1 1 0:40 / / rw - nfs4 server:/vol rw", False, "nfs4"),
        ("1 1 0:40 / / rw - overlay overlay rw", False, "overlay"),
        ("1 1 259:0 / / rw - xfs /dev/pmem0 rw,dax", False, "xfs"),
    ],
)
def test_what_is_memory(tmp_path: Path, line: str, in_memory: bool, name: str) -> None:
    (mount,) = mounts(tmp_path, line)
    assert (mount.in_memory, str(mount)) == (in_memory, name)


def test_a_silent_kernel_tells_of_no_mount(tmp_path: Path) -> None:
    assert read_mounts(tmp_path) == ()
    assert mount_of(tmp_path, ()) is None


def test_this_machine_has_a_mount_for_every_path(tmp_path: Path) -> None:
    assert mount_of(tmp_path.resolve(), read_mounts()) is not None
    shared = mount_of(Path("/dev/shm"), read_mounts())
    assert shared is not None
    assert shared.in_memory
