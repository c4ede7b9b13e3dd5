"""The instructions that multiply BF16, and their description in the record of a run."""

from __future__ import annotations

import pytest

from gan.precision import formats
from gan.precision.formats import describe, native_bf16, vector_length

SAPPHIRE_RAPIDS = "processor : 0\nflags : fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
COOPER_LAKE = "flags\t\t: fpu avx2 avx512f avx512_bf16\n"
ZEN_3 = "flags : fpu avx2\n"


@pytest.mark.parametrize(
    ("cpuinfo", "environment", "expected"),
    [
        (SAPPHIRE_RAPIDS, {}, "amx_bf16"),
        (COOPER_LAKE, {}, "avx512_bf16"),
        (ZEN_3, {}, None),
        ("", {}, None),
        # TensorFlow without oneDNN has no useful BF16 kernels.
        (SAPPHIRE_RAPIDS, {"TF_ENABLE_ONEDNN_OPTS": "0"}, None),
        (SAPPHIRE_RAPIDS, {"TF_ENABLE_ONEDNN_OPTS": "1"}, "amx_bf16"),
        (SAPPHIRE_RAPIDS, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, None),
        (SAPPHIRE_RAPIDS, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "avx512_bf16"),
        (SAPPHIRE_RAPIDS, {"ONEDNN_MAX_CPU_ISA": "avx512_core_amx"}, "amx_bf16"),
        (COOPER_LAKE, {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, "avx512_bf16"),
    ],
)
def test_instructions_that_onednn_uses_for_bf16(
    cpuinfo: str, environment: dict[str, str], expected: str | None
) -> None:
    assert native_bf16(cpuinfo, environment) == expected


@pytest.mark.parametrize(
    ("cpuinfo", "limit", "expected"),
    [
        (SAPPHIRE_RAPIDS, "", 16),
        (ZEN_3, "", 8),
        ("", "", 8),
        (SAPPHIRE_RAPIDS, "avx2", 8),
        (SAPPHIRE_RAPIDS, "AVX512_CORE", 16),
    ],
)
def test_numbers_in_a_vector_of_onednn(cpuinfo: str, limit: str, expected: int) -> None:
    assert vector_length(cpuinfo, {"ONEDNN_MAX_CPU_ISA": limit}) == expected


@pytest.mark.parametrize(("instructions", "words"), [("amx_bf16", "natively (amx_bf16)"), (None, "multiplied in FP32")])
def test_the_record_says_how_bf16_is_computed(
    monkeypatch: pytest.MonkeyPatch, instructions: str | None, words: str
) -> None:
    monkeypatch.setattr(formats, "native_bf16", lambda: instructions)
    described = describe("bf16-full")
    assert (described["requested"], described["native"]) == ("bf16-full", instructions is not None)
    assert words in described["computed"]
    assert "weights in BF16 too" in described["computed"]
    assert describe("fp32") == {"requested": "fp32", "computed": "fp32", "native": True}
