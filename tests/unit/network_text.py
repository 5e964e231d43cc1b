# SPDX-License-Identifier: Apache-2.0
"""A network block for the small valid site file, which tests change in one place."""

from __future__ import annotations

from pathlib import Path

from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from tests.unit.site_text import HOST_KEY, VALID

NETWORK = """\
network:
  login_hosts: [10.77.1.1, login2]
  workers: [10.77.1.0/24]
  exit_addresses: [203.0.113.0/28]
  tunnel: {auth: hostbased}
  egress: {kind: http-connect, host: egress.example.org, port: 80}
  forwards:
    - {name: pool, host: 192.0.2.10, port: 9618}
    - {name: squid, host: 192.0.2.11, port: 3128}
  web_proxy: egress
"""
EGRESS = "egress: {kind: http-connect, host: egress.example.org, port: 80}"
SSH_EGRESS = f'egress: {{kind: ssh, host: egress.example.org, port: 443, user: cms, host_keys: ["{HOST_KEY}"]}}'
"""In the place of EGRESS."""
SHA256 = "0" * 64
PILOT_IMAGE = f"container: {{mode: pilot, image: /project/cms.sif, sha256: {SHA256}, nested: false}}"


def closed(*changes: tuple[str, str], runtime: str = "") -> str:
    """The site file with the block and these replacements; each old text must occur exactly once."""
    text = VALID.replace("entries:\n", NETWORK + runtime + "entries:\n")
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def closed_site(folder: Path, *changes: tuple[str, str], runtime: str = "") -> SiteDescription:
    """Load it."""
    path = folder / "test.yaml"
    path.write_text(closed(*changes, runtime=runtime), encoding="utf-8")
    return load_site(path)[0]
