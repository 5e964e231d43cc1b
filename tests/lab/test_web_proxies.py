# SPDX-License-Identifier: Apache-2.0
"""Real squids at a site and outside: which one pilots take, what they do when it dies or slows down, what they ask."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from glideinwms_bosco.webproxy.capacity import SETUP_REQUESTS
from tests.lab import many_setups, payloads, siteconf
from tests.lab.lab import Lab
from tests.lab.pilot_site import MAKER, REPOSITORY
from tests.lab.pilots import ACCOUNT, NodePilot, PilotEntry, start_pilot
from tests.lab.priority import FIRST
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.lab.squid import Squid, peak_rate
from tests.lab.waiting import await_true
from tests.lab.web_site import (
    MANIFEST,
    QUERY,
    WebSite,
    bring_web_entry,
    cvmfs,
    start_web,
    web_proxies,
)

CROWD = 200
STARTS_PER_S = 10
BUDGET_PER_S = STARTS_PER_S * SETUP_REQUESTS
"""Makes the plan have 200 pilots start within 98 s, which one node bears."""
TEST_REQUESTS = 2
"""What one pilot's proxy_setup asks a proxy for that passes at once."""
MOUNT_REQUESTS = SETUP_REQUESTS - TEST_REQUESTS
CROWD_DEADLINE_S = 180.0
HARNESS_PER_S = many_setups.BEGIN_PER_S * SETUP_REQUESTS
"""What the crowd would ask for if its pilots waited only for their turn in the harness: as much as the budget."""
PLAN_SHARE = 0.75
"""Of that, at most, with the plan's wait: so that the harness alone does not pass."""
PEAK_S = 2.0
"""A busy machine stands still for a second now and then, and what several pilots ask for comes at once afterwards."""
SLOW_S = 2.0
MAX_SETUP_S = 10.0
# Three bad rounds, the last of which may take as long as it can, or two good ones; then the machine ad.
CHANGE_DEADLINE_S = 45.0
# Finds the proxies as CMSSW does, and fetches through the first a Frontier object and one of CVMFS.
PAYLOAD = f"""\
exec python3 - <<'END'
import json, os, urllib.request
from xml.etree import ElementTree
path = os.environ["SITECONFIG_PATH"]
text = open(path + "/JobConfig/site-local-config.xml").read()
proxy = ElementTree.fromstring(text).find("site/calib-data/frontier-connect/proxy").get("url")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{"http": proxy}}))
found = {{"path": path, "xml": text}}
for name, url in (("cvmfs", "{MANIFEST}"), ("frontier", "{QUERY}")):
    with opener.open(url, timeout=10) as answer:
        found[name] = answer.read().decode("latin-1")
        found["via"] = answer.headers["Via"]
print(json.dumps(found))
END
"""


@pytest.fixture(scope="module")
def web(lab: Lab, entries: Mapping[str, PilotEntry]) -> WebSite:  # noqa: ARG001 # the way out is the pool's
    siteconf.provide_sibling(lab)
    return start_web(lab)


@pytest.fixture
def all_well(web: WebSite) -> Iterator[WebSite]:
    """All squids run as they should, and will again after the test."""
    yield web
    web.restore()


@pytest.fixture(scope="module")
def entry(lab: Lab, web: WebSite) -> PilotEntry:
    """Of a site with CVMFS, SITECONF, a squid and a backup."""
    proxies = web_proxies(web.local, BUDGET_PER_S, web.backup)
    return bring_web_entry(lab, "web", {"cvmfs": cvmfs(), "siteconf": siteconf.block([]), "web_proxies": proxies}, 1)


@pytest.fixture(scope="module")
def crowd_entry(lab: Lab, web: WebSite) -> PilotEntry:
    """Of a site whose squid bears a crowd of pilots only when they come one after the other."""
    # One node does the work of 200: what is slow there is not the squid.
    proxies = web_proxies(web.crowd, BUDGET_PER_S, max_latency_ms=9000)
    return bring_web_entry(lab, "crowd", {"web_proxies": proxies}, CROWD)


