"""TensorFlow's messages are hidden. Other output, and all output before a failure, is printed."""

from __future__ import annotations

import os

import pytest

from gan.quiet import startup_messages_hidden

REMARK = b"I0000 00:00:1 1 port.cc:153] oneDNN custom operations are on. You may see slightly different results\n"


def test_remarks_are_dropped_and_the_rest_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with startup_messages_hidden():
        os.write(2, REMARK + b"a library is missing\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "a library is missing\nafter\n"


def test_nothing_is_hidden_without_a_temporary_folder(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    with startup_messages_hidden():
        os.write(2, b"oneDNN custom operations are on\n")
    assert capfd.readouterr().err == "oneDNN custom operations are on\n"


def test_everything_is_shown_where_the_start_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def start() -> None:
        with startup_messages_hidden():
            os.write(2, REMARK)
            raise ImportError

    with pytest.raises(ImportError):
        start()
    assert capfd.readouterr().err == REMARK.decode()
