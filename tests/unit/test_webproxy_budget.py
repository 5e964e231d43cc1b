# SPDX-License-Identifier: Apache-2.0
"""The budget of a web proxy over all sites that name it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.webproxy.budget import DISCOVERED, Budget, budget
from glideinwms_bosco.webproxy.capacity import SETUP_REQUESTS, spread_s
from tests.unit.network_text import EGRESS, SSH_EGRESS, closed
from tests.unit.site_text import VALID

SQUID = "http://squid.example.org:3128"


def proxy(capacity: str, url: str = SQUID) -> str:
    return f'{{url: "{url}", capacity: {{{capacity}}}}}'


def site(folder: Path, name: str, block: str, entries: tuple[str, ...] = (), enabled: bool = True) -> SiteDescription:
    """A site file with a web_proxies block and entries of one CPU."""
    head = VALID[: VALID.index("entries:")].replace("T3_XX_Test", f"T3_XX_{name}")
    rows = "".join(f"  - {{name: {entry}, cpus: 1}}\n" for entry in entries or (f"Entry_{name}",))
    path = folder / f"{name}.yaml"
    more = "" if enabled else "enabled: false\n"
    path.write_text(f"{head}{more}runtime:\n  web_proxies: {block}\nentries:\n{rows}", encoding="utf-8")
    return load_site(path)[0]


def errors(found: Budget) -> list[Problem]:
    return [problem for problem in found.problems if problem.severity == "error"]


def limits(**found: Optional[int]) -> Mapping[str, Optional[int]]:
    return found


def test_all_entries_of_all_sites_share_the_capacity(tmp_path: Path) -> None:
    first = site(tmp_path, "a", f"{{proxies: [{proxy('clients: 1000')}]}}", ("A1", "A2"))
    other = "http://SQUID.example.org.:3128/"
    second = site(tmp_path, "b", f"{{proxies: [{proxy('clients: 1000', other)}]}}")
    fits = budget([first, second], limits(A1=300, A2=200, Entry_b=500))
    assert fits.problems == ()
    (load,) = fits.loads
    assert (load.url, load.clients, load.excess) == (SQUID, 1000, 0)
    assert {name: sum(use.clients or 0 for use in uses) for name, uses in load.by_site().items()} == {
        "a": 500,
        "b": 500,
    }
    found = budget([first, second], limits(A1=300, A2=200, Entry_b=501))
    assert [problem.file for problem in errors(found)] == [first.file, second.file]
    problem = errors(found)[0]
    assert problem.field == "runtime.web_proxies.proxies[0]"
    assert problem.message == f"{SQUID} bears 1000 pilots, and the limits of its entries allow 1001"
    assert "a: 500 = A1 300 + A2 200; b: Entry_b 501" in problem.hint
    assert "take 1 from" in problem.hint


def test_backup_must_bear_all_pilots_too(tmp_path: Path) -> None:
    near = proxy("clients: 100", "http://near:3128")
    found = budget(
        [site(tmp_path, "a", f"{{proxies: [{proxy('clients: 500')}], backup: [{near}]}}")], limits(Entry_a=101)
    )
    assert [problem.field for problem in errors(found)] == ["runtime.web_proxies.backup[0]"]
    assert [use.role for load in found.loads for use in load.uses] == ["main", "backup"]


def test_disabled_sites_and_entries_ask_for_nothing(tmp_path: Path) -> None:
    block = f"{{proxies: [{proxy('clients: 10')}]}}"
    off = site(tmp_path, "a", block, enabled=False)
    on = site(tmp_path, "b", block)
    found = budget([off, on], limits(Entry_a=1000, Entry_b=10))
    assert found.problems == ()
    assert [use.entry for use in found.loads[0].uses] == ["Entry_b"]


def test_contradictory_capacities_name_both_places(tmp_path: Path) -> None:
    first = site(tmp_path, "a", f"{{proxies: [{proxy('clients: 10')}]}}")
    second = site(tmp_path, "b", f"{{backup: [{proxy('requests_per_s: 500')}]}}")
    found = errors(budget([first, second], limits(Entry_a=1, Entry_b=1)))
    line = first.line("runtime.web_proxies.proxies[0].capacity")
    assert [problem.file for problem in found] == [first.file, second.file]
    assert found[0].message == f"{SQUID} bears 10 clients here and 500 requests/s in {second.file}:{line}"
    assert found[1].message == f"{SQUID} bears 500 requests/s here and 10 clients in {first.file}:{line}"
    assert found[1].field == "runtime.web_proxies.backup[0].capacity"


def test_window_follows_from_the_sum_and_the_slowest_proxy(tmp_path: Path) -> None:
    slow, fast = proxy("requests_per_s: 240", "http://slow:1"), proxy("requests_per_s: 1200", "http://fast:1")
    both = site(tmp_path, "a", f"{{proxies: [{fast}, {slow}]}}")
    one = site(tmp_path, "b", f"{{proxies: [{fast}]}}")
    found = budget([both, one], limits(Entry_a=150, Entry_b=200))
    assert found.problems == ()
    assert found.spread_of(one) == spread_s(350, 1200 // SETUP_REQUESTS)
    assert found.spread_of(both) == spread_s(150, 240 // SETUP_REQUESTS)
    assert found.spread_of(both) > found.spread_of(one) > 0


def test_window_that_is_too_long_is_refused_with_what_would_do(tmp_path: Path) -> None:
    here = site(tmp_path, "a", f"{{proxies: [{proxy('requests_per_s: 100')}]}}")
    (problem,) = errors(budget([here], limits(Entry_a=1000)))
    assert "1000 pilots" in problem.message
    assert "more than 600 s" in problem.message
    advice = int(problem.hint.partition(" of ")[2].split()[0])
    assert budget([here], limits(Entry_a=advice)).problems == ()
    assert errors(budget([here], limits(Entry_a=advice + 1)))


def test_proxy_that_bears_no_set_up_is_refused(tmp_path: Path) -> None:
    here = site(tmp_path, "a", f"{{proxies: [{proxy('requests_per_s: 11')}]}}")
    (problem,) = errors(budget([here], limits(Entry_a=1)))
    assert "one pilot's set-up alone makes 12" in problem.message


@pytest.mark.parametrize(("jobs", "refused"), [(1000, False), (1001, True)])
def test_site_that_lives_on_discovery_has_a_cap(tmp_path: Path, jobs: int, refused: bool) -> None:
    here = site(tmp_path, "a", "{discover: [wpad]}")
    found = budget([here], limits(Entry_a=jobs))
    assert [problem.field for problem in errors(found)] == ["runtime.web_proxies.max_jobs"] * refused
    assert found.loads[0].url == DISCOVERED
    assert refused or found.spread_of(here) == spread_s(jobs, 50)


def test_cap_is_for_each_site_alone_and_none_beside_own_proxies_unless_stated(tmp_path: Path) -> None:
    block = "{discover: [wpad], max_jobs: 100}"
    sites = [site(tmp_path, name, block) for name in ("a", "b")]
    own = site(tmp_path, "c", f"{{discover: [wpad], proxies: [{proxy('clients: 5000')}]}}")
    assert budget([*sites, own], limits(Entry_a=100, Entry_b=100, Entry_c=5000)).problems == ()


@pytest.mark.parametrize(("jobs", "refused"), [(100, False), (101, True)])
def test_stated_cap_holds_beside_own_proxies(tmp_path: Path, jobs: int, refused: bool) -> None:
    block = f"{{discover: [environment], proxies: [{proxy('clients: 5000')}], max_jobs: 100}}"
    found = budget([site(tmp_path, "a", block)], limits(Entry_a=jobs))
    assert [problem.field for problem in errors(found)] == ["runtime.web_proxies.max_jobs"] * refused
    assert [(load.url, load.clients) for load in found.loads] == [(SQUID, jobs), (DISCOVERED, jobs)]


def test_unknown_limit_is_a_warning_for_all_who_share(tmp_path: Path) -> None:
    block = f"{{proxies: [{proxy('clients: 10')}]}}"
    sites = [site(tmp_path, name, block) for name in ("a", "b")]
    found = budget(sites, limits(Entry_a=None, Entry_b=10))
    assert [(problem.severity, problem.file) for problem in found.problems] == [
        ("warning", sites[0].file),
        ("warning", sites[1].file),
    ]
    assert "entry Entry_a of site a is not known" in found.problems[1].message


def test_sites_without_the_block_have_no_part(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(VALID, encoding="utf-8")
    plain = load_site(path)[0]
    found = budget([plain], {})
    assert (found.loads, found.problems, found.spread_of(plain)) == ((), (), 0)


FIXED = f"cvmfs: {{repositories: [a.example.org], rungs: [native], proxy: '{SQUID}|http://other.example.org:1;DIRECT'}}"
FRONTIER = """siteconf:
    site: T3_XX_b
    stage_out: [{site: T2_XX_Near, volume: V, protocol: P}]
    siblings: {T2_XX_Near: /srv/near}
    frontier: {proxies: ["http://Squid.example.org:3128"]}"""


def other(folder: Path, name: str, runtime: str) -> SiteDescription:
    """A site file with another runtime block than one of web_proxies alone."""
    text = VALID.replace("T3_XX_Test", f"T3_XX_{name}").replace("Test_Entry", f"Entry_{name}")
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("entries:\n", f"runtime:\n  {runtime}\nentries:\n"), encoding="utf-8")
    return load_site(path)[0]


def behind_tunnel(folder: Path, name: str, *changes: tuple[str, str]) -> SiteDescription:
    """A closed site whose pilots ask 192.0.2.11:3128 by way of the tunnel."""
    text = closed(("web_proxy: egress", "web_proxy: squid"), ("T3_XX_Test", f"T3_XX_{name}"), *changes)
    path = folder / f"{name}.yaml"
    block = "runtime:\n  cvmfs: {repositories: [a.example.org]}\n"
    text = text.replace("Test_Entry", f"Entry_{name}").replace("entries:\n", f"{block}entries:\n")
    path.write_text(text, encoding="utf-8")
    return load_site(path)[0]


@pytest.mark.parametrize(
    ("runtime", "field", "role"),
    [
        (FIXED, "runtime.cvmfs.proxy", "cvmfs.proxy"),
        (FRONTIER, "runtime.siteconf.frontier.proxies[0]", "frontier.proxies"),
    ],
)
def test_fixed_proxies_count_where_another_site_states_the_capacity(
    tmp_path: Path, runtime: str, field: str, role: str
) -> None:
    sites = [
        site(tmp_path, "a", f"{{proxies: [{proxy('clients: 1000')}]}}"),
        other(tmp_path, "b", runtime),
    ]
    fits = budget(sites, limits(Entry_a=600, Entry_b=400))
    assert errors(fits) == []
    assert [(use.entry, use.role) for use in fits.loads[0].uses] == [("Entry_a", "main"), ("Entry_b", role)]
    assert fits.spread_of(sites[0]) == spread_s(1000, 50)
    found = errors(budget(sites, limits(Entry_a=600, Entry_b=401)))
    assert [problem.field for problem in found] == ["runtime.web_proxies.proxies[0]", field]
    assert found[1].line == sites[1].line(field)
    assert all(
        "allow 1001" in problem.message and "a: Entry_a 600; b: Entry_b 401" in problem.hint for problem in found
    )


def test_squid_behind_a_tunnel_counts_where_an_open_site_states_the_capacity(tmp_path: Path) -> None:
    url = "http://192.0.2.11:3128"
    sites = [
        site(tmp_path, "a", f"{{proxies: [{proxy('clients: 1000', url)}]}}"),
        behind_tunnel(tmp_path, "b"),
    ]
    fits = budget(sites, limits(Entry_a=600, Entry_b=400))
    assert fits.problems == ()
    assert fits.spread_of(sites[1]) == spread_s(1000, 50)
    found = errors(budget(sites, limits(Entry_a=600, Entry_b=401)))
    assert [problem.field for problem in found] == ["runtime.web_proxies.proxies[0]", "network.web_proxy"]


def test_egress_proxy_counts_as_the_squid_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(closed(runtime="runtime:\n  cvmfs: {repositories: [a.example.org]}\n"), encoding="utf-8")
    here = load_site(path)[0]
    assert budget([here], limits(Test_Entry=1)).problems == ()
    stated = site(tmp_path, "a", f"{{proxies: [{proxy('clients: 10', 'http://egress.example.org:80')}]}}")
    assert len(errors(budget([stated, here], limits(Entry_a=5, Test_Entry=6)))) == 2


def test_proxy_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    block = f"web_proxies: {{proxies: [{proxy('clients: 10')}]}}\n  {FRONTIER}"
    found = budget([other(tmp_path, "b", block)], limits(Entry_b=10))
    assert found.problems == ()
    assert [(use.entry, use.role) for use in found.loads[0].uses] == [("Entry_b", "main")]


def test_capacity_that_nobody_states_is_one_line_with_what_to_write(tmp_path: Path) -> None:
    found = budget([other(tmp_path, "b", FIXED)], limits(Entry_b=10)).problems
    assert [(problem.severity, problem.field) for problem in found] == [("warning", "runtime.cvmfs.proxy")] * 2
    assert found[0].message == f"no site file states what {SQUID} bears, so the pilots that ask it are not counted"
    assert found[0].hint == "name it under runtime.web_proxies.proxies instead, with its capacity"
    (tunnel,) = budget([behind_tunnel(tmp_path, "c")], limits(Entry_c=10)).problems
    assert (tunnel.severity, tunnel.field) == ("warning", "network.web_proxy")
    advice = tunnel.hint.partition("runtime.web_proxies.")[2].replace("N", "10")
    path = Path(tunnel.file)
    text = path.read_text(encoding="utf-8").replace("runtime:\n", f"runtime:\n  web_proxies: {{{advice}}}\n")
    path.write_text(text, encoding="utf-8")
    assert budget([load_site(path)[0]], limits(Entry_c=10)).problems == ()
    assert errors(budget([load_site(path)[0]], limits(Entry_c=11)))


def test_capacity_of_a_squid_that_ssh_connects_to_has_no_place_in_its_own_site_file(tmp_path: Path) -> None:
    """Pilots would ask it a second time, through the chain; by name that is refused."""
    named = ("192.0.2.11", "squid.example.org"), ("web_proxy: squid", "web_proxy: squid\n  dns: true")
    key = ("tunnel: {auth: hostbased}", "tunnel: {auth: existing, existing_key: .ssh/id}")
    here = behind_tunnel(tmp_path, "c", (EGRESS, SSH_EGRESS), key, *named)
    (problem,) = budget([here], limits(Entry_c=10)).problems
    assert (problem.severity, problem.field) == ("warning", "network.web_proxy")
    assert "backup" not in problem.hint
    assert "limits.per_entry.glideins" in problem.hint
    stated = site(tmp_path, "a", f"{{proxies: [{proxy('clients: 10')}]}}")
    assert budget([here, stated], limits(Entry_a=4, Entry_c=6)).problems == ()


@pytest.mark.parametrize("url", ["http://127.0.0.1:3128", "http://[::1]:3128", "http://localhost:1", "http://squid:1"])
def test_proxy_that_is_another_one_elsewhere_is_not_shared(tmp_path: Path, url: str) -> None:
    stated = site(tmp_path, "a", f"{{proxies: [{proxy('clients: 1', url)}]}}")
    # CVMFS_HTTP_PROXY takes no brackets.
    fixed = f"cvmfs: {{repositories: [a.example.org], rungs: [native], proxy: '{url.replace('[::1]', '127.0.0.2')}'}}"
    frontier = FRONTIER.replace("http://Squid.example.org:3128", url).replace("XX_b", "XX_c")
    sites = [stated, other(tmp_path, "b", fixed), other(tmp_path, "c", frontier)]
    assert budget(sites, limits(Entry_a=1, Entry_b=1, Entry_c=1)).problems == ()


def test_proxy_of_a_disabled_site_needs_no_capacity(tmp_path: Path) -> None:
    off = other(tmp_path, "b", FIXED)
    path = Path(off.file)
    path.write_text("enabled: false\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert budget([load_site(path)[0]], {}).problems == ()


@pytest.mark.parametrize("value", ["DIRECT", "auto", "http://squid.example.org", "https://squid.example.org:3128"])
def test_fixed_proxy_that_no_capacity_can_be_stated_for_is_not_counted(tmp_path: Path, value: str) -> None:
    stated = site(tmp_path, "a", f"{{proxies: [{proxy('clients: 1')}]}}")
    fixed = f"cvmfs: {{repositories: [a.example.org], rungs: [native], proxy: '{value}'}}"
    assert budget([stated, other(tmp_path, "b", fixed)], limits(Entry_a=1, Entry_b=1)).problems == ()
