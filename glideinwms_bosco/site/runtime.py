# SPDX-License-Identifier: Apache-2.0
"""The `runtime` block of a site file as frozen, typed objects: what pilots find, make and bring along on a node.

The constructors check again what must never be wrong: every text here reaches glidein_config, from there shell scripts
and, between single quotes, condor_startup.sh.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.siteconf_block import SiteconfBlock, siteconf_of
from glideinwms_bosco.site.web_proxies import WebProxies, web_proxies_of

RUNGS = ("native", "userns", "fusermount", "mountrepo", "container", "parrot")
"""Ways to /cvmfs, the best first; `userns`, `fusermount`, `mountrepo`, `container` are cvmfsexec's modes 3, 2, 1, 4."""
CVMFSEXEC_RUNGS = frozenset(("userns", "fusermount", "mountrepo", "container"))
CA_PLACES = ("node", "cvmfs", "shipped")
MAX_VALUE_CHARS = 4096
"""Of one attribute; the pilot scripts take no more. The longest that the schema allows, 24 repositories, has 3095."""

# No quote, blank, `$`, `&`, `<`: a value is the same text in XML, a shell, condor_config and a ClassAd string.
_NODE_SAFE = re.compile(r"[][A-Za-z0-9_./:,;|@=-]*")


def check_node_value(what: str, value: Optional[str]) -> None:
    """Refuse a text that must not reach a node.

    Raises:
        SiteError: it has a character that some reader on the way would interpret, or it is too long.
    """
    if value is None:
        return
    if len(value) > MAX_VALUE_CHARS:
        raise SiteError(f"{what} is longer than {MAX_VALUE_CHARS} characters")
    if not _NODE_SAFE.fullmatch(value):
        raise SiteError(f"{what} {value[:80]!r} has a character that the pilot's scripts would interpret")


@dataclass(frozen=True)
class CvmfsExec:
    """The cvmfsexec distribution: `path` of a folder or file on the factory; `sha256` None: not pinned."""

    path: str
    sha256: Optional[str] = None


@dataclass(frozen=True)
class Cvmfs:
    """How pilots come to /cvmfs. `rungs` empty: all those that have what they need."""

    repositories: tuple[str, ...]
    required: bool = True
    rungs: tuple[str, ...] = ()
    cache: Optional[str] = None
    quota_mb: Optional[int] = None
    proxy: Optional[str] = None
    cvmfsexec: Optional[CvmfsExec] = None
    parrot: Optional[str] = None

    def __post_init__(self) -> None:
        for what, value in (("cache", self.cache), ("proxy", self.proxy), ("parrot", self.parrot)):
            check_node_value(what, value)
        check_node_value("repositories", ",".join(self.repositories))


@dataclass(frozen=True)
class Container:
    """The site's outer container: apptainer image on the node. `mode`: payload, pilot or never."""

    mode: str = "never"
    image: Optional[str] = None
    sha256: Optional[str] = None
    nested: bool = True

    def __post_init__(self) -> None:
        check_node_value("image", self.image)


@dataclass(frozen=True)
class Credentials:
    """Where the CA directory is looked for; `ca_dir`: folder on the factory that is shipped."""

    ca: tuple[str, ...]
    ca_dir: Optional[str] = None
    x509_required: bool = False


@dataclass(frozen=True)
class Runtime:
    """All of it; a part that is None is left alone on the node. `payload_cvmfs`: always, on-request or never."""

    cvmfs: Optional[Cvmfs] = None
    payload_cvmfs: str = "always"
    container: Optional[Container] = None
    credentials: Optional[Credentials] = None
    web_proxies: Optional[WebProxies] = None
    siteconf: Optional[SiteconfBlock] = None

    def rungs(self) -> tuple[str, ...]:
        """The rungs that pilots try: those named, or all whose parts are there."""
        if self.cvmfs is None:
            return ()
        return self.cvmfs.rungs or tuple(rung for rung in RUNGS if self.lacks(rung) is None)

    def lacks(self, rung: str) -> Optional[str]:
        """What a rung needs and that is not set, as written below `runtime`; None when it has all.

        Only of a block with `cvmfs`.
        """
        cvmfs = self.cvmfs
        if cvmfs is None or (rung in CVMFSEXEC_RUNGS and cvmfs.cvmfsexec is None):
            return "cvmfs.cvmfsexec"
        if rung == "container" and (self.container is None or self.container.image is None):
            return "container.image"
        # It mounts below the pilot's folder; something else must show that at /cvmfs.
        if rung == "mountrepo" and cvmfs.parrot is None and not self._contains_payloads():
            return "cvmfs.parrot, or a container with mode payload"
        if rung == "parrot" and cvmfs.parrot is None:
            return "cvmfs.parrot"
        return None

    def _contains_payloads(self) -> bool:
        return self.container is not None and self.container.mode == "payload" and self.container.image is not None


def runtime_of(data: Mapping[str, Any], tunnel_has_proxy: bool = False) -> Runtime:
    """Build it from a block that the schema has accepted.

    Args:
        data: the block.
        tunnel_has_proxy: pilots find a web proxy by the tunnel of a closed site, which needs no block of its own.

    Raises:
        SiteError: a value must not reach a node.
    """
    cvmfs, container, credentials = (data.get(name) for name in ("cvmfs", "container", "credentials"))
    siteconf = siteconf_of(data["siteconf"]) if "siteconf" in data else None
    servers = () if siteconf is None else siteconf.frontier_servers()
    proxied = "web_proxies" in data or (tunnel_has_proxy and "proxy" not in (cvmfs or ()))
    return Runtime(
        cvmfs=None if cvmfs is None else _cvmfs(cvmfs),
        payload_cvmfs=data.get("payload", {}).get("cvmfs", "always"),
        container=None
        if container is None
        else Container(**{"mode": "payload" if "image" in container else "never", **container}),
        credentials=None if credentials is None else _credentials(credentials),
        web_proxies=web_proxies_of(data.get("web_proxies", {}), servers) if proxied else None,
        siteconf=siteconf,
    )


def _cvmfs(data: Mapping[str, Any]) -> Cvmfs:
    plain = {name: data[name] for name in ("required", "cache", "quota_mb", "proxy", "parrot") if name in data}
    return Cvmfs(
        repositories=tuple(data["repositories"]),
        rungs=tuple(data.get("rungs", ())),
        cvmfsexec=CvmfsExec(**data["cvmfsexec"]) if "cvmfsexec" in data else None,
        **plain,
    )


def _credentials(data: Mapping[str, Any]) -> Credentials:
    default = CA_PLACES if "ca_dir" in data else CA_PLACES[:2]
    return Credentials(tuple(data.get("ca", default)), data.get("ca_dir"), data.get("x509_required", False))
