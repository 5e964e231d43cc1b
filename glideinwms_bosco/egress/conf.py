# SPDX-License-Identifier: Apache-2.0
"""What a bundle holds for the job wrapper: egress.conf, known_hosts, and the wrapper itself. Pure.

egress.conf has one KEY=VALUE a line, all keys always and in one order. The node reads it line by line and never sources
it; no value has a character that a shell, ssh_config or proxychains would interpret.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

from glideinwms_bosco.errors import EgressError, SiteError
from glideinwms_bosco.site.job_wrapper import (
    cvmfs_is_before,
    needs_job_wrapper,
    pilot_rungs,
    whole_pilot_image,
    wrapper_rungs,
)
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import DEFAULT_LOGIN_PORT, LOOPBACK, SITE_KEY, SITE_KEY_PATH, SSH, Network
from glideinwms_bosco.site.runtime import check_node_value

FOLDER = "egress"
JOB_WRAPPER_PATH = f"{FOLDER}/job_wrapper"
EGRESS_CONF_PATH = f"{FOLDER}/egress.conf"
KNOWN_HOSTS_PATH = f"{FOLDER}/known_hosts"
JOB_WRAPPER = "job_wrapper"
"""Name of the pilot script that is packed."""
JOB_WRAPPER_SETTING = ("blah_job_wrapper", f"${{BLAHPD_LOCATION}}/{JOB_WRAPPER_PATH}")
"""Line of blah.config. It is sourced on the login node, where the launcher has set BLAHPD_LOCATION to one version, so
the batch script names the wrapper of the version that the job was submitted with."""
NO_TUNNEL = "none"
"""KIND of a site whose pilots need the job wrapper only for their container."""

_NO_CONTAINER = "none"
_PLAIN, _EXECUTABLE = 0o644, 0o755
_Value = Union[None, str, int, tuple[str, ...]]
_NETWORK_KEYS = (
    *("KIND", "EGRESS_HOST", "EGRESS_PORT", "EGRESS_USER", "LOGIN_HOSTS", "LOGIN_PORT", "AUTH", "KEY", "FORWARDS"),
    *("WEB_PROXY", "DNS", "LOCALNETS", "CONNECT_MS", "READ_MS", "PRELOAD", "PAYLOADS", "MAX_DOWN_S"),
)
_CONTAINER_KEYS = (
    *("CONTAINER", "IMAGE", "IMAGE_SHA256", "CVMFSEXEC", "CVMFS_REPOS", "CVMFS_RUNGS", "CVMFS_CACHE"),
    *("CVMFS_QUOTA_MB", "CVMFS_REQUIRED"),
)


class BundleFile(NamedTuple):
    """One file for the bundle: path in it, content, octal mode."""

    path: str
    content: bytes
    mode: int


def bundle_files(site: SiteDescription, job_wrapper: bytes) -> tuple[BundleFile, ...]:
    """The files of a site's bundle; none when its pilots need no job wrapper.

    Args:
        site: the site.
        job_wrapper: the pilot script `JOB_WRAPPER`, packed.

    Raises:
        EgressError: a value must not reach a node.
    """
    if not needs_job_wrapper(site):
        return ()
    return (
        BundleFile(EGRESS_CONF_PATH, egress_conf(site).encode("ascii"), _PLAIN),
        BundleFile(JOB_WRAPPER_PATH, job_wrapper, _EXECUTABLE),
        BundleFile(KNOWN_HOSTS_PATH, known_hosts(site).encode("ascii"), _PLAIN),
    )


def egress_conf(site: SiteDescription) -> str:
    """The text of egress.conf.

    Raises:
        EgressError: a value must not reach a node.
    """
    lines = []
    for key, value in {**_network_rows(site), **_container_rows(site), **_site_rows(site)}.items():
        text = "" if value is None else ",".join(value) if isinstance(value, tuple) else str(value)
        try:
            check_node_value(f"{key} of egress.conf", text)
        except SiteError as err:
            raise EgressError(err.message, err.hint) from None
        # The node refuses it in any value, as it might lead out of a folder.
        if ".." in text:
            raise EgressError(f"{key} of egress.conf has two dots in a row: {text[:80]}", "spell it without")
        lines.append(f"{key}={text}\n")
    return "".join(lines)


def _network_rows(site: SiteDescription) -> dict[str, _Value]:
    found = site.network
    if found is None:
        return {**dict.fromkeys(_NETWORK_KEYS), "KIND": NO_TUNNEL, "DNS": False, "PAYLOADS": False}
    values: tuple[_Value, ...] = (
        found.egress.kind,
        found.egress.host,
        found.egress.port,
        found.egress.user,
        found.login_hosts,
        found.login_port,
        found.tunnel.auth,
        key_path(site, found),
        tuple(f"{forward.name}={forward.target}" for forward in found.forwards),
        found.web_proxy,
        found.dns,
        (LOOPBACK, *found.workers),
        found.limits.connect_timeout_ms,
        found.limits.read_timeout_ms,
        found.preload,
        found.payloads,
        found.tunnel.max_down_s,
    )
    return dict(zip(_NETWORK_KEYS, values))


def _container_rows(site: SiteDescription) -> dict[str, _Value]:
    outer, runtime, network = whole_pilot_image(site), site.runtime, site.network
    rows: dict[str, _Value] = dict.fromkeys(_CONTAINER_KEYS)
    rows.update(CONTAINER=_NO_CONTAINER, CVMFS_REQUIRED=False)
    if outer is None or runtime is None:
        return rows
    rows.update(CONTAINER=outer.mode, IMAGE=outer.image, IMAGE_SHA256=outer.sha256)
    cvmfs = runtime.cvmfs
    if cvmfs is not None:
        rows.update(
            CVMFSEXEC=network.cvmfsexec if network is not None else None,
            CVMFS_REPOS=cvmfs.repositories,
            CVMFS_RUNGS=wrapper_rungs(site),
            CVMFS_CACHE=cvmfs.cache,
            CVMFS_QUOTA_MB=cvmfs.quota_mb,
            # Without a distribution for the wrapper the pilot may still find a way of its own, in the container.
            CVMFS_REQUIRED=cvmfs.required and (cvmfs_is_before(site) or pilot_rungs(site) == ("native",)),
        )
    return rows


def _site_rows(site: SiteDescription) -> dict[str, _Value]:
    credentials = site.runtime.credentials if site.runtime is not None else None
    return {
        "BOSCO_DIR": site.install.folder,
        "SITE": site.name,
        "CA": credentials.ca if credentials is not None else None,
    }


def key_path(site: SiteDescription, network: Network) -> Optional[str]:
    """Path of the tunnel's private key below the remote home; None: there is none."""
    if network.tunnel.auth == SITE_KEY:
        return f"{site.install.folder}/{SITE_KEY_PATH}"
    return network.tunnel.existing_key


