# SPDX-License-Identifier: Apache-2.0
"""sshd_config of an egress proxy of kind ssh: one account that can open the forwards and do nothing else. Pure.

A second sshd beside the machine's own, run as that account: even broken it has no other rights. The key's options in
authorized_keys say the same once more. Source of the settings: sshd_config(5), OpenSSH 8.2 to 10.
"""

from __future__ import annotations

from glideinwms_bosco.egress.conf import egress_key_options
from glideinwms_bosco.egress.listed import Listed, check_user
from glideinwms_bosco.egress.places import Places
from glideinwms_bosco.site.model import SiteDescription

HOST_KEY = "ssh_host_ed25519_key"
AUTHORIZED_KEYS = "authorized_keys"
MAX_STARTUPS = "100:30:400"
"""Connections that have not logged in yet: the nodes of a site start together, and arrive from few addresses."""
MAX_OPEN = 0
"""Sessions per connection: sshd opens none, only forwards."""
_CONF = """\
# Egress proxy {target} of site {site}: made by `gwms-bosco egress proxy`, which makes it again.
Port {port}
ListenAddress {listen}
AddressFamily inet
HostKey {conf}/{host_key}
PidFile none
AuthorizedKeysFile {conf}/{authorized_keys}
# The folder belongs to root, the daemon has no rights over it: nothing there is the account's to change.
StrictModes no
LogLevel VERBOSE
UsePAM no
UseDNS no

AllowUsers {users}
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitRootLogin no
PermitEmptyPasswords no
LoginGraceTime 30
MaxAuthTries 3
MaxStartups {max_startups}
MaxSessions {max_open}
ClientAliveInterval 30
ClientAliveCountMax 4
TCPKeepAlive yes

AllowTcpForwarding no
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
GatewayPorts no
PermitTunnel no
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
ForceCommand /bin/false
PermitOpen none
PermitListen none
# OpenSSH 9.8 shuts out an address from which logins fail; all nodes of the site share one. See README.
Include {conf}/sshd_config.d/*.conf

Match User {user} Address {sources}
    AllowTcpForwarding local
    PermitOpen {opened}
"""
PENALTIES_NAME = "openssh-9.8.conf"


def sshd_config(rules: Listed, places: Places) -> str:
    """The text of sshd_config.

    Raises:
        EgressError: the account's name could mean something else to sshd.
    """
    user = check_user(rules.egress.user)
    return _CONF.format(
        site=rules.site,
        target=rules.egress.target,
        port=rules.egress.port,
        listen=rules.listen,
        conf=places.conf,
        host_key=HOST_KEY,
        authorized_keys=AUTHORIZED_KEYS,
        user=user,
        users=" ".join(f"{user}@{source}" for source in rules.sources),
        sources=",".join(rules.sources),
        opened=" ".join(target.target for target in rules.targets),
        max_startups=MAX_STARTUPS,
        max_open=MAX_OPEN,
    )


def penalties_conf(rules: Listed) -> str:
    """What OpenSSH 9.8 and newer needs besides; older ones do not know the word and would not start."""
    return f"PerSourcePenaltyExemptList {','.join(rules.sources)}\n"


def authorized_keys(site: SiteDescription, key: str) -> str:
    """The line of the tunnel's key.

    Args:
        site: has a network block.
        key: `type base64`.

    Raises:
        EgressError: the site has no network block, or it does not say from where the key may be used.
    """
    return f"{egress_key_options(site)} {key} gwms-bosco:{site.short_name}\n"
