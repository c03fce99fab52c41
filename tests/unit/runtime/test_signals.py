"""What a process does on signals, in processes of their own."""

import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

PROGRAM = """
import ctypes, sys, time
from runtime.signals import Signals
mode, signals = sys.argv[1], Signals()
signals.install()
signals.limit(float(sys.argv[2]))
try:
    if mode == "raises":
        print("ready", flush=True)
        time.sleep(60)
    with signals.heeded():
        print("ready", flush=True)
        while not signals.received:
            time.sleep(0.01)
        print("noted", signals.received, flush=True)
        if mode == "deaf":
            time.sleep(60)
        if mode == "blocked":  # in C code that no signal interrupts: a lock that its own thread holds
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
        if mode == "fails":
            raise ValueError
except BaseException as error:
    print(repr(error), flush=True)
    time.sleep(1)
signals.stand_down(7)
print("over", flush=True)
time.sleep(1)
sys.exit(7)
"""


def started(mode: str, grace_s: float = 60) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode, str(grace_s)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_where_it_is_heeded(number: signal.Signals) -> None:
    process = started("heeds")
    process.send_signal(number)
    process.send_signal(number)  # at once: a launcher has sent it on
    assert process.communicate(timeout=20) == (f"noted {number.value}\nover\n", "")
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, "KeyboardInterrupt()"),
        (signal.SIGTERM, "SystemExit(143)"),
        (signal.SIGUSR1, "SystemExit(138)"),
    ],
)
def test_a_signal_is_raised_elsewhere(number: signal.Signals, error: str) -> None:
    process = started("raises")
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == f"{error}\nover\n"


@pytest.mark.parametrize("after", ["ValueError()\n", "over\n"])
def test_no_signal_crosses_the_way_out(after: str) -> None:
    process = started("fails")
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    while process.stdout.readline() != after:
        pass
    if after == "over\n":
        process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 7


@pytest.mark.parametrize("mode", ["deaf", "blocked"])
def test_a_second_signal_ends_the_process_at_once(mode: str) -> None:
    process = started(mode)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 143, "by the first"


def test_a_process_that_does_not_end_is_ended_by_force() -> None:
    process = started("blocked", grace_s=1)
    process.send_signal(signal.SIGUSR1)
    error = process.communicate(timeout=20)[1]
    assert process.returncode == 138
    assert error == "main.py: did not end within 1 s of SIGUSR1: ended by force\n"
