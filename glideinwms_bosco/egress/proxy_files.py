# SPDX-License-Identifier: Apache-2.0
"""All files for the administrator of the egress proxy, with the README that says where each one goes. Pure."""

from __future__ import annotations

from typing import Optional

from glideinwms_bosco.egress.conf import egress_key_options
from glideinwms_bosco.egress.listed import Listed, listed
from glideinwms_bosco.egress.places import Places
from glideinwms_bosco.egress.proxy_socks import danted_conf
from glideinwms_bosco.egress.proxy_squid import DEFAULT_CACHE_MB, MAX_CACHE_MB, squid_conf
from glideinwms_bosco.egress.proxy_sshd import (
    AUTHORIZED_KEYS,
    HOST_KEY,
    PENALTIES_NAME,
    authorized_keys,
    penalties_conf,
    sshd_config,
)
from glideinwms_bosco.egress.units import CONFS, UNITS, addresses_conf, logrotate_conf, service_unit
from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import HTTP_CONNECT, SOCKS5, SSH

README = "README"
OPTIONS_NAME = "authorized_keys.options"
"""In the place of authorized_keys while the key is not known."""
_PACKAGES = {HTTP_CONNECT: "squid", SOCKS5: "dante-server", SSH: "openssh-server"}
_CHECKS = {
    HTTP_CONNECT: "squid -k parse -f {conf}",
    SOCKS5: "danted -V -f {conf}",
    SSH: "sshd -t -f {conf}",
}


def proxy_files(
    site: SiteDescription,
    listen: Optional[str] = None,
    key: Optional[str] = None,
    cache_mb: int = DEFAULT_CACHE_MB,
    places: Optional[Places] = None,
) -> dict[str, bytes]:
    """Everything that the egress proxy of a site needs: path below the output folder -> contents, sorted by path.

    Args:
        site: has a network block.
        listen: address to listen on; all when left out.
        key: public key of the tunnel as `type base64`; of kind ssh.
        cache_mb: of squid's cache on disk.
        places: where the files will lie.

    Raises:
        EgressError: something must not stand in such a file.
    """
    rules, at = listed(site, listen), places or Places()
    if not 0 <= cache_mb <= MAX_CACHE_MB:
        raise EgressError(f"a cache of {cache_mb} MB is not in 0..{MAX_CACHE_MB}")
    if key is not None and rules.egress.kind != SSH:
        raise EgressError(f"an egress proxy of kind {rules.egress.kind} takes no key", "leave the public key out")
    texts = _texts(site, rules, at, key, cache_mb)
    texts[README] = _readme(rules, at, tuple(texts))
    return {path: texts[path].encode("ascii") for path in sorted(texts)}


def _texts(site: SiteDescription, rules: Listed, at: Places, key: Optional[str], cache_mb: int) -> dict[str, str]:
    kind = rules.egress.kind
    texts = {f"{UNITS[kind]}.service": service_unit(rules, at)}
    dropin = addresses_conf(rules)
    if dropin:
        texts[f"{UNITS[kind]}.service.d/addresses.conf"] = dropin
    if kind == HTTP_CONNECT:
        texts[CONFS[kind]] = squid_conf(rules, at, cache_mb)
        texts["logrotate"] = logrotate_conf(rules, at)
    elif kind == SOCKS5:
        texts[CONFS[kind]] = danted_conf(rules)
    else:
        texts[CONFS[kind]] = sshd_config(rules, at)
        texts[PENALTIES_NAME] = penalties_conf(rules)
        if key is None:
            texts[OPTIONS_NAME] = f"{egress_key_options(site)}\n"
        else:
            texts[AUTHORIZED_KEYS] = authorized_keys(site, key)
    return texts


def _readme(rules: Listed, at: Places, names: tuple[str, ...]) -> str:
    kind, unit = rules.egress.kind, UNITS[rules.egress.kind]
    lines = [
        f"Egress proxy of site {rules.site}: {kind} on {rules.egress.target}",
        "",
        f"Serves {', '.join(rules.sources)}, and nobody else. Opens, and nothing else:",
        *(f"  {target.name:<16} {target.target}" for target in rules.targets),
    ]
    if rules.web:
        lines.append(f"Fetches and caches what is asked of: {', '.join(target.name for target in rules.web)}")
    lines += ["", f"1. Install the Debian package {_PACKAGES[kind]}, and keep its own service off:"]
    lines += [f"     systemctl disable --now {_service(kind)}"] if kind != SSH else ["     (the machine's sshd stays)"]
    lines += [f"2. As root, {at.conf}/ with mode 0755 takes:", *_confs(names)]
    if kind == SSH:
        lines += _ssh_lines(rules, at, AUTHORIZED_KEYS in names)
    lines += ["3. /etc/systemd/system/ takes:", *(f"     {name}" for name in names if name.startswith(unit))]
    if any(name.endswith("addresses.conf") for name in names):
        lines += _address_lines(rules)
    if "logrotate" in names:
        lines += [f"   /etc/logrotate.d/{unit} takes: logrotate"]
    conf = f"{at.conf}/{CONFS[kind]}"
    if kind == SOCKS5:
        lines += ["   Dante binds what goes out to the address behind `external:`. If that is none of this machine,"]
        lines += ["   make all of this again with --listen ADDRESS."]
    lines += [
        "4. Check and start:",
        f"     {_CHECKS[kind].format(conf=conf)}",
        f"     systemctl daemon-reload && systemctl enable --now {unit}.service",
        f"5. Let the site's addresses in at port {rules.egress.port}/tcp, best in the firewall too. From the factory:",
        f"     gwms-bosco egress check {rules.site}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _service(kind: str) -> str:
    return "squid.service" if kind == HTTP_CONNECT else "danted.service"


def _confs(names: tuple[str, ...]) -> list[str]:
    shown = [name for name in names if ".service" not in name and name not in ("logrotate", OPTIONS_NAME)]
    lines = [f"     {name}" for name in shown if not name.endswith(PENALTIES_NAME)]
    if len(lines) != len(shown):
        lines.append(f"     {PENALTIES_NAME} as sshd_config.d/{PENALTIES_NAME}, with OpenSSH 9.8 and newer ONLY")
    return lines


def _ssh_lines(rules: Listed, at: Places, has_key: bool) -> list[str]:
    user = rules.egress.user
    lines = [
        f"     useradd --system --user-group --home-dir / --shell /usr/sbin/nologin --password '*' {user}",
        f"     ssh-keygen -q -t ed25519 -N '' -f {at.conf}/{HOST_KEY}",
        f"     chown {user} {at.conf}/{HOST_KEY}",
        f"   {HOST_KEY}.pub there, without its last word, is a line of network.egress.host_keys in the site file.",
    ]
    if not has_key:
        lines += [
            f"   {AUTHORIZED_KEYS}, mode 0644: {OPTIONS_NAME}, a blank, and the tunnel's public key, in one line.",
            "   Or make all of this again with --public-key FILE once the key is there.",
        ]
    return lines


def _address_lines(rules: Listed) -> list[str]:
    lines = ["   addresses.conf lets the daemon speak with the listed addresses alone."]
    if rules.web:
        lines.append("   Clients ask for stratum-1s by name: add the machine's name servers to its IPAddressAllow=.")
    return lines