def set_up(lab: Lab, entry: PilotEntry, count: int = 1, mount: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run an entry's proxy_setup `count` times side by side on a node, with what CVMFS would ask for afterwards."""
    folder = lab.run(MAKER, ["mktemp", "-d"], user=ACCOUNT).stdout.strip()
    argv = ["-m", "tests.lab.many_setups", entry.archive, str(count), f"{folder}/all", "proxy_setup", "--mount", *mount]
    done = on_node(lab, *argv)
    lab.run(MAKER, ["rm", "-rf", folder])
    found: list[dict[str, Any]] = json.loads(done)
    assert len(found) == count
    return found


def on_node(lab: Lab, *words: str) -> str:
    """Run Python on the node as the pilots' account; its standard output. One node does the work of many."""
    become = ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups"]
    argv = [*FIRST, *become, "python3", "-B", *words]
    return lab.run(MAKER, argv, env={"PYTHONPATH": CHECKOUT_IN_HOST, "HOME": "/tmp"}, timeout=CROWD_DEADLINE_S).stdout


def choice(lab: Lab, entry: PilotEntry) -> tuple[str, str]:
    """What one pilot that starts now takes, and where it has it from."""
    found = set_up(lab, entry)[0]
    assert found["rc"] == 0, found
    assert found["took_s"] < MAX_SETUP_S, found
    return found["GWMS_BOSCO_WEB_PROXY"], found["GWMS_BOSCO_WEB_PROXY_SOURCE"]


def test_new_pilots_take_the_site_s_squid_while_it_is_well(lab: Lab, entry: PilotEntry, all_well: WebSite) -> None:
    local, backup = (all_well.local.url, "site"), (all_well.backup.url, "backup")
    began = time.time()
    assert choice(lab, entry) == local
    assert len(all_well.local.requests(began)) == TEST_REQUESTS
    all_well.local.kill()
    assert choice(lab, entry) == backup
    all_well.local.start()
    assert choice(lab, entry) == local
    all_well.local.slow(SLOW_S)
    assert choice(lab, entry) == backup
    all_well.local.slow(0)
    assert choice(lab, entry) == local


@pytest.mark.alone
def test_crowd_of_pilots_stays_within_the_budget(lab: Lab, crowd_entry: PilotEntry, all_well: WebSite) -> None:
    """200 set-ups that wait as the plan has them; what they ask for, at once, is far too much.

    They begin within less time than they wait, so for a while as many ask as if all had begun together.
    """
    began = time.time()
    found = set_up(lab, crowd_entry, CROWD, [MANIFEST] * MOUNT_REQUESTS)
    took_s = time.time() - began
    failed = [one for one in found if one["rc"]]
    assert not failed, f"{len(failed)} failed: {failed[0]}"
    assert Counter(one["GWMS_BOSCO_WEB_PROXY"] for one in found) == {all_well.crowd.url: CROWD}
    asked = all_well.crowd.requests(began)
    assert len(asked) <= CROWD * SETUP_REQUESTS
    rush = time.time()
    on_node(lab, "-m", "tests.lab.many_requests", str(CROWD), all_well.crowd.url, *[MANIFEST] * SETUP_REQUESTS)
    peaks = peak_rate(asked, PEAK_S), peak_rate(all_well.crowd.requests(rush), PEAK_S)
    print(
        f"{CROWD} set-ups in {took_s:.0f} s: at most {peaks[0]:.0f} requests/s over {PEAK_S:g} s, "
        f"{peak_rate(asked):.0f} over 1 s; without the plan {HARNESS_PER_S} by the turns of the harness, "
        f"{peaks[1]:.0f} at once; the budget is {BUDGET_PER_S}"
    )
    assert peaks[0] <= min(BUDGET_PER_S, PLAN_SHARE * HARNESS_PER_S)
    assert peaks[1] > BUDGET_PER_S


def test_payloads_follow_the_pilot_from_squid_to_squid(lab: Lab, entry: PilotEntry, all_well: WebSite) -> None:
    """A pilot of the pool, whose check runs every two seconds: its payloads find the choice in their SITECONF."""
    pilot = start_pilot(lab, MAKER, entry, "web", life_s=900, idle_s=900)
    try:
        pilot.await_joined()
        assert_published(pilot, all_well.local)
        assert_payload(lab, pilot, all_well.local, [all_well.backup.url])
        all_well.local.kill()
        await_choice(pilot, all_well.backup, "backup")
        assert_payload(lab, pilot, all_well.backup, [])
        all_well.local.start()
        await_choice(pilot, all_well.local, "main")
        assert_payload(lab, pilot, all_well.local, [all_well.backup.url])
        all_well.local.slow(SLOW_S)
        await_choice(pilot, all_well.backup, "backup")
        all_well.local.slow(0)
        await_choice(pilot, all_well.local, "main")
    finally:
        pilot.end()


def assert_published(pilot: NodePilot, squid: Squid) -> None:
    names = [f"GWMS_BOSCO_WEB_PROXY{end}" for end in ("", "_SOURCE", "_SQUID", "_LATENCY_MS")]
    ad = pilot.ad(*names, "GWMS_BOSCO_SITECONF_FROM") or {}
    assert [ad[names[0]], ad[names[1]], ad["GWMS_BOSCO_SITECONF_FROM"]] == [squid.url, "site", "site-file"], ad
    assert "squid" in ad[names[2]], ad
    assert 0 <= int(ad[names[3]]) < 1000, ad


def await_choice(pilot: NodePilot, squid: Squid, state: str) -> None:
    """Wait until the machine ad says that the pilot has gone over to this one."""
    names = ("GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY", "GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY_STATE")

    def changed() -> bool:
        ad = pilot.ad(*names) or {}
        return [ad.get(name) for name in names] == [squid.url, state]

    def seen() -> str:
        more = ("CHECKED", "WHY", "ERRORS", "LATENCY_MS")
        asked = [f"{request.at_s:.0f} {request.status} {request.took_ms} ms" for request in squid.requests()[-8:]]
        ad = pilot.ad(*names, *(f"{names[0]}_{end}" for end in more))
        return "\n".join([f"at {time.time():.0f}: {ad}", *asked])

    await_true(changed, f"{names[0]} is {squid.url}", CHANGE_DEADLINE_S, seen)


def assert_payload(lab: Lab, pilot: NodePilot, squid: Squid, backups: list[str]) -> None:
    """A payload finds these proxies in its SITECONF, and what it asks for comes through the first."""
    began = time.time()
    payload = payloads.submit(lab, pilot, PAYLOAD)
    assert payload.exit_code() == 0, payload.stderr()
    found = json.loads(payload.stdout())
    assert found["path"].endswith("/gwms_bosco/siteconf/SITECONF/local"), found["path"]
    named = {"proxy": [squid.url], "backupproxy": backups, "server": [siteconf.FRONTIER]}
    assert siteconf.frontier_of(found["xml"]) == named
    assert f"\nN{REPOSITORY}\n" in found["cvmfs"]
    assert '<quality error="0"' in found["frontier"]
    assert squid.name in found["via"], found["via"]
    asked = {request.url for request in squid.requests(began) if request.status == 200}
    assert {MANIFEST, QUERY} <= asked
