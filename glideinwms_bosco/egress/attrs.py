# SPDX-License-Identifier: Apache-2.0
"""The attributes of an entry behind a tunnel: settings of HTCondor, and what frontends match on. Pure.

What the pilot's scripts need stands in egress.conf, beside the job wrapper that has started the pilot.

A setting reaches the pilot's condor_config when glideinWMS has a line for its name: one of its own (condor_vars.lst),
or one that `glidein_publish` makes, which shows it in the machine ad too. To ask that of a name in condor_vars.lst
stops reconfig. Source: glideinWMS 3.10 creation/lib/cgWParamDict.py, add_attr_unparsed_real; web_base/condor_vars.lst.
"""

from __future__ import annotations

from collections.abc import Iterator

from glideinwms_bosco.site.model import Attr, SiteDescription
from glideinwms_bosco.site.network import ConnectLimits, Network

CCB_HEARTBEAT_INTERVAL_S = 120
"""Below the idle time after which firewalls forget a connection; HTCondor's own is 1200."""
DEAD_COLLECTOR_MAX_AVOIDANCE_S = 120
"""A collector is asked again soon after the tunnel is back; HTCondor's own is 3600."""
HTCONDOR_TIMEOUT_MS = 20_000
"""What HTCondor's daemons allow one network operation. Source: HTCondor 23.9 manual, SEC_TCP_SESSION_TIMEOUT."""

_DAEMONS = ("MASTER", "STARTD", "STARTER")


def egress_attrs(site: SiteDescription) -> tuple[Attr, ...]:
    """All attributes, sorted by name; none for a site without a network block."""
    if site.network is None:
        return ()
    return tuple(sorted(_attrs(site.network), key=lambda attr: attr.name))


def _attrs(network: Network) -> Iterator[Attr]:
    # Pilots there reach the forwards only, and payloads perhaps nothing; the pilot's machine ad has the first too.
    yield _attr("GWMS_BOSCO_EGRESS", network.egress.kind, publish=True)
    yield _attr("GWMS_BOSCO_EGRESS_PAYLOADS", str(network.payloads), publish=True)
    # Outbound only. CCB's address is that of the collector, or the frontend's GLIDEIN_CCB (setup_network.sh).
    yield _attr("USE_CCB", "True", publish=True, in_ad=True)
    # Names in condor_vars.lst.
    yield _attr("UPDATE_COLLECTOR_WITH_TCP", "True", "expr")
    yield _attr("USE_SHARED_PORT", "False", "expr")
    yield _attr("WANT_UDP_COMMAND_SOCKET", "False", "expr")
    # Names that glideinWMS does not know.
    yield _attr("ENABLE_IPV6", "False", "expr", in_ad=True)
    yield _attr("CCB_HEARTBEAT_INTERVAL", str(CCB_HEARTBEAT_INTERVAL_S), "int", in_ad=True)
    yield _attr("DEAD_COLLECTOR_MAX_AVOIDANCE_TIME", str(DEAD_COLLECTOR_MAX_AVOIDANCE_S), "int", in_ad=True)
    for daemon in _DAEMONS:
        yield _attr(f"{daemon}_TIMEOUT_MULTIPLIER", str(timeout_multiplier(network.limits)), "int", in_ad=True)


def timeout_multiplier(limits: ConnectLimits) -> int:
    """How often HTCondor's own time limit, so that a connect which blocks in the chain fails there first."""
    return 1 + (limits.connect_timeout_ms + limits.read_timeout_ms) // HTCONDOR_TIMEOUT_MS


def _attr(name: str, value: str, kind: str = "string", *, publish: bool = False, in_ad: bool = False) -> Attr:
    return Attr(name, value, kind, True, True, publish, in_ad, False)
