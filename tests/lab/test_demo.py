# SPDX-License-Identifier: Apache-2.0
"""`make demo` prints what the README shows, but for times, keys and digests."""

from __future__ import annotations

import os
import re

import pytest

from tests.lab import demo
from tests.lab.settings import CHECKOUT

# What is another one each time -> what stands for it.
_VARIES = (
    (r"\d+\.\d+ s\b|\(\d+ s;", "TIME"),
    (r"\bgwmsdemo\d*\b", "LAB"),
    (r"SHA256:\S+", "FINGERPRINT"),
    (r"(?<=- )((?:ssh|ecdsa)-\S+) \S+", r"\1 KEY"),
    (r"\bbundle [0-9a-f]{12}\b", "bundle DIGEST"),
    (r"\b\d+ bytes\b", "BYTES"),
    (r"\bworker[12]\b", "WORKER"),
    (r" {2,}(?=TIME)", " "),
)


def _lines(text: str) -> list[str]:
    """The lines of the demo itself: those of the lab depend on what the machine has already."""
    for pattern, word in _VARIES:
        text = re.sub(pattern, word, text)
    return text[text.index("1. A login node") :].rstrip().splitlines()


def test_demo_prints_what_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    status = demo.main(f"gwmsdemo{os.getpid()}")
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```\n(The lab: .*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert _lines(said.out) == _lines(shown)
