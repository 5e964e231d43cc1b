# SPDX-License-Identifier: Apache-2.0
"""What pilots of a closed site, or in a container as a whole, need and a login node can tell: ask, and judge it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.remote.exchange import exchange
from glideinwms_bosco.remote.messages import Reply, one_line
from glideinwms_bosco.remote.probe_codes import Finding
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import SITE_KEY

CONNECT_TIMEOUT_S = 5
IMAGE_TIMEOUT_S = 120
"""An image of some GB on a busy parallel file system; what is not read by then is no error."""
_PROGRAM_TIMEOUT_S = 240
_FORWARD_TIMEOUT_S = 5.0
_MAX_OUTPUT_BYTES = 64 * 1024
_IMAGE = re.compile(r"(\d{1,18}) ([a-z ]{1,40})")
_SUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class NetworkWishes:
    """What the site file says.

    Attributes:
        image, sha256: of the container; None: there is none, or not on a disk of the site.
        preload: libraries, of which one must be there; empty when the image may have its own.
        egress: host and port, None without a network block.
        login_hosts, login_port, login_keys: as workers reach and check the login nodes.
        site_key: the tunnel's key is made on the site.
    """

    image: Optional[str] = None
    sha256: Optional[str] = None
    preload: tuple[str, ...] = ()
    egress: Optional[tuple[str, int]] = None
    login_hosts: tuple[str, ...] = ()
    login_port: int = 22
    login_keys: tuple[str, ...] = ()
    site_key: bool = False


@dataclass(frozen=True)
class NetworkFacts:
    """What the login node says; None: not told.

    Attributes:
        image: "none", or its kind as stat(1) says, such as "regular file".
        image_bytes, image_sum: size and sha256 of a file.
        libraries: those of the preload libraries that are there.
        egress: "open", or why not.
        forwarding: whether sshd lets this account's sessions through to the egress proxy; None when that is closed.
        host_keys: login host -> `type base64` of its keys; empty when it did not answer.
        can_scan: there is an ssh-keyscan.
    """

    image: Optional[str]
    image_bytes: Optional[int]
    image_sum: Optional[str]
    libraries: tuple[str, ...]
    egress: Optional[str]
    forwarding: Optional[bool]
    host_keys: Mapping[str, tuple[str, ...]]
    can_scan: bool


def network_wishes(site: SiteDescription) -> Optional[NetworkWishes]:
    """What a probe of this site looks at; None: nothing of this kind."""
    container = site.runtime.container if site.runtime is not None else None
    image = container.image if container is not None else None
    # What is in /cvmfs is checked by its own means, and few login nodes have it.
    image = None if image is None or image.startswith("/cvmfs/") else image
    sha256 = container.sha256 if container is not None and image is not None else None
    network = site.network
    if network is None:
        return None if image is None else NetworkWishes(image, sha256)
    return NetworkWishes(
        image,
        sha256,
        () if container is not None and container.mode == "pilot" else network.preload,
        (network.egress.host, network.egress.port),
        network.login_hosts,
        network.login_port,
        network.login_host_keys,
        network.tunnel.auth == SITE_KEY,
    )


def ask_network(session: SshSession, wishes: NetworkWishes, image_timeout_s: int = IMAGE_TIMEOUT_S) -> NetworkFacts:
    """Run scripts/probe_network.sh, then try a forwarding on the same connection; leaves nothing there.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    host, port = wishes.egress or ("-", "-")
    seconds = image_timeout_s if wishes.sha256 else 0
    header = [wishes.image or "-", str(seconds), host, str(port), str(CONNECT_TIMEOUT_S)]
    header += [str(len(wishes.preload)), *wishes.preload]
    header += [str(wishes.login_port), str(len(wishes.login_hosts)), *wishes.login_hosts]
    deadline_s = _PROGRAM_TIMEOUT_S + seconds
    reply = session.run_script(load_program("begin.sh", "probe_network.sh"), header, deadline_s=deadline_s)
    opened = reply.values("EGRESS") == ("open",)
    return parse_network(reply, wishes, _forwards(session, f"{host}:{port}") if opened else None)


def _forwards(session: SshSession, target: str) -> Optional[bool]:
    """Whether sshd opens a connection to `target`, which is known to answer, for this session."""
    argv = session.client_argv("-o", "ClearAllForwardings=no", "-W", target)
    env = {**os.environ, "LC_ALL": "C"}
    output = exchange(argv, (), env=env, deadline_s=_FORWARD_TIMEOUT_S, max_output_bytes=_MAX_OUTPUT_BYTES)
    # One that stays open until the deadline was opened.
    return True if output.expired or output.status == 0 else False if b"failed" in output.stderr else None


