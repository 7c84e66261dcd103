"""CPU times from the texts of /proc."""

import os
import subprocess
import sys

import pytest

from bench.procs import MachineTimes, StatTimes, family_cpu, parse_machine, parse_schedstat, parse_stat

STAT = (
    "42 (pgpool: (x) y) S 1 42 42 0 -1 4194560 900 800 0 0 150 50 30 20 20 0 1 0 123456 9999 88 18446744073709551615"
    " 0 0 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0"
)


def test_stat_with_parentheses_in_the_name():
    assert parse_stat(STAT, tick=100) == StatTimes(own=2.0, ended=0.5)


def test_schedstat_is_nanoseconds():
    assert parse_schedstat("1500000000 77 3\n") == pytest.approx(1.5)


def test_machine_leaves_idle_and_steal_out_of_busy():
    text = "cpu  100 10 200 5000 70 5 15 40 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert parse_machine(text, tick=100) == MachineTimes(busy=3.3, steal=0.4)


def test_cpu_of_an_ended_child_counts():
    before = family_cpu(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert family_cpu(os.getpid()) - before >= 0.25


def test_a_process_that_is_gone_used_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert family_cpu(process.pid) == 0.0
