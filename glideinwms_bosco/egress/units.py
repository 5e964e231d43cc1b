# SPDX-License-Identifier: Apache-2.0
"""systemd units of an egress proxy: one daemon each, no rights but a port below 1024. Pure."""

from __future__ import annotations

from glideinwms_bosco.egress.listed import Listed, check_user
from glideinwms_bosco.egress.places import Places
from glideinwms_bosco.site.network import HTTP_CONNECT, SOCKS5, SSH

UNITS = {HTTP_CONNECT: "gwms-egress-squid", SOCKS5: "gwms-egress-socks", SSH: "gwms-egress-sshd"}
"""Names of the units by kind, without `.service`."""
CONFS = {HTTP_CONNECT: "squid.conf", SOCKS5: "danted.conf", SSH: "sshd_config"}
"""Names of the configurations in the folder."""

_UNIT = """\
# SPDX-License-Identifier: Apache-2.0
[Unit]
Description=Egress proxy of site {site} ({kind})
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
Type=simple
{account}
{exec}
Restart=always
RestartSec=2
{folders}UMask=0077
LimitCORE=0
LimitNOFILE=65536
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# Without IPv6 squid does not even ask for such addresses of a name.
RestrictAddressFamilies=AF_INET AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_DYNAMIC = "DynamicUser=yes\nUser={user}"
# Its shared memory is named by what follows -n: not that of another squid, left by another account.
_SQUID_EXEC = """\
ExecStartPre=/usr/sbin/squid -n gwmsegress -N -z -f {conf}
ExecStart=/usr/sbin/squid -n gwmsegress -N -f {conf}
# The log was moved: open a new one.
ExecReload=/bin/kill -USR1 $MAINPID"""
_SQUID_FOLDERS = """\
LogsDirectory={log}
LogsDirectoryMode=0750
CacheDirectory={cache}
CacheDirectoryMode=0750
"""
_ADDRESSES = """\
# SPDX-License-Identifier: Apache-2.0
# The kernel lets this daemon speak with these alone, whatever its own configuration says.
[Service]
IPAddressDeny=any
IPAddressAllow={addresses}
"""
_LOGROTATE = """\
{log}/*.log {{
    weekly
    rotate 12
    compress
    delaycompress
    missingok
    notifempty
    nocreate
    postrotate
        systemctl reload {unit}.service
    endscript
}}
"""


def service_unit(rules: Listed, places: Places) -> str:
    """The text of the unit.

    Raises:
        EgressError: kind ssh, and its account could mean something else.
    """
    kind = rules.egress.kind
    conf = f"{places.conf}/{CONFS[kind]}"
    account = _DYNAMIC.format(user=places.user)
    folders, program = "", f"ExecStart=/usr/sbin/danted -f {conf}"
    if kind == HTTP_CONNECT:
        program = _SQUID_EXEC.format(conf=conf)
        folders = _SQUID_FOLDERS.format(log=_below(places.log, "/var/log/"), cache=_below(places.cache, "/var/cache/"))
    elif kind == SSH:
        user = check_user(rules.egress.user)
        account, program = f"User={user}\nGroup={user}", f"ExecStart=/usr/sbin/sshd -D -e -f {conf}"
    return _UNIT.format(
        site=rules.site,
        kind=kind,
        account=account,
        exec=program,
        folders=folders,
    )


def addresses_conf(rules: Listed) -> str:
    """The drop-in that shuts out every other address; empty when a forward is a name, whose addresses may change."""
    if not rules.all_numeric:
        return ""
    addresses = (*rules.sources, *dict.fromkeys(target.host for target in rules.targets))
    return _ADDRESSES.format(addresses=" ".join(addresses))


def logrotate_conf(rules: Listed, places: Places) -> str:
    """What logrotate does with squid's logs; the other daemons log to the journal."""
    return _LOGROTATE.format(log=places.log, unit=UNITS[rules.egress.kind])


def _below(path: str, folder: str) -> str:
    """As LogsDirectory= and CacheDirectory= name it; the folders of tests stand elsewhere, where no unit runs."""
    return path[len(folder) :] if path.startswith(folder) else path.lstrip("/")