def parse_network(reply: Reply, wishes: NetworkWishes, forwarding: Optional[bool]) -> NetworkFacts:
    """Read the answer of scripts/probe_network.sh; what makes no sense leaves its fact unknown."""
    image, sums = reply.values("IMAGE"), reply.values("IMAGE-SUM")
    kind = _IMAGE.fullmatch(image[0]) if image else None
    egress = reply.values("EGRESS")
    keys: dict[str, tuple[str, ...]] = {host: () for host in reply.values("HOST") if host in wishes.login_hosts}
    for value in reply.values("HOST-KEY"):
        host, _, key = value.partition(" ")
        if host in keys:
            keys[host] = (*keys[host], one_line(key, 2100))
    return NetworkFacts(
        image="none" if image == ("none",) else kind[2] if kind else None,
        image_bytes=int(kind[1]) if kind else None,
        image_sum=sums[0] if sums and _SUM.fullmatch(sums[0]) else None,
        libraries=tuple(path for path in reply.values("LIBRARY") if path in wishes.preload),
        egress=one_line(egress[0]) if egress else None,
        forwarding=forwarding,
        host_keys=keys,
        can_scan=not reply.values("NO-KEYSCAN"),
    )


def find_network(facts: NetworkFacts, wishes: NetworkWishes, sshd_settings: Mapping[str, str]) -> Iterator[Finding]:
    """Findings; `sshd_settings` as probe_facts has them."""
    yield from _image(facts, wishes)
    if wishes.preload and not facts.libraries:
        yield Finding(93, f"none of these is there: {', '.join(wishes.preload)}")
    yield from _logins(facts, wishes)
    if wishes.egress is None:
        return
    target = f"{wishes.egress[0]}:{wishes.egress[1]}"
    if facts.egress is None:
        yield Finding(80, f"not found out: whether the egress proxy {target} is reachable")
    elif facts.egress != "open":
        said = facts.egress.partition(" ")[2] or f"no answer within {CONNECT_TIMEOUT_S} s"
        yield Finding(96, f"no connection to {target}: {said}")
    elif facts.forwarding is False:
        yield Finding(97, f"a forwarding to {target} is refused{_settings(sshd_settings)}")
    keys_file = sshd_settings.get("authorizedkeysfile", "")
    if wishes.site_key and keys_file and not any(_is_ours(word) for word in keys_file.split()):
        yield Finding(98, f"sshd reads {one_line(keys_file)}")


def _is_ours(path: str) -> bool:
    return path in (".ssh/authorized_keys", "%h/.ssh/authorized_keys")


def _settings(settings: Mapping[str, str]) -> str:
    named = [f"{name} {settings[name]}" for name in ("allowtcpforwarding", "permitopen") if name in settings]
    return f" ({', '.join(named)})" if named else ""


def _image(facts: NetworkFacts, wishes: NetworkWishes) -> Iterator[Finding]:
    if wishes.image is None:
        return
    if facts.image is None:
        yield Finding(80, f"not found out: whether the image {wishes.image} is there")
    elif facts.image == "none":
        yield Finding(90, f"{wishes.image} is not there, or cannot be read")
    elif wishes.sha256 is None:
        return
    elif "regular" not in facts.image:
        yield Finding(91, f"{wishes.image} is a {facts.image} and has no sha256")
    elif facts.image_sum is None:
        yield Finding(92, f"{wishes.image} ({facts.image_bytes} bytes) was not read within {IMAGE_TIMEOUT_S} s")
    elif facts.image_sum != wishes.sha256:
        yield Finding(91, f"{wishes.image} has sha256 {facts.image_sum}, not {wishes.sha256}")


def _logins(facts: NetworkFacts, wishes: NetworkWishes) -> Iterator[Finding]:
    if wishes.login_hosts and not facts.can_scan:
        yield Finding(80, "not found out: host keys as workers see them, as there is no ssh-keyscan")
        return
    silent = [host for host in wishes.login_hosts if not facts.host_keys.get(host)]
    if silent:
        yield Finding(94, f"no ssh server answers at port {wishes.login_port} of {', '.join(silent)}")
    pinned = {tuple(key.split()[:2]) for key in wishes.login_keys}
    other = [
        host
        for host, keys in facts.host_keys.items()
        if keys and not any(tuple(key.split()[:2]) in pinned for key in keys)
    ]
    if other:
        yield Finding(95, f"none of the keys of {', '.join(other)} is pinned")
