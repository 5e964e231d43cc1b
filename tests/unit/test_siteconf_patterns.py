# SPDX-License-Identifier: Apache-2.0
"""Whether readers take a regular expression, and whether it ends, is told by its form; `std::regex` says the same."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from glideinwms_bosco.siteconf.patterns import MAX_PATTERN_CHARS, pattern_facts

# What GCC's std::regex takes.
TAKEN = (
    *(r"/+store/(.*)", r"/store/(?:data|mc)/(.*)", r"(a)\1", r"[^/]+", r"[]a]", r"[^]a]", r"[a\]b]", r"[[:alpha:]_-]"),
    *(r"a{2}", r"a{2,}", r"a{2,3}?", r"a*?", r"(?=a)a", r"(?!b)a", r"\d\w\s\b\B", r"a}", r"x]", r"\/\-\_", r"a|", "()"),
    *(
        r"\Ax",
        r"x\z",
        r"\Q",
        r"\cA",
        r"a**",
        r"a?{2}",
        r"[[.a.]]",
        r"[[=a=]]",
        r"[a-]",
        r"[-a]",
        r"[a-z-9]",
        r"(|a)",
        "$1",
    ),
)
REFUSED = (
    *(r"(?P<a>x)", r"(?i)x", r"(?<=a)b", r"(?>a)", r"(?#c)", r"(?<n>a)", r"(?", r"a{", r"{x", r"a{,3}", r"\p{L}"),
    *(r"a{3,2}", r"[a", r"[z-a]", r"[a-\d]", r"[\d-x]", r"[[:foo:]]", r"(a", r"a)", "\\", "[a\\", r"\c", r"\1"),
    *(r"*a", r"+a", r"a|*b", r"(*a)", r"^*", r"$*", r"\b*", r"(?=a)*"),
)
ENDLESS = (
    *(
        "(a+)+",
        "(a*)*",
        "(a|a)*",
        "(a|aa)*b",
        "(.*/)*x",
        "(a?){30}a{30}",
        "a?" * 30 + "a" * 30,
        "(a|a)" * 30,
        "(.*)" * 7,
    ),
    *("(a{1,50}){1,50}", "(x+x+)+y", "((((a*)*)*)*)*", "(a+){12}", "(" * 40 + ")" * 40, "a" * (MAX_PATTERN_CHARS + 1)),
    *("(" + "|".join("abcdefgh"[i % 8] for i in range(240)) + ")*", r"(a+)\1+", "(?:(a)|b|a)*c"),
)
HONEST = (
    *(
        "/+store/(.*)",
        "([^/]+/)*x",
        "(?:/[a-z]+)*/x",
        "(?:a|b)*c",
        r"(\d+,)*",
        ".*" * 6,
        "(a{2}){3}",
        "a" * MAX_PATTERN_CHARS,
    ),
    *(".*/LoadTest07_(.*)_.*_.*", "/+store/(mc|data|user|group)/(.*)"),
)
DIFFERENT = (r"x\Z", r"\Ax", r"[]a]", r"[^]a]", r"[[:alpha:]]", r"\x2e", r"é")


@pytest.mark.parametrize("pattern", TAKEN)
def test_cmssw_takes_it(pattern: str) -> None:
    assert pattern_facts(pattern).cmssw == ""


@pytest.mark.parametrize("pattern", REFUSED)
def test_cmssw_refuses_it(pattern: str) -> None:
    assert pattern_facts(pattern).cmssw


@pytest.mark.parametrize("pattern", ENDLESS)
def test_it_can_run_for_ever(pattern: str) -> None:
    assert pattern_facts(pattern).endless


@pytest.mark.parametrize("pattern", HONEST)
def test_it_ends(pattern: str) -> None:
    facts = pattern_facts(pattern)
    assert not facts.endless
    assert not facts.differs


@pytest.mark.parametrize("pattern", DIFFERENT)
def test_readers_differ(pattern: str) -> None:
    assert pattern_facts(pattern).differs


@pytest.mark.parametrize(
    ("pattern", "groups", "droppable"),
    [
        ("/(a)(b)", 2, False),
        ("/(a)(.*)", 2, False),
        ("/(a*)(b)", 2, True),
        ("/(a)?(b)", 2, True),
        ("/(?:(a)|b)(c)", 2, True),
        ("(?:a)(b)", 1, False),
    ],
)
def test_groups_that_wmcore_may_leave_out(pattern: str, groups: int, droppable: bool) -> None:
    facts = pattern_facts(pattern)
    assert (facts.groups, facts.droppable) == (groups, droppable)


@pytest.mark.parametrize("pattern", ENDLESS)
def test_the_judgement_is_quick(pattern: str) -> None:
    began = time.process_time()
    pattern_facts(pattern)
    assert time.process_time() - began < 0.1


_PROGRAM = """
#include <iostream>
#include <regex>
#include <string>
int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    try { std::regex made(line); std::cout << "taken\\n"; }
    catch (std::regex_error const&) { std::cout << "refused\\n"; }
  }
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to ask the real std::regex")
def test_the_real_library_agrees(tmp_path: Path) -> None:
    source, program = tmp_path / "ask.cpp", tmp_path / "ask"
    source.write_text(_PROGRAM)
    subprocess.run(["g++", "-std=c++17", "-o", program, source], check=True, timeout=120)
    asked = "".join(f"{pattern}\n" for pattern in (*TAKEN, *REFUSED))
    done = subprocess.run([program], input=asked, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["taken"] * len(TAKEN) + ["refused"] * len(REFUSED)
