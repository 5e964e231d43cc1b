# SPDX-License-Identifier: Apache-2.0
"""The web_proxies block: what it says, its defaults, and what is refused with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.pilot.attrs import runtime_attrs
from glideinwms_bosco.site.load import describe_site
from glideinwms_bosco.site.runtime import MAX_VALUE_CHARS
from glideinwms_bosco.site.web_proxies import DEFAULT_TEST_CVMFS, Capacity, WebProxies, WebProxy, normalised_url
from tests.unit.site_text import VALID, changed_site, problems_of, write_site

FULL = """\
runtime:
  web_proxies:
    proxies:
      - {url: "http://Squid.Example.org:3128/", capacity: {clients: 1000}}
      - {url: "http://squid2.example.org:3128", capacity: {requests_per_s: 500}}
    backup:
      - {url: "http://near.example.org:3128", capacity: {clients: 5000}}
    discover: [environment, pac, wpad]
    pac_urls: [http://wpad.example.org/proxy.pac]
    wpad_urls: [http://grid-wpad/wpad.dat]
    direct: true
    test: {cvmfs: "http://s1.example.org:8000/cvmfs/a.example.org/.cvmfspublished", frontier: none}
    max_latency_ms: 500
"""


def block(text: str) -> str:
    return f"runtime: {{web_proxies: {text}}}\n"


ONE = '[{url: "http://squid.example.org:3128", capacity: {clients: 10}}]'


def described(folder: Path, runtime: str) -> WebProxies:
    runtime_block = describe_site(write_site(folder, "entries:\n", runtime + "entries:\n")).runtime
    assert runtime_block is not None
    assert runtime_block.web_proxies is not None
    return runtime_block.web_proxies


def attrs_with(folder: Path, runtime: str, spread_s: int = 0) -> dict[str, str]:
    site = changed_site(folder, "entries:\n", runtime + "entries:\n")
    return {attr.name: attr.value for attr in runtime_attrs(site, spread_s)}


def found(folder: Path, runtime: str) -> list[str]:
    path = folder / "test.yaml"
    path.write_text(VALID.replace("entries:\n", runtime + "entries:\n"), encoding="utf-8")
    return [str(problem).replace(f"{path}:", "") for problem in problems_of(path)]


def test_every_field_reaches_its_attribute(tmp_path: Path) -> None:
    assert attrs_with(tmp_path, FULL, 37) == {
        "GWMS_BOSCO_PAC_URLS": "http://wpad.example.org/proxy.pac",
        "GWMS_BOSCO_WEB_PROXIES": "http://squid.example.org:3128,http://squid2.example.org:3128",
        "GWMS_BOSCO_WEB_PROXY_BACKUP": "http://near.example.org:3128",
        "GWMS_BOSCO_WEB_PROXY_DIRECT": "True",
        "GWMS_BOSCO_WEB_PROXY_DISCOVER": "environment,pac,wpad",
        "GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS": "500",
        "GWMS_BOSCO_WEB_PROXY_SPREAD_S": "37",
        "GWMS_BOSCO_WEB_PROXY_TEST_CVMFS": "http://s1.example.org:8000/cvmfs/a.example.org/.cvmfspublished",
        "GWMS_BOSCO_WPAD_URLS": "http://grid-wpad/wpad.dat",
    }


def test_defaults_forbid_discovery_and_direct(tmp_path: Path) -> None:
    assert attrs_with(tmp_path, block(f"{{proxies: {ONE}}}")) == {
        "GWMS_BOSCO_WEB_PROXIES": "http://squid.example.org:3128",
        "GWMS_BOSCO_WEB_PROXY_DIRECT": "False",
        "GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS": "1000",
        "GWMS_BOSCO_WEB_PROXY_SPREAD_S": "0",
        "GWMS_BOSCO_WEB_PROXY_TEST_CVMFS": DEFAULT_TEST_CVMFS,
    }


def test_wpad_has_its_usual_places(tmp_path: Path) -> None:
    attrs = attrs_with(tmp_path, block("{discover: [wpad]}"))
    assert attrs["GWMS_BOSCO_WPAD_URLS"].startswith("http://grid-wpad/wpad.dat,http://wpad/wpad.dat,")
    assert "GWMS_BOSCO_PAC_URLS" not in attrs


def test_frontier_is_tested_with_the_first_server_of_the_siteconf(tmp_path: Path) -> None:
    text = f"""\
cms_site: T3_XX_Test
runtime:
  web_proxies: {{proxies: {ONE}}}
  siteconf:
    frontier: {{servers: ["http://f1.example.org:8000/F", "http://f2.example.org:8000/F"]}}
"""
    assert described(tmp_path, text).test_frontier == "http://f1.example.org:8000/F"
    off = text.replace("web_proxies: {", "web_proxies: {test: {frontier: none}, ")
    assert described(tmp_path, off).test_frontier is None


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://SQUID.Example.ORG:3128", "http://squid.example.org:3128"),
        ("http://squid.example.org.:3128/", "http://squid.example.org:3128"),
        ("http://squid:03128", "http://squid:3128"),
        ("http://192.0.2.1:80", "http://192.0.2.1:80"),
        ("http://[2001:DB8:0:0::1]:3128/", "http://[2001:db8::1]:3128"),
    ],
)
def test_one_proxy_has_one_spelling(url: str, normal: str) -> None:
    assert normalised_url(url) == normal
    assert WebProxy(url, Capacity(clients=1)).url == normal


@pytest.mark.parametrize(
    "url",
    [
        *("http://squid", "https://squid:3128", "http://squid:0", "http://squid:65536", "http://a b:1", "http://u@s:1"),
        *("http://[2001:db8::1]", "http://2001:db8::1:3128", "http://[1:2]:3128", "http://[::1%eth0]:3128", ""),
    ],
)
def test_refuses_what_is_no_proxy(url: str) -> None:
    with pytest.raises(SiteError):
        normalised_url(url)


@pytest.mark.parametrize(("clients", "rate"), [(None, None), (1, 1), (0, None), (None, 0), (-1, None)])
def test_refuses_what_is_no_capacity(clients: int, rate: int) -> None:
    with pytest.raises(SiteError):
        Capacity(clients, rate)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("{}", "", "is empty"),
        ("{proxies: []}", ".proxies", "is empty"),
        ('{proxies: [{url: "http://s:1"}]}', ".proxies[0].capacity", "missing"),
        ('{proxies: [{url: "http://s:1", capacity: {}}]}', ".proxies[0].capacity.clients", "missing"),
        ('{proxies: [{url: "http://s", capacity: {clients: 1}}]}', ".proxies[0].url", "not allowed"),
        ('{proxies: [{url: "http://s:65536", capacity: {clients: 1}}]}', ".proxies[0].url", "not allowed"),
        ('{proxies: [{url: "http://s:1", capacity: {clients: 0}}]}', ".proxies[0].capacity.clients", "at least 1"),
        ('{proxies: [{url: "http://[1:2]:3128", capacity: {clients: 1}}]}', ".proxies[0].url", "IPv6"),
        ("{discover: [dns]}", ".discover[0]", "not known"),
        ("{discover: [pac], pac_urls: [proxy.pac]}", ".pac_urls[0]", "not allowed"),
        ("{discover: [pac], pac_urls: ['http://a/$(id)']}", ".pac_urls[0]", "not allowed"),
        ("{discover: [wpad], test: {cvmfs: none}}", ".test", "any proxy would pass"),
        ("{max_jobs: 10}", "", "names no proxy"),
        ("{direct: false}", "", "names no proxy"),
        (
            '{proxies: [{url: "http://s:1", capacity: {clients: 1}}], '
            'backup: [{url: "http://S:1/", capacity: {clients: 1}}]}',
            ".backup[0]",
            "stands twice",
        ),
    ],
)
def test_refuses(tmp_path: Path, text: str, field: str, message: str) -> None:
    errors = [line for line in found(tmp_path, block(text)) if "error" in line]
    line = VALID[: VALID.index("entries:")].count("\n") + 1
    assert any(
        error.startswith(f"{line}: error: runtime.web_proxies{field}: ") and message in error for error in errors
    ), errors


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("{direct: true}", "", "names no proxy"),
        (f"{{proxies: {ONE}, max_jobs: 10}}", ".max_jobs", "no effect"),
        ("{discover: [wpad], pac_urls: [http://a/b.pac]}", ".pac_urls", "no effect"),
        ("{discover: [pac], wpad_urls: [http://a/b.pac]}", ".wpad_urls", "no effect"),
    ],
)
def test_warns(tmp_path: Path, text: str, field: str, message: str) -> None:
    (line,) = found(tmp_path, block(text))
    assert f"warning: runtime.web_proxies{field}: " in line
    assert message in line


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        ("{discover: [wpad]}", 1000),
        ("{discover: [wpad], max_jobs: 50}", 50),
        (f"{{discover: [wpad], backup: {ONE}}}", 1000),
        (f"{{discover: [wpad], proxies: {ONE}}}", None),
        (f"{{discover: [wpad], proxies: {ONE}, max_jobs: 2000}}", 2000),
        (f"{{proxies: {ONE}, max_jobs: 50}}", None),
    ],
)
def test_cap_of_what_is_discovered(tmp_path: Path, text: str, cap: Optional[int]) -> None:
    assert described(tmp_path, block(text)).discovery_cap == cap


def test_stated_cap_beside_own_proxies_has_an_effect(tmp_path: Path) -> None:
    assert found(tmp_path, block(f"{{discover: [wpad], proxies: {ONE}, max_jobs: 10}}")) == []


def test_refuses_a_fixed_proxy_of_cvmfs_beside_tested_ones(tmp_path: Path) -> None:
    cvmfs = "{repositories: [a.b], rungs: [native], proxy: DIRECT}"
    text = f"runtime: {{cvmfs: {cvmfs}, web_proxies: {{proxies: {ONE}}}}}\n"
    assert any("runtime.cvmfs.proxy fixes" in line for line in found(tmp_path, text))


def test_numeric_ipv6_reaches_the_attribute_in_its_shortest_form(tmp_path: Path) -> None:
    items = '[{url: "http://[2001:DB8:0::1]:3128/", capacity: {clients: 1}}]'
    assert attrs_with(tmp_path, block(f"{{proxies: {items}}}"))["GWMS_BOSCO_WEB_PROXIES"] == "http://[2001:db8::1]:3128"


def test_longest_lists_still_fit_an_attribute(tmp_path: Path) -> None:
    items = ", ".join(f'{{url: "http://{f"{i:02d}" + "a" * 112}:65535", capacity: {{clients: 9}}}}' for i in range(16))
    attrs = attrs_with(tmp_path, block(f"{{proxies: [{items}]}}"))
    assert 1900 < len(attrs["GWMS_BOSCO_WEB_PROXIES"]) <= MAX_VALUE_CHARS
    urls = ", ".join(f"http://{i}/{'a' * 246}" for i in range(8))
    attrs = attrs_with(tmp_path, block(f"{{discover: [pac], pac_urls: [{urls}]}}"))
    assert 1900 < len(attrs["GWMS_BOSCO_PAC_URLS"]) <= MAX_VALUE_CHARS
