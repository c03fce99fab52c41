"""A child process that is given one thing after the other, and started anew when it has died of one."""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT
from benchmark.fresh_process import ProcessError, death, end_group
from benchmark.gpu_check.commands import python

_LOOK_S = 0.2


class Worker:
    """Runs `benchmark.gpu_check.child`.

    Args:
        log: For what it prints, errors included.
        dry: Whether it runs on the CPU, with the kernels interpreted.
    """

    def __init__(self, log: Path, dry: bool) -> None:
        self._log, self._dry = log, dry
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(self, section: str, arguments: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """The values of one thing.

        Raises:
            ProcessError: it failed, killed its process, or took longer than ``limit_s``; in one line.
        """
        process = self._process or self._start()
        assert process.stdin
        try:
            process.stdin.write(json.dumps({"section": section, "arguments": arguments}).encode() + b"\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(self._line(process, limit_s))
        except BrokenPipeError:
            raise ProcessError(self._died(process)) from None
        if "error" in found:
            if not found["usable"]:
                self.end()
            raise ProcessError(found["error"])
        values: dict[str, Any] = found["values"]
        return values

    def stop(self) -> None:
        """End it, and what it is doing, for good; another thread may be waiting for it."""
        self._stopped = True
        self.end()

    def end(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process:
            end_group(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._stopped:
            raise ProcessError("interrupted")
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*python(self._dry), "-m", "benchmark.gpu_check.child", *["--dry_run"] * self._dry],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", limit_s: float) -> bytes:
        """The next line of the process."""
        assert process.stdout
        end = time.monotonic() + limit_s
        pipe, line = process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            if self._stopped:
                raise ProcessError("interrupted")
            if time.monotonic() > end:
                self.end()
                raise ProcessError(f"did not end within {limit_s:.0f} s")
            if select.select([pipe], [], [], _LOOK_S)[0]:
                part = os.read(pipe, 1 << 20)
                if not part:
                    raise ProcessError(self._died(process))
                line += part
        return line

    def _died(self, process: "subprocess.Popen[bytes]") -> str:
        status = process.wait()
        self.end()
        return "interrupted" if self._stopped else death(status, self._log)
