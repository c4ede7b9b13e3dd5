"""The numeric tests pass under the instruction sets of other processors.

This finds tolerances that are right on one processor only. Each setting runs the tests marked `numeric` in one more
process. The ordinary run covers the default instructions of this processor. The variables limit oneDNN (convolutions,
matrix products) and XLA (the loops between them).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.environment import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Setting(NamedTuple):
    """Variables of one more run of the numeric tests."""

    flag: str
    """Flag that the processor needs, from /proc/cpuinfo."""
    variables: dict[str, str]
    options: tuple[str, ...] = ()
    """Options of pytest."""


SETTINGS = {
    "AVX2": Setting(
        "avx2",
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
        # On a processor with AVX-512, TensorFlow still requests matrix products in BF16 from oneDNN, and aborts.
        ("--deselect", "tests/gan/test_generation.py::test_bf16_gives_nearly_the_same_showers"),
    ),
    "AVX-512": Setting("avx512f", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "XLA_FLAGS": "--xla_cpu_max_isa=AVX512"}),
    # This is BF16 without tiles, as on Cooper Lake and Zen 4.
    "AVX-512 BF16": Setting(
        "avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "XLA_FLAGS": "--xla_cpu_max_isa=AVX512"}
    ),
    # This is TensorFlow's default on processors with AVX2 only, for example Zen 1 to 3.
    "without oneDNN": Setting("avx2", {"TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_numeric_tests_pass_with(name: str) -> None:
    setting = SETTINGS[name]
    if setting.flag not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {setting.flag}")
    pytest_options = ("-q", "--no-header", "-m", "numeric and not slow", *setting.options)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_options, "tests/gan"],
        cwd=ROOT, env={**os.environ, **setting.variables}, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{name}: {done.stdout[-5000:]}{done.stderr[-2000:]}"
    assert " passed" in done.stdout
