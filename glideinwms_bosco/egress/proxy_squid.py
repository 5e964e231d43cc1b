# SPDX-License-Identifier: Apache-2.0
"""squid.conf of an egress proxy of kind http-connect: opens the forwards, fetches those that are web. Pure.

Written for squid 4 to 7. Whatever is not allowed by name is refused by the last line.
"""

from __future__ import annotations

from collections.abc import Iterator

from glideinwms_bosco.egress.listed import INWARD, Listed, everything_but
from glideinwms_bosco.egress.places import Places
from glideinwms_bosco.site.network import PILOT_LIFE_DAYS, Forward, is_numeric

DEFAULT_CACHE_MB = 20_000
MAX_CACHE_MB = 2_000_000
MEMORY_MB = 512
MAX_OBJECT_MB = 1024
"""CVMFS has objects of some 100 MB."""
MAX_FILES = 32_768
"""Two for each connection; HTCondor keeps one for each pilot, payloads have several."""
IDLE_HOURS = 24
"""After so long without a byte a connection is dropped; squid's own is 15 minutes."""
_PER_LINE = 8
_HEAD = """\
# Egress proxy {host}:{port} of site {site}: made by `gwms-bosco egress proxy`, which makes it again.
http_port {listen}:{port}
visible_hostname {name}
pid_filename none
coredump_dir none
cache_log {log}/cache.log
access_log stdio:{log}/access.log squid
logfile_rotate 0
buffered_logs off
shutdown_lifetime 2 seconds
max_filedescriptors {files}
icp_port 0
htcp_port 0
snmp_port 0
pinger_enable off

# What is said of who asked, and what a cache has no use for.
via on
forwarded_for delete
{hygiene}
# Connections are long here, and silent in between; an answer to proxychains must come within its patience.
connect_timeout 10 seconds
forward_timeout 20 seconds
read_timeout {idle} hours
client_lifetime {life} days
"""
_CACHE = """
# Frontier answers and CVMFS objects say themselves how long they keep; what is asked for by many is fetched once.
cache_mem {memory} MB
maximum_object_size_in_memory 1 MB
maximum_object_size {object} MB
{folder}collapsed_forwarding on
negative_ttl 1 minute
refresh_pattern . 0 20% 4320
"""
_REQUEST_HEADERS = (
    *("Authorization", "Cookie", "Forwarded", "From", "Proxy-Authorization", "Referer", "X-Forwarded-For"),
    *("X-Forwarded-Host", "X-Real-IP"),
)


def squid_conf(rules: Listed, places: Places, cache_mb: int = DEFAULT_CACHE_MB) -> str:
    """The text of squid.conf.

    Args:
        rules: what passes.
        places: folders.
        cache_mb: size of the cache on disk; 0: in memory only. Nothing is cached when no forward is web.
    """
    host = rules.egress.host
    text = _HEAD.format(
        site=rules.site,
        host=host,
        port=rules.egress.port,
        listen=rules.listen,
        name="egress-proxy" if is_numeric(host) else host,
        log=places.log,
        files=MAX_FILES,
        hygiene="".join(f"request_header_access {name} deny all\n" for name in _REQUEST_HEADERS),
        idle=IDLE_HOURS,
        # The oldest a connection gets; squid's own is a day.
        life=PILOT_LIFE_DAYS,
    )
    return text + _caching(rules, places, cache_mb) + "\n" + "".join(f"{line}\n" for line in _access(rules))


def _caching(rules: Listed, places: Places, cache_mb: int) -> str:
    if not rules.web:
        return "\ncache deny all\n"
    folder = f"cache_dir ufs {places.cache} {cache_mb} 16 256\n" if cache_mb else ""
    return _CACHE.format(memory=MEMORY_MB, object=MAX_OBJECT_MB, folder=folder)


def _access(rules: Listed) -> Iterator[str]:
    yield f"acl site src {' '.join(rules.sources)}"
    yield "acl open method CONNECT"
    yield "acl fetch method GET HEAD"
    yield "acl web proto HTTP"
    yield "acl ipv6 dst ipv6"
    yield from _wrapped("inward", INWARD)
    yield ""
    yield "http_access deny !site"
    yield "http_access deny manager"
    for number, target in enumerate(rules.targets):
        yield from _open(number, target)
    for port in sorted({target.port for target in rules.web}):
        yield from _fetch(port, [target for target in rules.web if target.port == port])
    yield "http_access deny all"


def _open(number: int, target: Forward) -> Iterator[str]:
    """Let one forward be connected to, spelled as in the site file: -n has squid ask no name service for it."""
    yield f"# {target.name}"
    yield f"acl host_{number} dstdomain -n {target.host.lower()}"
    yield f"acl port_{number} port {target.port}"
    yield f"http_access allow open host_{number} port_{number}{_outward(target)}"


def _outward(target: Forward) -> str:
    """For a name: whoever changes it in the name service must not lead squid to the institute's own network."""
    return "" if is_numeric(target.host) else " !inward !ipv6"


def _fetch(port: int, targets: list[Forward]) -> Iterator[str]:
    """Let squid fetch from these, by any name that means only them: clients know stratum-1s by name.

    dst holds when one of a name's addresses does. So that a name with one listed address does not lead to its others,
    none of them may be elsewhere.
    """
    yield f"# web, port {port}"
    yield f"acl web_{port} port {port}"
    addresses = sorted({target.host for target in targets if is_numeric(target.host)})
    if addresses:
        yield f"acl web_{port}_at dst {' '.join(addresses)}"
        yield from _wrapped(f"web_{port}_elsewhere", everything_but(addresses))
        yield f"http_access allow fetch web web_{port} web_{port}_at !web_{port}_elsewhere !ipv6"
    names = sorted({target.host.lower() for target in targets if not is_numeric(target.host)})
    if names:
        yield f"acl web_{port}_named dstdomain -n {' '.join(names)}"
        yield f"http_access allow fetch web web_{port} web_{port}_named !inward !ipv6"


def _wrapped(name: str, networks: tuple[str, ...]) -> Iterator[str]:
    for begin in range(0, len(networks), _PER_LINE):
        yield f"acl {name} dst {' '.join(networks[begin : begin + _PER_LINE])}"