def known_hosts(site: SiteDescription) -> str:
    """The text of known_hosts: the login nodes as workers reach them, and an egress proxy of kind ssh."""
    network = site.network
    if network is None:
        return ""
    logins = ",".join(_known_name(host, network.login_port) for host in network.login_hosts)
    lines = [f"{logins} {key}\n" for key in network.login_host_keys]
    if network.egress.kind == SSH:
        lines += [
            f"{_known_name(network.egress.host, network.egress.port)} {key}\n" for key in network.egress.host_keys
        ]
    return "".join(lines)


def _known_name(host: str, port: int) -> str:
    return host if port == DEFAULT_LOGIN_PORT else f"[{host}]:{port}"


def authorized_key_options(site: SiteDescription) -> str:
    """What stands before the tunnel's key in authorized_keys of the login nodes: it opens the egress proxy only.

    Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT. `restrict` forbids all, also what later versions add; port-forwarding
    allows it again, permitopen names the one target. Without permitlisten, -R would be allowed too.

    Raises:
        EgressError: the site has no network block, or it does not say from where the key may be used.
    """
    network = _network(site)
    return _key_options(network.workers, (network.egress.target,), "network.workers")


def egress_key_options(site: SiteDescription) -> str:
    """What stands before the same key in authorized_keys of an egress proxy of kind ssh: it opens the forwards only.

    Raises:
        EgressError: the site has no network block, or it does not say from where the key may be used.
    """
    network = _network(site)
    targets = tuple(forward.target for forward in network.forwards)
    return _key_options(network.exit_addresses, targets, "network.exit_addresses")


def _network(site: SiteDescription) -> Network:
    if site.network is None:
        raise EgressError(f"{site.file or site.name}: has no network block", "add one")
    return site.network


def _key_options(sources: tuple[str, ...], targets: tuple[str, ...], field: str) -> str:
    if not sources:
        raise EgressError(f"{field} is not set, so the key could be used from anywhere", "name the networks")
    opened = [f'permitopen="{target}"' for target in dict.fromkeys(targets)]
    # A port of 1 is one that no account may listen on.
    limits = ["restrict", "port-forwarding", 'command="/bin/false"', f'from="{",".join(sources)}"']
    return ",".join([*limits, *opened, 'permitlisten="127.0.0.1:1"'])
