# SPDX-License-Identifier: Apache-2.0
"""The site description as frozen, typed objects.

Objects are built by `load.load_site` after the schema has accepted the file; the constructors check again what must
never be wrong, because these values reach command lines on the remote machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.network import Network
from glideinwms_bosco.site.runtime import Runtime
from glideinwms_bosco.site.source import HTCondorSource

DEFAULT_SSH_PORT = 22
# Below the ten half-open logins at which sshd starts to refuse (MaxStartups 10:30:100 in sshd_config(5)).
DEFAULT_MAX_CONNECTIONS = 8
DEFAULT_CONNECTIONS_PER_MINUTE = 60
DEFAULT_BOSCO_DIR = "bosco"
"""Install folder remote_gahp uses when the entry names none. Source: HTCondor 23.9 `remote_gahp`, REMOTE_GLITE."""
DEFAULT_WALLTIME_MARGIN_S = 1800
"""The batch limit less this is GLIDEIN_Max_Walltime; CMS entries use 171000 s for queues of 48 h."""

AttrValue = Union[str, int, bool]

_SHELL_SAFE = re.compile(r"[A-Za-z0-9_.:,/@%+=\[\]* -]*")


def _shell_safe(what: str, *values: Optional[str]) -> None:
    for value in values:
        if value is not None and not _SHELL_SAFE.fullmatch(value):
            raise SiteError(f"{what} {value!r} has a character that a shell would interpret")


def _no_blank(what: str, *values: Optional[str]) -> None:
    _shell_safe(what, *values)
    for value in values:
        if value is not None and (" " in value or "*" in value):
            raise SiteError(f"{what} {value!r} has a blank or `*`; blahp would split it into several arguments")


@dataclass(frozen=True)
class JumpHost:
    """A machine between the factory and the login host. `user` None: the account's."""

    host: str
    port: int = DEFAULT_SSH_PORT
    user: Optional[str] = None
    host_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _no_blank("jump host", self.host, self.user)


@dataclass(frozen=True)
class Login:
    """The login host. `host_keys`: `type base64` strings; `jump_hosts`: nearest to the factory first.

    `max_connections` at once and `connections_per_minute` are what our commands, all together, allow themselves.
    """

    host: str
    port: int = DEFAULT_SSH_PORT
    host_keys: tuple[str, ...] = ()
    jump_hosts: tuple[JumpHost, ...] = ()
    max_connections: int = DEFAULT_MAX_CONNECTIONS
    connections_per_minute: int = DEFAULT_CONNECTIONS_PER_MINUTE

    def __post_init__(self) -> None:
        _no_blank("login host", self.host)


@dataclass(frozen=True)
class Account:
    """One remote account; the bundle lies in its home. `credential`: `key_pair` or `broker`."""

    name: str
    user: str
    frontend: Optional[str] = None
    security_class: Optional[str] = None
    credential: str = "key_pair"

    def __post_init__(self) -> None:
        _no_blank("account", self.name, self.user)


@dataclass(frozen=True)
class Batch:
    """The batch system behind the login host; `settings` are further keys of blah.config."""

    system: str
    queue: Optional[str] = None
    project: Optional[str] = None
    constraint: Optional[str] = None
    reservation: Optional[str] = None
    qos: Optional[str] = None
    extra_args: tuple[str, ...] = ()
    bin_path: Optional[str] = None
    settings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _no_blank("queue", self.queue)
        _no_blank("project", self.project)
        _no_blank("bin_path", self.bin_path)
        _no_blank("constraint, reservation or qos", self.constraint, self.reservation, self.qos)
        _shell_safe("extra argument", *self.extra_args)


@dataclass(frozen=True)
class Override:
    """A file laid over the bundle at `path`: `file` (path on the factory) or `content`. `mode` None: it follows."""

    path: str
    file: Optional[str] = None
    content: Optional[str] = None
    mode: Optional[int] = None


@dataclass(frozen=True)
class Install:
    """Where the bundle goes and what is in it.

    `bosco_dir` None: remote_gahp's default, and no attribute in the entry XML. `htcondor` empty: the host's sources.
    """

    bosco_dir: Optional[str] = None
    htcondor: tuple[HTCondorSource, ...] = ()
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        _no_blank("bosco_dir", self.bosco_dir)

    @property
    def folder(self) -> str:
        """Install folder relative to the remote home."""
        return self.bosco_dir or DEFAULT_BOSCO_DIR


@dataclass(frozen=True)
class Limits:
    """glideinWMS max_jobs numbers; None keeps glideinWMS's default."""

    glideins: Optional[int] = None
    idle: Optional[int] = None
    held: Optional[int] = None


@dataclass(frozen=True)
class Pace:
    """How many pilots per factory cycle, and the pause between two calls (s)."""

    max_per_cycle: Optional[int] = None
    sleep_s: Optional[float] = None


@dataclass(frozen=True)
class Submit:
    """The <submit> element of an entry."""

    cluster_size: Optional[int] = None
    max_per_cycle: Optional[int] = None
    sleep_s: Optional[float] = None
    slots_layout: Optional[str] = None


@dataclass(frozen=True)
class Restrictions:
    """The <restrictions> element of an entry."""

    require_voms_proxy: Optional[bool] = None
    require_glidein_glexec_use: Optional[bool] = None


