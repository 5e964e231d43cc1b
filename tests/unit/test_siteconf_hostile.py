# SPDX-License-Identifier: Apache-2.0
"""A SITECONF made to do harm is refused, or looked at, within a second and in little memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from glideinwms_bosco.siteconf.resolve import MAX_CHAIN
from tests.unit.siteconf_tree import CATALOG, CONFIG, SIBLING, SITE, STORAGE, siteconf_path, write_siteconf
from tests.unit.siteconf_world import site_file

MAX_SECONDS = 1.0
GRACE_SECONDS = 1.0
"""For a child process to start and end on a busy machine; the deadline in it is a second."""
MAX_MIB = 200
LIMIT_SECONDS = 20
MAX_LINES = 25
"""That an operator gets to read about one SITECONF."""

# The process measures itself, as its ru_maxrss would include what the test had at the fork.
_MEASURE = """
import re, sys, time
from pathlib import Path
from glideinwms_bosco.errors import BoscoError
from glideinwms_bosco.siteconf.check import check_tree
from glideinwms_bosco.siteconf.explain import explain
from glideinwms_bosco.siteconf.from_tree import read_tree
# What other processes take of the machine is not the check's.
began = time.process_time()
tree = read_tree(Path(sys.argv[1]))
numbers = [finding.number for finding in check_tree(tree)]
checked = time.process_time() - began
began = time.monotonic()
try:
    explain(tree, sys.argv[2])
except BoscoError:
    pass
explained = time.monotonic() - began
peak = re.search("VmHWM:\\\\s*([0-9]+)", Path("/proc/self/status").read_text())
print(checked, explained, int(peak[1]) / 1024, ",".join(map(str, sorted(set(numbers)))))
"""


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def looked_at(folder: Path, lfn: str = "/store/data/a.root") -> tuple[float, float, set[int]]:
    """Seconds to check and to explain, and the codes found; in a process with limits of its own."""

    argv = [sys.executable, "-c", _MEASURE, str(folder), lfn]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True, preexec_fn=_limited)
    checked, explained, mib, codes = done.stdout.split(" ")
    assert float(mib) < MAX_MIB
    return float(checked), float(explained), {int(code) for code in codes.split(",") if code.strip()}


BOMB = "<!DOCTYPE a [<!ENTITY b0 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY b{i} '&b{i - 1};&b{i - 1};&b{i - 1};&b{i - 1};'>" for i in range(1, 20)
)
CATALOGS = "".join(f'<catalog site="T2_XX_N{i}" volume="V" protocol="P"/>' for i in range(9_000))
SITE_START = '<site-local-config><site name="T2_XX_Test">'


def _item(protocols: object) -> str:
    item = {"site": SITE, "volume": "Disk", "type": "DISK", "rse": SITE, "protocols": protocols}
    return json.dumps([item], separators=(",", ":"))


def _rules(*patterns: str) -> str:
    rules = [{"lfn": pattern, "pfn": "/$1"} for pattern in patterns]
    return _item([{"protocol": "WebDAV", "access": "global-rw", "rules": rules}])


HOSTILE = {
    "config-huge": (CONFIG, f"{SITE_START}{'<a/>' * 5_000_000}</site></site-local-config>", 1),
    "config-many-tags": (CONFIG, f"{SITE_START}{'<a/>' * 60_000}</site></site-local-config>", 1),
    "config-deep": (CONFIG, "<a>" * 80_000, 1),
    "config-entity-bomb": (CONFIG, f"{BOMB}]>{SITE_START}&b19;</site></site-local-config>", 1),
    "config-many-sites": (
        CONFIG,
        f"{SITE_START}<data-access>{CATALOGS[:240_000].rpartition('<')[0]}</data-access></site></site-local-config>",
        49,
    ),
    "catalog-entity-bomb": (CATALOG, f"{BOMB}]><storage-mapping>&b19;</storage-mapping>", 1),
    "catalog-many-rules": (
        *(CATALOG, "<storage-mapping>" + '<lfn-to-pfn path-match="(a|b)*c"/>' * 7_000 + "</storage-mapping>", 49),
    ),
    "storage-huge": (STORAGE, "[" + "1," * 50_000_000 + "1]", 1),
    "storage-deep": (STORAGE, "[" * 200_000, 1),
    "storage-many-items": (STORAGE, "[" + ",".join(["{}"] * 80_000) + "]", 1),
    "storage-many-rules": (STORAGE, _rules(*["(a?b?)*c"] * 900), 39),
    "storage-long-patterns": (STORAGE, _rules(*["a?" * 240 + str(i) for i in range(400)]), 49),
    "storage-branches": (STORAGE, _rules(*["(" + "|".join("ab" * 120) + f")*{i}" for i in range(400)]), 49),
    "storage-unicode-sets": (STORAGE, _rules(*[r"[\u0000-\uffff]" * 30 + str(i) for i in range(400)]), 38),
    "storage-endless-pattern": (STORAGE, _rules("/store/([a-z/]+)+$"), 39),
    "storage-long-pattern": (STORAGE, _rules("(" * 100_000), 49),
    "storage-deep-groups": (STORAGE, _rules("(" * 200 + ")" * 200), 39),
    "storage-long-chain": (
        STORAGE,
        _item(
            [
                {
                    "protocol": f"P{i}",
                    "access": "virtual",
                    "rules": [{"lfn": "(.*)", "pfn": "$1", "chain": f"P{i + 1}"}],
                }
                for i in range(900)
            ]
        ),
        40,
    ),
    "storage-big-circle": (
        STORAGE,
        _item(
            [
                {"protocol": f"P{i}", "rules": [{"lfn": "(.*)", "pfn": "$1", "chain": f"P{(i + 1) % 900}"}]}
                for i in range(900)
            ]
        ),
        41,
    ),
    "sibling-many-values": (SIBLING, "[" + "1," * 120_000 + "1]", 1),
}


# As above; of a site file that names the folder of the tree, its files or its siblings, and of an import.
_MEASURE_SITE = """
import json, re, sys, time
from pathlib import Path
from glideinwms_bosco.errors import BoscoError
from glideinwms_bosco.pilot.plan import pilot_plan
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.siteconf.from_tree import read_tree
from glideinwms_bosco.siteconf.to_block import to_block
began = time.process_time()
problems = []
try:
    if sys.argv[1] == "import":
        to_block(read_tree(Path(sys.argv[2])))
    else:
        site = load_site(Path(sys.argv[2]))[0]
        problems = [problem for problem in pilot_plan(site, Path("/nowhere"))[1] if "siteconf" in problem.field]
