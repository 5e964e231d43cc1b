# SPDX-License-Identifier: Apache-2.0
"""The network block of a site file: what it says, its defaults, and what cannot work, with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.network import (
    DEFAULT_PRELOAD,
    ConnectLimits,
    EgressProxy,
    Forward,
    Network,
    Tunnel,
    is_numeric,
)
from glideinwms_bosco.site.runtime import Runtime
from glideinwms_bosco.site.siteconf_block import DEFAULT_FRONTIER_SERVERS
from tests.unit.network_text import EGRESS, PILOT_IMAGE, SSH_EGRESS, closed, closed_site
from tests.unit.site_text import HOST_KEY, changed_site, problems_of
from tests.unit.siteconf_world import SMALLEST

OTHER_KEY = HOST_KEY.replace("UCnK", "UCnA")
SQUID = "{name: squid, host: 192.0.2.11, port: 3128}"
AUTH = "tunnel: {auth: hostbased}"
CVMFS = "cvmfs: {repositories: [cms.cern.ch]}"


def found(folder: Path, text: str) -> list[str]:
    """Findings about the text as `LINE: SEVERITY: FIELD: MESSAGE; HINT`."""
    path = folder / "test.yaml"
    path.write_text(text, encoding="utf-8")
    return [str(problem).replace(f"{path}:", "") for problem in problems_of(path)]


def test_site_without_the_block_has_none(tmp_path: Path) -> None:
    assert changed_site(tmp_path).network is None


def test_defaults(tmp_path: Path) -> None:
    assert closed_site(tmp_path).network == Network(
        login_hosts=("10.77.1.1", "login2"),
        login_port=22,
        login_host_keys=(HOST_KEY,),
        workers=("10.77.1.0/24",),
        exit_addresses=("203.0.113.0/28",),
        tunnel=Tunnel("hostbased", None, False, 300),
        egress=EgressProxy("http-connect", "egress.example.org", 80),
        forwards=(Forward("pool", "192.0.2.10", 9618), Forward("squid", "192.0.2.11", 3128)),
        web_proxy="egress",
        dns=False,
        preload=DEFAULT_PRELOAD,
        payloads=True,
        cvmfsexec=None,
        limits=ConnectLimits(8000, 15000),
    )


def test_every_field_is_read(tmp_path: Path) -> None:
    network = closed_site(
        tmp_path,
        (
            "  web_proxy: egress\n",
            f"  web_proxy: squid\n  login_port: 2222\n  login_host_keys: ['{OTHER_KEY}']\n  dns: true\n"
            "  preload: [/a/libproxychains4.so]\n  payloads: false\n  cvmfsexec: /project/cvmfsexec\n"
            "  limits: {connect_timeout_ms: 4000, read_timeout_ms: 5000}\n",
        ),
        (AUTH, "tunnel: {auth: existing, existing_key: .ssh/id_cluster, max_down_s: 60}"),
        (EGRESS, SSH_EGRESS),
        runtime=f"runtime: {{{CVMFS}, {PILOT_IMAGE}}}\n",
    ).network
    assert network is not None
    assert (network.login_port, network.login_host_keys) == (2222, (OTHER_KEY,))
    assert network.tunnel == Tunnel("existing", ".ssh/id_cluster", False, 60)
    assert network.egress == EgressProxy("ssh", "egress.example.org", 443, "cms", (HOST_KEY,))
    assert (network.web_proxy, network.dns, network.payloads) == ("squid", True, False)
    assert (network.preload, network.cvmfsexec) == (("/a/libproxychains4.so",), "/project/cvmfsexec")
    assert network.limits == ConnectLimits(4000, 5000)


def test_good_block_has_no_findings(tmp_path: Path) -> None:
    assert found(tmp_path, closed()) == []


@pytest.mark.parametrize("kind", ["http-connect", "socks5", "ssh"])
def test_web_proxy_is_on_loopback_or_chained_as_the_kind_says(tmp_path: Path, kind: str) -> None:
    egress = SSH_EGRESS if kind == "ssh" else EGRESS.replace("http-connect", kind)
    key = "tunnel: {auth: existing, existing_key: .ssh/id}"
    network = closed_site(tmp_path, (EGRESS, egress), (AUTH, key), ("web_proxy: egress", "web_proxy: squid")).network
    assert network is not None
    assert network.web_forward == Forward("squid", "192.0.2.11", 3128)
    assert network.web_proxy_is_chained is (kind != "ssh")


# What the schema refuses: field, text that replaces another, part of the message
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("  login_hosts: [10.77.1.1, login2]\n", "", "network.login_hosts"),
        ("  login_hosts: [10.77.1.1, login2]\n", "  login_hosts: ['a;b']\n", "network.login_hosts[0]"),
        ("  login_hosts: [10.77.1.1, login2]\n", "  login_hosts: ['-oProxyCommand=x']\n", "network.login_hosts[0]"),
        (AUTH, "tunnel: {}", "network.tunnel.auth"),
        (AUTH, "tunnel: {auth: password}", "network.tunnel.auth"),
        (AUTH, "tunnel: {auth: existing, existing_key: /etc/key}", "network.tunnel.existing_key"),
        (AUTH, "tunnel: {auth: existing, existing_key: ../key}", "network.tunnel.existing_key"),
        (AUTH, "tunnel: {auth: existing, existing_key: a/../key}", "network.tunnel.existing_key"),
        (AUTH, "tunnel: {auth: hostbased, max_down_s: 29}", "network.tunnel.max_down_s"),
        ("kind: http-connect", "kind: https", "network.egress.kind"),
        ("kind: http-connect, ", "", "network.egress.kind"),
        ("name: squid", "name: Squid", "network.forwards[1].name"),
        ("port: 3128", "port: 0", "network.forwards[1].port"),
        ("port: 3128", "port: 65536", "network.forwards[1].port"),
        ("host: 192.0.2.11", "host: '192.0.2.11,x'", "network.forwards[1].host"),
        ("  web_proxy: egress\n", "  web_proxy: egress\n  preload: [lib.so]\n", "network.preload[0]"),
        ("  web_proxy: egress\n", "  web_proxy: egress\n  preload: [/a/../lib.so]\n", "network.preload[0]"),
        ("  web_proxy: egress\n", "  web_proxi: egress\n", "network.web_proxi"),
        ("  web_proxy: egress\n", "  limits: {connect_timeout_ms: 99}\n", "network.limits.connect_timeout_ms"),
        ("  web_proxy: egress\n", "  limits: {read_timeout_ms: 120001}\n", "network.limits.read_timeout_ms"),
    ],
)
def test_refuses_what_no_network_has(tmp_path: Path, old: str, new: str, field: str) -> None:
    problems = found(tmp_path, closed((old, new)))
    assert any(f": error: {field}: " in problem for problem in problems), problems


SITE_KEY = "tunnel: {auth: site-key, accept_key_on_site: true}"
# What cannot work: replacements, field, part of the message, severity
REFUSED = [
    # IPv6, UDP, names
    ([("192.0.2.10,", "'2001:db8::1',")], "network.forwards[0].host", "carries IPv4 only", "error"),
    ([("[10.77.1.1, login2]", "['fd00::1']")], "network.login_hosts[0]", "IPv6", "error"),
    ([("host: egress.example.org", "host: '::1'")], "network.egress.host", "IPv6", "error"),
    ([("[10.77.1.0/24]", "['fd00::/8']")], "network.workers[0]", "IPv6", "error"),
    ([("port: 3128}", "port: 53, protocol: udp}")], "network.forwards[1].protocol", "carry TCP only", "error"),
    ([("192.0.2.10,", "pool.example.org,")], "network.forwards[0].host", "while dns is off", "error"),
    ([("192.0.2.10,", "192.0.2.256,")], "network.forwards[0].host", "is a name", "error"),
    # the way out
    ([("port: 80}", "port: 8080}")], "network.egress.port", "80 and 443 only, not 8080", "error"),
    ([("  exit_addresses: [203.0.113.0/28]\n", "")], "network.exit_addresses", "cannot tell the site", "warning"),
    ([("[203.0.113.0/28]", "[203.0.113.1/28]")], "network.exit_addresses[0]", "203.0.113.0/28 is meant", "error"),
    ([("[10.77.1.0/24]", "[0.0.0.0/0]")], "network.workers[0]", "everybody", "error"),
    ([("[10.77.1.0/24]", "[10.77.1.0/33]")], "network.workers[0]", "is no network", "error"),
    ([("port: 80}", "port: 80, user: cms}")], "network.egress.user", "has no effect", "warning"),
    ([(EGRESS, "egress: {kind: ssh, host: e, port: 80}")], "network.egress.user", "missing", "error"),
    ([(EGRESS, "egress: {kind: ssh, host: e, port: 80}")], "network.egress.host_keys", "missing", "error"),
    # past the chain
    ([("192.0.2.10,", "10.77.1.9,")], "network.forwards[0].host", "programs connect to it directly", "warning"),
    ([("192.0.2.11", "127.0.0.2")], "network.forwards[1].host", "programs connect to it directly", "warning"),
    ([("host: egress.example.org", "host: 10.77.1.9")], "network.egress.host", "stands outside", "warning"),
    # keys
    ([(AUTH, "tunnel: {auth: site-key}")], "network.tunnel.auth", "payloads run as the same user", "error"),
    ([(AUTH, SITE_KEY)], "network.tunnel.auth", "private key will lie on the site's storage", "warning"),
    ([(AUTH, SITE_KEY), ("  workers: [10.77.1.0/24]\n", "")], "network.workers", "from anywhere", "error"),
    ([(AUTH, "tunnel: {auth: existing}")], "network.tunnel.existing_key", "missing", "error"),
    ([(EGRESS, SSH_EGRESS)], "network.tunnel.existing_key", "knows no host of the site", "error"),
    ([(AUTH, "tunnel: {auth: hostbased, existing_key: a}")], "network.tunnel.existing_key", "no effect", "warning"),
    ([(AUTH, "tunnel: {auth: hostbased, accept_key_on_site: true}")], "network.tunnel", "no effect", "warning"),
    (
        [("  web_proxy: egress\n", "  web_proxy: egress\n  login_host_keys: []\n")],
        "network.login_host_keys",
        "believe no other",
        "error",
    ),
    # forwards and web proxy
    ([("name: pool", "name: collector")], "network.forwards", "no forward is named pool", "error"),
    ([("name: squid", "name: pool")], "network.forwards[1].name", "stands twice", "error"),
    ([("name: squid", "name: egress")], "network.forwards[1].name", "of the egress proxy itself", "error"),
    ([(SQUID, "{name: a, host: 192.0.2.10, port: 9618}")], "network.forwards[1]", "stands twice", "warning"),
    (
        [("web_proxy: egress", "web_proxy: squid"), ("cpus: 8", "cpus: 8\n    proxy_url: None")],
        "network.forwards",
        "web servers of factory",
        "warning",
    ),
    ([("web_proxy: egress", "web_proxy: squid")], "network.web_proxy", "pilots download by 192.0.2.11:3128", "warning"),
    ([("port: 3128", "port: 80")], "network.web_proxy", "does not fetch from squid", "warning"),
    ([(f"    - {SQUID}\n", "")], "network.forwards", "web servers of factory", "warning"),
    ([("web_proxy: egress", "web_proxy: sqiud")], "network.web_proxy", "no forward is named sqiud", "error"),
    ([("kind: http-connect", "kind: socks5")], "network.web_proxy", "answers no web requests", "error"),
    ([("  web_proxy: egress\n", "")], "network", "pilots get no web proxy", "warning"),
    (
        [("192.0.2.11", "squid.example.org"), ("web_proxy: egress", "web_proxy: squid\n  dns: true")],
        "network.web_proxy",
        "asks for squid.example.org by UDP",
        "error",
    ),
    # programs and settings
    (
        [("web_proxy: egress", "web_proxy: egress\n  preload: [/usr/bin/proxychains4]")],
        "network.preload[0]",
        "is no library",
        "error",
    ),
    ([("web_proxy: egress", "web_proxy: egress\n  cvmfsexec: /a")], "network.cvmfsexec", "no effect", "warning"),
    (
        [("  queue: normal\n", "  queue: normal\n  settings: {blah_job_wrapper: /x}\n")],
        "batch.settings.blah_job_wrapper",
        "our own job wrapper",
        "error",
    ),
    ([("system: slurm", "system: condor")], "network", "no job wrapper for batch condor", "error"),
    (
        [("cpus: 8", "cpus: 8\n    attrs: {ENABLE_IPV6: true}")],
        "entries[0].attrs.ENABLE_IPV6",
        "carries IPv4 only",
        "error",
    ),
    (
        [("cpus: 8", "cpus: 8\n    attrs: {USE_CCB: false}")],
        "entries[0].attrs.USE_CCB",
        "nobody can connect",
        "error",
    ),
    (
        [("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_Collector: 'cm.example.org:9618'}")],
        "entries[0].attrs.GLIDEIN_Collector",
        "cm.example.org is a name, and no name can be resolved while dns is off; write addresses",
        "warning",
    ),
    (
        [("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_CCB: '192.0.2.10:9618-9620?sock=c,ccb2.example.org:9618'}")],
        "entries[0].attrs.GLIDEIN_CCB",
        "ccb2.example.org is a name",
        "warning",
    ),
    (
        [("cpus: 8", "cpus: 8\n    raw: {attrs: {GLIDEIN_Factory_Collector: {value: factory.example.org}}}")],
        "entries[0].raw.attrs.GLIDEIN_Factory_Collector",
        "factory.example.org is a name",
        "warning",
    ),
    (
        [("cpus: 8", "cpus: 8\n    proxy_url: http://squid.example.org:3128")],
        "entries[0].proxy_url",
        "while dns is off",
        "error",
    ),
    (
        [("cpus: 8", "cpus: 8\n    proxy_url: http://192.0.2.11:99999")],
        "entries[0].proxy_url",
        "192.0.2.11:99999 is neither",
        "error",
    ),
    (
        [("cpus: 8", "cpus: 8\n    proxy_url: http://192.0.2.12:3128")],
        "entries[0].proxy_url",
        "neither in network.workers nor among",
        "error",
    ),
]


@pytest.mark.parametrize(("changes", "field", "message", "severity"), REFUSED)
def test_says_what_cannot_work(
    tmp_path: Path, changes: list[tuple[str, str]], field: str, message: str, severity: str
) -> None:
    problems = found(tmp_path, closed(*changes))
    assert any(f": {severity}: {field}" in problem and message in problem for problem in problems), problems
    assert all(problem.partition("; ")[2] for problem in problems), "each has a hint"


def test_finding_names_the_line(tmp_path: Path) -> None:
    text = closed(("192.0.2.11", "squid.example.org"))
    line = text[: text.index("squid.example.org")].count("\n") + 1
    (problem,) = found(tmp_path, text)
    assert problem.startswith(f"{line}: error: network.forwards[1].host: ")


@pytest.mark.parametrize(
    "change",
    [
        ("cpus: 8", "cpus: 8\n    proxy_url: http://192.0.2.11:3128"),
        ("cpus: 8", "cpus: 8\n    proxy_url: http://10.77.1.9:3128"),
        ("cpus: 8", "cpus: 8\n    proxy_url: OSG"),
        ("cpus: 8", "cpus: 8\n    attrs: {ENABLE_IPV6: false, USE_CCB: true}"),
        ("cpus: 8", "cpus: 8\n    proxy_url: None"),
        ("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_Collector: '192.0.2.10:9618'}"),
        ("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_Collector: 'pool.example.org:9618'}"),
        ("192.0.2.10,", "pool.example.org,"),
        ("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_CCB: '192.0.2.10:$RANDOM_INTEGER(9620,9720,1)'}"),
        ("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_Site_Collector: None}"),
        ("cpus: 8", "cpus: 8\n    attrs: {GLIDEIN_CCB: 'ccb:9618'}"),
        (SQUID, "{name: web-frontend, host: 192.0.2.11, port: 80}"),
    ],
)
def test_takes_what_can_be_reached(tmp_path: Path, change: tuple[str, str]) -> None:
    dns = [("web_proxy: egress", "web_proxy: egress\n  dns: true")] if "pool" in change[1] else []
    assert found(tmp_path, closed(change, *dns)) == []


@pytest.mark.parametrize("proxy_url", ["OSG", "None"])
@pytest.mark.parametrize(
    "change",
    [("web_proxy: egress", "web_proxy: squid"), ("port: 3128", "port: 80")],
    ids=["squid", "egress"],
)
def test_stated_proxy_url_is_the_operators_own_word(tmp_path: Path, change: tuple[str, str], proxy_url: str) -> None:
    problems = found(tmp_path, closed(change, ("cpus: 8", f"cpus: 8\n    proxy_url: {proxy_url}")))
    assert [text for text in problems if "pilots download by" in text] == []


def test_squid_to_download_by_needs_no_forward_to_the_web_servers(tmp_path: Path) -> None:
    problems = found(tmp_path, closed(("web_proxy: egress", "web_proxy: squid")))
    assert [text for text in problems if "has the collector only" in text] == []


@pytest.mark.parametrize(("kind", "count"), [("ssh", 0), ("http-connect", 1)])
def test_squid_that_ssh_connects_to_may_have_an_address_of_the_workers(tmp_path: Path, kind: str, count: int) -> None:
    """Private networks occur twice: the egress host resolves it, no program on a node does."""
    egress = SSH_EGRESS if kind == "ssh" else EGRESS
    squid = ("web_proxy: egress", "web_proxy: squid")
    text = closed((EGRESS, egress), squid, ("192.0.2.11", "10.77.1.9"))
    assert len([text for text in found(tmp_path, text) if "network.forwards[1].host" in text]) == count


def test_static_program_reaches_a_web_proxy_among_the_workers(tmp_path: Path) -> None:
    parrot = f"runtime: {{{CVMFS[:-1]}, parrot: /opt/parrot_run}}}}\n"
    text = closed(("web_proxy: egress", "web_proxy: squid"), ("192.0.2.11", "10.77.1.9"), runtime=parrot)
    assert [text for text in found(tmp_path, text) if "parrot_run" in text] == []


# The runtime block behind a tunnel: block, field of the finding (None: none), part of the message
@pytest.mark.parametrize(
    ("runtime", "field", "message"),
    [
        (CVMFS, None, ""),
        (f"{CVMFS}, web_proxies: {{max_latency_ms: 2000}}", None, ""),
        (
            f"{CVMFS}, web_proxies: {{discover: [wpad]}}",
            "runtime.web_proxies.discover",
            "PAC files are fetched by name",
        ),
        (
            "web_proxies: {proxies: [{url: 'http://squid.example.org:3128', capacity: {clients: 9}}]}",
            "runtime.web_proxies.proxies[0].url",
            "by UDP, past the chain",
        ),
        (
            "web_proxies: {proxies: [{url: 'http://192.0.2.99:3128', capacity: {clients: 9}}]}",
            "runtime.web_proxies.proxies[0].url",
            "nor among network.forwards",
        ),
        ("web_proxies: {proxies: [{url: 'http://192.0.2.11:3128', capacity: {clients: 9}}]}", None, ""),
        ("web_proxies: {proxies: [{url: 'http://10.77.1.9:3128', capacity: {clients: 9}}]}", None, ""),
        (
            "cvmfs: {repositories: [a.b], proxy: 'http://10.77.1.9:3128;http://192.0.2.99:1|DIRECT'}",
            "runtime.cvmfs.proxy",
            "192.0.2.99:1 is neither",
        ),
    ],
)
def test_runtime_names_only_what_is_reached(tmp_path: Path, runtime: str, field: str, message: str) -> None:
    problems = [
        text for text in found(tmp_path, closed(runtime=f"runtime: {{{runtime}}}\n")) if "node has it" not in text
    ]
    assert len(problems) == (0 if field is None else 1), problems
    assert field is None or (f": {field}: " in problems[0] and message in problems[0])


def test_static_program_cannot_reach_a_chained_web_proxy(tmp_path: Path) -> None:
    """parrot_run is linked statically; nothing can be preloaded into it."""
    parrot = f"runtime: {{{CVMFS[:-1]}, parrot: /opt/parrot_run}}}}\n"
    refused = found(tmp_path, closed(("web_proxy: egress", "web_proxy: squid"), runtime=parrot))
    assert any("runtime.cvmfs.parrot: parrot_run is statically linked" in text for text in refused), refused
    assert found(tmp_path, closed(runtime=parrot)) == []


@pytest.mark.parametrize("more", [[], [("  web_proxy: egress\n", "")]], ids=["egress", "none"])
@pytest.mark.parametrize(
    ("block", "reached"),
    [
        ("cvmfs: {repositories: [a.b], parrot: /p, proxy: 'http://192.0.2.11:3128'}", False),
        (
            "cvmfs: {repositories: [a.b], parrot: /p}, "
            "web_proxies: {proxies: [{url: 'http://192.0.2.11:3128', capacity: {clients: 9}}]}",
            False,
        ),
        ("cvmfs: {repositories: [a.b], parrot: /p, proxy: 'http://10.77.1.9:3128'}", True),
    ],
)
def test_static_program_cannot_reach_any_chained_proxy(
    tmp_path: Path, more: list[tuple[str, str]], block: str, reached: bool
) -> None:
    problems = found(tmp_path, closed(*more, runtime=f"runtime: {{{block}}}\n"))
    assert any("error: runtime.cvmfs.parrot: " in text for text in problems) is not reached, problems


PAYLOAD_IMAGE = PILOT_IMAGE.replace("mode: pilot", "mode: payload")


@pytest.mark.parametrize(
    ("image", "payloads", "refused"),
    [(PAYLOAD_IMAGE, "true", True), (PAYLOAD_IMAGE, "false", False), (PILOT_IMAGE, "true", False)],
    ids=["payload", "not-chained", "pilot"],
)
def test_payloads_in_a_container_of_their_own_are_not_chained(
    tmp_path: Path, image: str, payloads: str, refused: bool
) -> None:
    change = ("web_proxy: egress", f"web_proxy: egress\n  payloads: {payloads}")
    problems = found(tmp_path, closed(change, runtime=f"runtime: {{{image}}}\n"))
    errors = [text for text in problems if "error" in text]
    assert len(errors) == refused, problems
    assert all("runtime.container.mode: payloads would run in a container of their own" in text for text in errors)


def test_payloads_in_the_container_of_a_rung_are_not_chained(tmp_path: Path) -> None:
    cvmfs = "cvmfs: {repositories: [a.b], cvmfsexec: {path: /c}}"
    runtime = f"runtime: {{{cvmfs}, {PILOT_IMAGE.replace('mode: pilot', 'mode: never')}}}\n"
    assert any(": warning: runtime.cvmfs: where this rung" in text for text in found(tmp_path, closed(runtime=runtime)))


@pytest.mark.parametrize(
    ("proxies", "lost"),
    [
        ({}, "cmsbpfrontier.cern.ch"),
        ({"backup_proxies": []}, ""),
        ({"backup_proxies": ["http://192.0.2.11:3128", "http://10.77.1.9:3128"]}, ""),
        ({"backup_proxies": ["http://192.0.2.11:3129"]}, "192.0.2.11:3129"),
        ({"proxies": ["http://192.0.2.99:3128"], "backup_proxies": []}, "192.0.2.99:3128; Frontier clients wait"),
        ({"proxies": ["http://192.0.2.99:3128"], "backup_proxies": []}, "or remove them"),
        ({"proxies": ["http://[1.2.3.4]:3128"], "backup_proxies": []}, "http://[1.2.3.4]:3128"),
    ],
)
def test_frontier_proxies_that_are_not_reached_are_named(
    tmp_path: Path, proxies: dict[str, list[str]], lost: str
) -> None:
    block = json.dumps({**SMALLEST, "frontier": proxies})
    problems = [
        text
        for text in found(tmp_path, closed(runtime=f"runtime: {{siteconf: {block}}}\n"))
        if ": warning: runtime.siteconf.frontier." in text and "not reached from there" in text
    ]
    assert len(problems) == bool(lost), problems
    assert lost in "".join(problems)


@pytest.mark.parametrize(
    ("url", "lost"),
    [
        ("http://Squid.Example.org:3128", None),
        ("http://squid.example.net:3128", "in vain; add"),
        ("http://squid:3128", "in vain, unless the node resolves it; add"),
    ],
)
def test_frontier_proxies_by_name_are_those_of_the_forwards_in_any_case(
    tmp_path: Path, url: str, lost: Optional[str]
) -> None:
    block = json.dumps({**SMALLEST, "frontier": {"proxies": [url], "backup_proxies": []}})
    named = ("192.0.2.11", "SQUID.example.org"), ("web_proxy: egress", "web_proxy: egress\n  dns: true")
    problems = found(tmp_path, closed(*named, runtime=f"runtime: {{siteconf: {block}}}\n"))
    shown = [text for text in problems if "not reached from there" in text]
    assert len(shown) == (lost is not None), problems
    assert lost is None or lost in shown[0]


@pytest.mark.parametrize(
    ("name", "web"),
    [("web", True), ("web-frontend", True), ("web2", True), ("stratum1_ral", True), ("webx", False), ("squid", False)],
)
def test_forward_is_a_web_server_by_its_name(name: str, web: bool) -> None:
    assert Forward(name, "192.0.2.1", 80).is_web is web


def test_external_entries_have_no_network(tmp_path: Path) -> None:
    text = "site: T3_XX_Test\nsubmission: external\nentries: [{name: CE}]\nruntime: {credentials: {}}\n"
    block = closed()[closed().index("network:") : closed().index("entries:")]
    assert any(": error: network: has no place" in text for text in found(tmp_path, text + block))


@pytest.mark.parametrize(("settings", "count"), [("", 0), ("  settings: {blah_job_wrapper: /x}\n", 1)])
def test_whole_pilot_without_a_tunnel_gets_our_job_wrapper_and_no_other(
    tmp_path: Path, settings: str, count: int
) -> None:
    text = closed(("  queue: normal\n", f"  queue: normal\n{settings}"), runtime=f"runtime: {{{PILOT_IMAGE}}}\n")
    text = text[: text.index("network:")] + text[text.index("runtime:") :]
    problems = found(tmp_path, text)
    assert len([text for text in problems if "runtime.container.mode" in text and "error" in text]) == count, problems


def test_rungs_before_the_container_need_the_distribution_on_the_site(tmp_path: Path) -> None:
    runtime = f"runtime: {{cvmfs: {{repositories: [a.b], rungs: [userns]}}, {PILOT_IMAGE}}}\n"
    assert any("userns needs runtime.cvmfs.cvmfsexec" in text for text in found(tmp_path, closed(runtime=runtime)))
    there = ("web_proxy: egress", "web_proxy: egress\n  cvmfsexec: /project/cvmfsexec")
    assert found(tmp_path, closed(there, runtime=runtime)) == []


def bad(**changed: object) -> None:
    good: dict[str, object] = {
        "login_hosts": ("a",),
        "tunnel": Tunnel("hostbased"),
        "egress": EgressProxy("socks5", "e", 80),
        "forwards": (),
    }
    Network(**{**good, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"login_hosts": ("a,b",)},
        {"login_hosts": ("",)},
        {"workers": ("a b",)},
        {"exit_addresses": ('"',)},
        {"preload": ("/a$HOME",)},
        {"cvmfsexec": "/a b"},
    ],
)
def test_object_with_a_value_that_must_not_reach_a_node_cannot_be_built(changed: dict[str, object]) -> None:
    bad()
    with pytest.raises(SiteError):
        bad(**changed)


@pytest.mark.parametrize("text", ["a,b", "a=b", "a b", "", "$(x)", "a\n"])
def test_parts_refuse_what_splits_a_list(text: str) -> None:
    for make in (
        lambda: Forward(text, "h", 1),
        lambda: Forward("n", text, 1),
        lambda: EgressProxy("ssh", text, 1),
        lambda: EgressProxy("ssh", "h", 1, text),
        lambda: Tunnel("existing", text),
    ):
        with pytest.raises(SiteError):
            make()


@pytest.mark.parametrize(
    ("host", "numeric"),
    [("192.0.2.1", True), ("255.255.255.255", True), ("256.0.0.1", False), ("1.2.3", False), ("a.b.c.d", False)],
)
def test_numeric_host(host: str, numeric: bool) -> None:
    assert is_numeric(host) is numeric


def test_web_proxy_of_the_tunnel_needs_no_block_and_serves_frontier(tmp_path: Path) -> None:
    runtime = f"runtime: {{{CVMFS}, siteconf: {json.dumps(dict(SMALLEST))}}}\n"
    assert [text for text in found(tmp_path, closed(runtime=runtime)) if "error" in text] == []
    proxies = runtime_of_closed(tmp_path, runtime).web_proxies
    assert proxies is not None
    assert proxies.named() == ()
    assert proxies.test_frontier == DEFAULT_FRONTIER_SERVERS[0]
    fixed = "runtime: {cvmfs: {repositories: [a.b], proxy: 'http://10.77.1.9:3128'}}\n"
    assert runtime_of_closed(tmp_path, fixed).web_proxies is None


def runtime_of_closed(folder: Path, runtime: str) -> Runtime:
    built = closed_site(folder, runtime=runtime).runtime
    assert built is not None
    return built