@dataclass(frozen=True)
class Attr:
    """A glideinWMS <attr>; None flags take the defaults of `entry.attrs`."""

    name: str
    value: str
    type: Optional[str] = None
    const: Optional[bool] = None
    parameter: Optional[bool] = None
    publish: Optional[bool] = None
    glidein_publish: Optional[bool] = None
    job_publish: Optional[bool] = None
    comment: Optional[str] = None


@dataclass(frozen=True)
class AllowFrontend:
    """A frontend that may use the entry; `security_class` None: all of its classes."""

    name: str
    security_class: Optional[str] = None


@dataclass(frozen=True)
class Raw:
    """What an imported entry has and no field can say; it wins over everything rendered from fields.

    Attributes:
        derive: False: nothing but what the entry's own attrs, submit_attrs and allow_frontends say is rendered.
        attributes: XML attributes of <entry>; None removes one.
        attrs: name of the <attr> -> its other XML attributes.
        submit_attrs: name -> value, as written.
        children: XML fragments, merged into the entry.
    """

    derive: bool = True
    attributes: tuple[tuple[str, Optional[str]], ...] = ()
    attrs: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    submit_attrs: tuple[tuple[str, str], ...] = ()
    children: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One factory entry. Times in seconds, memory in MB (2^20 bytes), cpus, memory and gpus per node.

    `file`: of an external entry, the file of the factory's configuration that defines it; None: the one that counts.
    """

    name: str
    file: Optional[str] = None
    enabled: bool = True
    comment: Optional[str] = None
    accounts: tuple[str, ...] = ()
    cpus: Optional[int] = None
    memory_mb: Optional[int] = None
    walltime_s: Optional[int] = None
    walltime_margin_s: int = DEFAULT_WALLTIME_MARGIN_S
    nodes: int = 1
    gpus: int = 0
    whole_node: bool = False
    queue: Optional[str] = None
    project: Optional[str] = None
    constraint: Optional[str] = None
    reservation: Optional[str] = None
    qos: Optional[str] = None
    extra_args: tuple[str, ...] = ()
    per_entry: Limits = Limits()
    default_per_frontend: Limits = Limits()
    per_frontends: tuple[tuple[str, Limits], ...] = ()
    release: Pace = Pace()
    remove: Pace = Pace()
    restrictions: Restrictions = Restrictions()
    submit: Submit = Submit()
    work_dir: Optional[str] = None
    proxy_url: Optional[str] = None
    verbosity: Optional[str] = None
    rsl: Optional[str] = None
    schedd_name: Optional[str] = None
    attrs: tuple[Attr, ...] = ()
    submit_attrs: tuple[tuple[str, str], ...] = ()
    allow_frontends: tuple[AllowFrontend, ...] = ()
    raw: Raw = Raw()

    def __post_init__(self) -> None:
        _no_blank("queue", self.queue)
        _no_blank("project", self.project)
        _no_blank("constraint, reservation or qos", self.constraint, self.reservation, self.qos)
        _shell_safe("extra argument", *self.extra_args)


@dataclass(frozen=True)
class SiteDescription:
    """One site behind one login host. `file` and `lines` say where each field stands and take no part in comparison.

    `login` is None while all entries keep their imported gatekeepers, and in `external` ones, whose entries stand in
    somebody else's file; there `batch` and `trust_domain` say nothing.
    `lines` maps dotted paths (`entries[0].walltime`) to 1-based lines.
    """

    name: str
    resource: str
    trust_domain: str
    login: Optional[Login]
    accounts: tuple[Account, ...]
    batch: Batch
    entries: tuple[Entry, ...]
    enabled: bool = True
    cms_site: Optional[str] = None
    country: Optional[str] = None
    region: Optional[str] = None
    supported_vos: tuple[str, ...] = ()
    install: Install = Install()
    external: bool = False
    runtime: Optional[Runtime] = None
    network: Optional[Network] = None
    file: str = field(default="", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def short_name(self) -> str:
        """How commands name the site: the site file's name without its ending."""
        return Path(self.file).stem

    def required_login(self) -> Login:
        """The login host, for what connects to it or names it.

        Raises:
            SiteError: the site file has none.
        """
        if self.external:
            raise SiteError(
                f"{self.file or self.name}: has submission: external, so there is no login host to connect to",
                "its pilots are submitted by somebody else's entry",
            )
        if self.login is None:
            raise SiteError(
                f"{self.file or self.name}: login.host is not set, so there is no host to connect to",
                "set `login` and `accounts`, and remove what `raw.attributes` keeps in their place",
            )
        return self.login

    def account(self, name: str) -> Account:
        """Find an account by its name.

        Raises:
            SiteError: no such account.
        """
        for account in self.accounts:
            if account.name == name:
                return account
        known = ", ".join(account.name for account in self.accounts)
        raise SiteError(f"site {self.name} has no account {name!r}", f"its accounts are: {known}")

    def accounts_of(self, entry: Entry) -> tuple[Account, ...]:
        """Accounts an entry submits as, the one of the gatekeeper first."""
        return tuple(self.account(name) for name in entry.accounts) if entry.accounts else self.accounts

    def line(self, path: str) -> int:
        """Line of a field in the site file, or of its nearest parent."""
        while path not in self.lines:
            cut = max(path.rfind("."), path.rfind("["))
            if cut <= 0:
                return self.lines.get("", 1)
            path = path[:cut]
        return self.lines[path]