except BoscoError as err:
    problems = [err]
seconds = time.process_time() - began
peak = re.search("VmHWM:\\\\s*([0-9]+)", Path("/proc/self/status").read_text())
print(json.dumps([seconds, int(peak[1]) / 1024, [str(problem) for problem in problems]]))
"""


def processed(what: str, path: Path) -> tuple[float, list[str]]:
    """Seconds for an import, or for what `site check` does with a site file, and what is said; as `looked_at`."""
    argv = [sys.executable, "-c", _MEASURE_SITE, what, str(path)]
    # It imports much, and its own limit is one of CPU time.
    wall_s = 3 * LIMIT_SECONDS
    done = subprocess.run(argv, capture_output=True, text=True, timeout=wall_s, check=True, preexec_fn=_limited)
    seconds, mib, said = json.loads(done.stdout)
    assert mib < MAX_MIB
    assert all("\n" not in sentence for sentence in said)
    return float(seconds), [str(sentence) for sentence in said]


@pytest.mark.parametrize("name", HOSTILE)
def test_is_imported_or_refused_at_once(tmp_path: Path, name: str) -> None:
    which, text, _number = HOSTILE[name]
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, which).write_text(text, encoding="utf-8")
    seconds, _said = processed("import", local)
    assert seconds < MAX_SECONDS


# A site file names no site-local-config.xml: it is made.
WAYS = [(name, way) for name in HOSTILE for way in ("tree", "files") if way == "tree" or HOSTILE[name][0] != CONFIG]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_is_refused_at_once_by_way_of_a_site_file(tmp_path: Path, name: str, way: str) -> None:
    which, text, _number = HOSTILE[name]
    write_siteconf(tmp_path)
    siteconf_path(tmp_path, which).write_text(text, encoding="utf-8")
    block = {
        "site": SITE,
        "data_access": [
            {"volume": "Disk", "protocol": "WebDAV"},
            {"site": "T1_XX_Fed", "volume": "Federation", "protocol": "XRootD"},
        ],
        "stage_out": [{"volume": "Disk", "protocol": "WebDAV"}],
        "storage": str(siteconf_path(tmp_path, STORAGE)),
        "phedex_catalog": str(siteconf_path(tmp_path, CATALOG)),
        "event_data": ["trivialcatalog_file:/etc/cvmfs/SITECONF/local/PhEDEx/storage.xml?protocol=davs"],
        "siblings": {"T1_XX_Fed": str(siteconf_path(tmp_path, SIBLING).parent)},
    }
    path = site_file(tmp_path, {"site": SITE, "tree": str(tmp_path)} if way == "tree" else block)
    seconds, said = processed("site", path)
    assert any(": error: runtime.siteconf" in sentence for sentence in said)
    assert len(said) < MAX_LINES
    assert seconds < MAX_SECONDS


CHAIN = [
    {"protocol": f"P{i}", "access": "virtual", "rules": [{"lfn": "(.*)", "pfn": "$1", "chain": f"P{i + 1}"}]}
    for i in range(MAX_CHAIN)
] + [{"protocol": f"P{MAX_CHAIN}", "access": "virtual", "rules": [{"lfn": "(.*)", "pfn": "/$1"}]}]


@pytest.mark.parametrize("extra", [0, 1])
def test_longest_chain_is_taken_and_no_longer_one(tmp_path: Path, extra: int) -> None:
    first = [{"protocol": "P", "access": "global-rw", "rules": [{"lfn": "(.*)", "pfn": "$1", "chain": "P0"}]}]
    protocols = [*first[:extra], *CHAIN]
    use = {"volume": "Disk", "protocol": protocols[0]["protocol"]}
    item = {"volume": "Disk", "rse": SITE, "protocols": protocols}
    block = {"site": SITE, "data_access": [use], "stage_out": [use], "storage": [item]}
    _seconds, said = processed("site", site_file(tmp_path, block))
    too_long = [sentence for sentence in said if f"chains of Disk are longer than {MAX_CHAIN}; " in sentence]
    assert len(too_long) == extra


@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused_at_once(tmp_path: Path, name: str) -> None:
    which, text, number = HOSTILE[name]
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, which).write_text(text, encoding="utf-8")
    seconds, explained, numbers = looked_at(local)
    assert number in numbers
    assert seconds < MAX_SECONDS
    assert explained < MAX_SECONDS + GRACE_SECONDS


def test_honest_pattern_on_a_long_name_is_given_up(tmp_path: Path) -> None:
    """Six `.*` end, but only after 10^15 steps: the child process is killed."""
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, STORAGE).write_text(_rules("/" + "(.*)a" * 6 + "!"), encoding="utf-8")
    seconds, explained, numbers = looked_at(local, "/store/" + "a" * 1000)
    assert 39 not in numbers
    assert seconds < MAX_SECONDS
    assert explained < MAX_SECONDS + GRACE_SECONDS


def test_links_in_a_circle(tmp_path: Path) -> None:
    write_siteconf(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).symlink_to("b" if name == "a" else "a")
    (tmp_path / "local").unlink()
    (tmp_path / "local").symlink_to("a/b")
    seconds, _explained, numbers = looked_at(tmp_path / "local")
    assert numbers == {3}
    assert seconds < MAX_SECONDS


def test_endless_device_in_the_place_of_a_file(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, STORAGE).unlink()
    siteconf_path(tmp_path, STORAGE).symlink_to("/dev/zero")
    seconds, _explained, numbers = looked_at(local)
    assert 1 in numbers
    assert seconds < MAX_SECONDS
