"""The memory of a process and its descendants."""

import subprocess
import sys
from pathlib import Path

from benchmark.process_tree import TreeMemory, until_quiet

MIB = 1 << 20
PARENT = """
import mmap, subprocess, sys
own = bytearray(b"x") * (40 << 20)
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[::4096])
script = "own = bytearray(b'x') * (40 << 20); print(flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("ready", flush=True)
input()
child.communicate(b"\\n")
"""


def test_children_and_files_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(30 * MIB))
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    tree = TreeMemory()
    tree.sample(process.pid)
    process.communicate(b"\n")
    assert 80 * MIB < tree.peak_kept < 130 * MIB
    assert tree.peak_kept + 30 * MIB <= tree.peak_pss <= tree.peak_rss
    before = tree.peak_pss, tree.peak_kept, tree.peak_rss
    tree.sample(process.pid)
    assert (tree.peak_pss, tree.peak_kept, tree.peak_rss) == before


def test_what_only_waits_is_quiet_and_what_works_is_not() -> None:
    def quiet(script: str) -> bool:
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            try:
                return until_quiet(process.pid, limit_s=1.0)
            finally:
                process.kill()

    assert quiet("import time; print(flush=True); time.sleep(60)")
    assert not quiet("print(flush=True)\nwhile True: pass")
