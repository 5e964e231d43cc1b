# SPDX-License-Identifier: Apache-2.0
"""proxy_setup: which web proxy a pilot takes, and why not another, in every case a node was seen in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.pilot.harness import Outcome, Pilot
from tests.pilot.node import Faults, Node
from tests.pilot.standins import standin_frontier
from tests.pilot.web_world import REPOSITORY, World, conf

LIMIT_MS = 10_000
ALL_WAYS = "environment,pac,wpad"
PAC = '// a comment\nfunction FindProxyForURL(url, host) {{\n    return "{}";\n}}\n'
CONDITION = 'function FindProxyForURL(url, host) {{ if (host == "a") return "{}"; return "DIRECT"; }}'


@pytest.fixture
def world(make_node: Callable[..., Node], tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(make_node(Faults()), tmp_path, stack)


def run(pilot: Pilot) -> Outcome:
    """Run proxy_setup; its own clock is within the limit and it leaves nothing but its files."""
    outcome = pilot.run("proxy_setup")
    if "took_ms" in outcome.metrics:
        assert int(outcome.metrics["took_ms"]) <= LIMIT_MS
    left = {path.name for path in (pilot.folder / "gwms_bosco").iterdir()} if outcome.status else set()
    assert left <= {"web_proxy.conf"}, left
    return outcome


def chosen(pilot: Pilot) -> tuple[str, str, str]:
    """State, source and proxy after a run that must succeed."""
    outcome = run(pilot)
    assert (outcome.rc, outcome.status) == (0, "OK"), outcome
    found = conf(pilot)
    assert pilot.published()["GWMS_BOSCO_WEB_PROXY"] == f'"{found["PROXY"]}"'
    assert pilot.published()["GWMS_BOSCO_WEB_PROXY_SOURCE"] == f'"{found["SOURCE"]}"'
    assert pilot.config()["GWMS_BOSCO_WEB_PROXY_LIST"] == found["LIST"]
    return found["STATE"], found["SOURCE"], found["PROXY"]


def refused(pilot: Pilot, code: str = "BOSCO-WEBPROXY-03") -> str:
    outcome = run(pilot)
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert outcome.detail.startswith(code), outcome.detail
    return outcome.detail


def why(pilot: Pilot) -> str:
    return pilot.published()["GWMS_BOSCO_WEB_PROXY_WHY"]


def test_takes_the_sites_own_squid_for_cvmfs_and_frontier(world: World) -> None:
    squid, near = world.squid(), world.dead()
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=squid, GWMS_BOSCO_WEB_PROXY_BACKUP=near)
    assert chosen(pilot) == ("main", "site", squid)
    assert conf(pilot)["LIST"] == f"{squid};{near}"
    assert (conf(pilot)["FRONTIER"], conf(pilot)["BACKUPS"]) == (squid, near)
    assert pilot.published()["GWMS_BOSCO_WEB_PROXY_SQUID"].startswith('"squid/')
    assert int(pilot.published()["GWMS_BOSCO_WEB_PROXY_LATENCY_MS"]) >= 0
    assert world.stratum1.requests == [f"/cvmfs/{REPOSITORY}/.cvmfspublished"]
    assert standin_frontier.decode_query(world.frontier.requests[0].rpartition("p1=")[2]) == "SELECT 1 FROM DUAL"


def test_refuses_a_node_with_no_proxy_at_all(world: World) -> None:
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXY_DISCOVER=ALL_WAYS)
    assert "no candidate was found" in refused(pilot)
    assert conf(pilot)["STATE"] == "none"


ENVIRONMENTS = {
    "cvmfs-http-proxy": {"CVMFS_HTTP_PROXY": "auto;{}|http://127.0.0.1:1;DIRECT"},
    "frontier": {"FRONTIER_SERVER": "(serverurl=http://s:8000/X)(proxyurl={})"},
    "osg-squid": {"OSG_SQUID_LOCATION": "{}"},
    "http-proxy": {"http_proxy": "{}/"},
}


@pytest.mark.parametrize("source", ENVIRONMENTS)
def test_finds_it_in_the_environment_alone(world: World, source: str) -> None:
    good = world.proxy()
    env = {name: value.format(good.url.upper().replace("HTTP", "http")) for name, value in ENVIRONMENTS[source].items()}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXY_DISCOVER="environment")
    assert chosen(pilot) == ("main", source, good.url)


def test_does_not_look_into_the_environment_unless_asked(world: World) -> None:
    pilot = world.pilot({"http_proxy": world.proxy().url})
    assert "no candidate was found" in refused(pilot)


def test_takes_the_documented_order_in_the_environment(world: World) -> None:
    good, other = world.proxy(), world.proxy()
    env = {"http_proxy": other.url, "OSG_SQUID_LOCATION": other.url, "FRONTIER_PROXY10": other.url}
    pilot = world.pilot({**env, "FRONTIER_PROXY2": good.url}, GWMS_BOSCO_WEB_PROXY_DISCOVER="environment")
    assert chosen(pilot) == ("main", "frontier", good.url)


def test_goes_on_to_the_backup_list_after_a_wrong_environment(world: World) -> None:
    near = world.proxy()
    env = {"http_proxy": world.dead(), "CVMFS_HTTP_PROXY": "squid.example.org", "OSG_SQUID_LOCATION": "UNAVAILABLE"}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXY_DISCOVER="environment", GWMS_BOSCO_WEB_PROXY_BACKUP=near.url)
    assert chosen(pilot) == ("backup", "backup", near.url)
    assert "cvmfs-http-proxy squid.example.org: it names no port" in why(pilot)
    assert "http-proxy 127.0.0.1:" in why(pilot)
    assert conf(pilot)["MAIN"] == env["http_proxy"]


def test_takes_the_one_answer_of_a_pac_file(world: World) -> None:
    good = world.proxy()
    pac = world.pac(pac=PAC.format(f"PROXY 127.0.0.1:{good.server_port}"))
    pilot = world.pilot({"PAC_URLS": pac.at("/pac")}, GWMS_BOSCO_WEB_PROXY_DISCOVER="pac")
    assert chosen(pilot) == ("main", "pac", good.url)


def test_takes_the_first_that_works_of_several_answers(world: World) -> None:
    good = world.proxy()
    answers = f"SOCKS 127.0.0.1:1080; PROXY {world.dead()[7:]}; PROXY {good.url[7:]}; DIRECT"
    pac = world.pac(wpad=PAC.format(answers))
    pilot = world.pilot(
        GWMS_BOSCO_WEB_PROXY_DISCOVER="wpad", GWMS_BOSCO_WPAD_URLS=pac.at("/none") + "," + pac.at("/wpad")
    )
    assert chosen(pilot) == ("backup", "wpad", good.url)
    assert "/none: status 404" in why(pilot)
    assert "SOCKS 127.0.0.1:1080 is ignored" in why(pilot)
    assert "DIRECT is no proxy" in why(pilot)
    assert conf(pilot)["LIST"] == good.url


def test_skips_a_pac_file_with_a_condition_and_says_so(world: World) -> None:
    tempting, good = world.proxy(), world.proxy()
    pac = world.pac(if_=CONDITION.format(f"PROXY {tempting.url[7:]}"), wpad=PAC.format(f"PROXY {good.url[7:]}"))
    pilot = world.pilot(
        GWMS_BOSCO_WEB_PROXY_DISCOVER="pac,wpad",
        GWMS_BOSCO_PAC_URLS=pac.at("/if_"),
        GWMS_BOSCO_WPAD_URLS=pac.at("/wpad"),
    )
    assert chosen(pilot) == ("main", "wpad", good.url)
    assert "/if_: its answer has conditions" in why(pilot)
    assert tempting.requests == []


# What may pass is returned to; the rest is no proxy.
PASSING = ("stale", "silent", "drip")
FAULTS = {
    "portal": "no .cvmfspublished but something else (text/html)",
    "redirect": "sends elsewhere: http://login.example.org/",
    "garbage": "a .cvmfspublished that was changed on the way",
    "stale": "a stale answer, 864000 s old",
    "huge": "an answer of more than 262144 bytes",
    "silent": "no answer in time",
    "drip": "no answer in time",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_is_not_taken_in_by(world: World, fault: str) -> None:
    bad, good = world.proxy(fault), world.proxy()
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=f"{bad.url},{good.url}")
    first = bad.url if fault in PASSING else good.url
    assert chosen(pilot) == ("main" if first == good.url else "backup", "site", good.url)
    assert (conf(pilot)["MAIN"], conf(pilot)["MAIN_SOURCE"], conf(pilot)["LIST"]) == (first, "site", good.url)
    assert f"site {bad.url[7:]}: cvmfs: {FAULTS[fault]}" in why(pilot)


def test_takes_none_that_keeps_nothing_unless_the_site_names_it(world: World) -> None:
    forwarder, good = world.proxy("uncached"), world.proxy()
    env = {"OSG_SQUID_LOCATION": forwarder.url, "http_proxy": good.url}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXY_DISCOVER="environment")
    assert chosen(pilot) == ("main", "http-proxy", good.url)
    assert f"osg-squid {forwarder.url[7:]}: no header of a cache" in why(pilot)


@pytest.mark.parametrize("key", ["GWMS_BOSCO_WEB_PROXIES", "GWMS_BOSCO_WEB_PROXY_BACKUP", "tunnel"])
def test_takes_one_that_keeps_nothing_where_the_site_names_it(world: World, key: str) -> None:
    forwarder = world.proxy("uncached")
    env, config = (
        ({"GWMS_BOSCO_EGRESS_WEB_PROXY": forwarder.url}, {}) if key == "tunnel" else ({}, {key: forwarder.url})
    )
    pilot = world.pilot(env, **config)
    assert chosen(pilot)[2] == forwarder.url
    assert pilot.published()["GWMS_BOSCO_WEB_PROXY_SQUID"] == '"none"'
    assert "no header of a cache" in why(pilot)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("portal", "no answer of Frontier but something else"), ("garbage", "the Frontier server answers with an error")],
)
def test_is_not_taken_in_by_where_frontier_alone_is_asked(world: World, fault: str, reason: str) -> None:
    bad = world.proxy(fault)
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=bad.url, GWMS_BOSCO_WEB_PROXY_TEST_CVMFS="")
    assert f"frontier: {reason}" in refused(pilot)


def test_a_proxy_must_pass_both_tests(world: World) -> None:
    pilot = world.pilot(
        GWMS_BOSCO_WEB_PROXIES=world.proxy().url,
        GWMS_BOSCO_WEB_PROXY_TEST_FRONTIER=f"http://127.0.0.1:{world.stratum1.server_port}/x",
    )
    assert "frontier: status 404" in refused(pilot)


def test_ends_by_its_own_limit_where_nothing_ever_answers(world: World) -> None:
    silent, near = world.proxy("drip"), world.proxy("silent")
    pilot = world.pilot(
        GWMS_BOSCO_WEB_PROXIES=silent.url,
        GWMS_BOSCO_WEB_PROXY_BACKUP=near.url,
        GWMS_BOSCO_WEB_PROXY_DISCOVER="pac",
        GWMS_BOSCO_PAC_URLS=f"{near.url}/pac",
        GWMS_BOSCO_WEB_PROXY_DIRECT="False",
    )
    outcome = run(pilot)
    assert outcome.detail.count("no answer in time") == 3, outcome.detail
    assert int(outcome.metrics["took_ms"]) <= LIMIT_MS


def test_takes_one_that_is_reached_by_ipv6_alone(world: World) -> None:
    good = world.proxy(address="::1")
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=f"{world.dead()},{good.url}")
    assert chosen(pilot) == ("backup", "site", good.url)
    assert conf(pilot)["LIST"] == f"http://[::1]:{good.server_port}"


def test_never_goes_direct_unless_allowed(world: World) -> None:
    env = {"CVMFS_HTTP_PROXY": "DIRECT"}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXIES=world.dead(), GWMS_BOSCO_WEB_PROXY_DISCOVER="environment")
    assert "DIRECT is no proxy" in refused(pilot)
    assert world.stratum1.requests == []


def test_goes_direct_in_the_end_where_allowed(world: World) -> None:
    # Whatever the node's own settings say of proxies.
    env = {"http_proxy": world.dead(), "HTTP_PROXY": world.dead()}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXIES=world.dead(), GWMS_BOSCO_WEB_PROXY_DIRECT="True")
    assert chosen(pilot) == ("direct", "direct", "DIRECT")
    assert (conf(pilot)["LIST"], conf(pilot)["FRONTIER"], conf(pilot)["BACKUPS"]) == ("DIRECT", "", "")


def test_lists_direct_last_where_allowed(world: World) -> None:
    good = world.proxy()
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=good.url, GWMS_BOSCO_WEB_PROXY_DIRECT="True")
    assert chosen(pilot)[0] == "main"
    assert conf(pilot)["LIST"] == f"{good.url};DIRECT"


def test_no_proxy_of_the_node_turns_no_test_into_a_direct_one(world: World) -> None:
    pilot = world.pilot({"no_proxy": "*", "NO_PROXY": "127.0.0.1"}, GWMS_BOSCO_WEB_PROXIES=world.dead())
    refused(pilot)
    assert world.stratum1.requests == []


def test_a_slow_one_is_better_than_none(world: World) -> None:
    slow = world.proxy("slow")
    slow.delay_s = 0.1
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=f"{slow.url},{world.dead()}", GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS="50")
    assert chosen(pilot) == ("main", "site", slow.url)
    assert "more than 50" in why(pilot)


def test_tests_only_so_many_and_says_so(world: World) -> None:
    first = world.proxy("portal")
    urls = ",".join([first.url, *(f"http://127.0.0.1:{port}" for port in range(1, 50))])
    detail = refused(world.pilot(GWMS_BOSCO_WEB_PROXIES=urls))
    assert "34 candidates beyond the first 16 were not tested" in detail
    assert len(first.requests) == 2


def test_leaves_the_backups_alone_where_its_own_passes(world: World) -> None:
    good, near = world.proxy(), world.proxy()
    pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=good.url, GWMS_BOSCO_WEB_PROXY_BACKUP=near.url)
    assert chosen(pilot)[2] == good.url
    assert near.requests == []


@pytest.mark.parametrize("removed", ["curl", "wget"])
def test_needs_only_one_of_curl_and_wget(make_node: Callable[..., Node], tmp_path: Path, removed: str) -> None:
    with ExitStack() as stack:
        world = World(make_node(Faults(removed=(removed,))), tmp_path, stack)
        good = world.proxy()
        pilot = world.pilot({"no_proxy": "*"}, GWMS_BOSCO_WEB_PROXIES=f"{world.proxy('portal').url},{good.url}")
        assert chosen(pilot) == ("main", "site", good.url)
        assert "something else (text/html)" in why(pilot)


def test_refuses_a_node_without_curl_and_wget(make_node: Callable[..., Node], tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = World(make_node(Faults(removed=("curl", "wget"))), tmp_path, stack)
        refused(world.pilot(GWMS_BOSCO_WEB_PROXIES=world.dead()), "BOSCO-WEBPROXY-05")


HOSTILE = (
    "http://a:1;id",
    "http://$(id):1",
    "http://a:1' 'b",
    "http://user:secret@a:1",
    "http://a:99999",
    "-x",
    "http://a:1\\",
)


@pytest.mark.parametrize("value", HOSTILE)
def test_refuses_hostile_attributes(world: World, value: str) -> None:
    for key in ("GWMS_BOSCO_WEB_PROXIES", "GWMS_BOSCO_WEB_PROXY_BACKUP"):
        pilot = Pilot(world.node, world.folder / key, {key: value})
        assert key in refused(pilot, "BOSCO-WEBPROXY-01")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("GWMS_BOSCO_WEB_PROXY_DISCOVER", "environment,../x"),
        ("GWMS_BOSCO_PAC_URLS", "file:///etc/passwd"),
        ("GWMS_BOSCO_WPAD_URLS", "http://a/$(id)"),
        ("GWMS_BOSCO_WEB_PROXY_DIRECT", "perhaps"),
        ("GWMS_BOSCO_WEB_PROXY_TEST_CVMFS", "http://a/x y"),
        ("GWMS_BOSCO_WEB_PROXY_TEST_FRONTIER", "https://a/"),
        ("GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS", "1+a[$(id)]"),
        ("GWMS_BOSCO_WEB_PROXY_SPREAD_S", "-1"),
    ],
)
def test_refuses_other_hostile_attributes(world: World, key: str, value: str) -> None:
    assert key in refused(world.pilot(None, **{key: value}), "BOSCO-WEBPROXY-01")


def test_takes_hostile_variables_for_what_they_are(world: World) -> None:
    good = world.proxy()
    mark = world.folder / "pilot" / "mark"
    bad = f"http://$(touch {mark}):1/`touch {mark}`'\"; touch {mark} #\nPROXY=http://evil:1\n<&>"
    names = (
        "CVMFS_HTTP_PROXY",
        "FRONTIER_PROXY",
        "FRONTIER_PROXY7",
        "FRONTIER_SERVER",
        "OSG_SQUID_LOCATION",
        "PAC_URLS",
    )
    env = {name: f"(proxyurl={bad})" if name == "FRONTIER_SERVER" else bad for name in names}
    env = {**env, "FRONTIER_PROXYx[$(touch mark)]": "x", "http_proxy": "x" * 100_000, "HTTP_PROXY": "-K/etc/passwd"}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXIES=good.url, GWMS_BOSCO_WEB_PROXY_DISCOVER=ALL_WAYS)
    assert chosen(pilot) == ("main", "site", good.url)
    assert not mark.exists()
    assert "evil" not in conf(pilot)["LIST"]
    assert set(why(pilot)) <= set('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.,:;/=()+@%-"')


@pytest.mark.parametrize("fixed", ["", "http://fixed.example.org:1"])
def test_cvmfs_is_given_the_list_unless_it_has_one_of_its_own(world: World, distribution: Path, fixed: str) -> None:
    good = world.proxy(address="::1")
    pilot = world.pilot(
        GWMS_BOSCO_WEB_PROXIES=good.url,
        GWMS_BOSCO_WEB_PROXY_BACKUP=world.dead(),
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_REPOS=REPOSITORY,
        GWMS_BOSCO_CVMFS_PROXY=fixed,
    )
    assert chosen(pilot)[2] == good.url
    assert pilot.run("cvmfs_setup").metrics["mode"] == "userns"
    settings = (pilot.folder / "gwms_bosco" / "cvmfs" / "dist" / "etc" / "cvmfs" / "default.local").read_text()
    used = [line for line in settings.splitlines() if line.startswith("CVMFS_HTTP_PROXY=")][-1]
    assert used == f'CVMFS_HTTP_PROXY="{fixed or conf(pilot)["LIST"]}"'
    assert (pilot.folder / "gwms_bosco" / "web_proxy.conf").exists()
