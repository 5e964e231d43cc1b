# SPDX-License-Identifier: Apache-2.0
"""`--key broker`: which handle of the relay an operator's command takes, and what is said when there is none."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from glideinwms_bosco.cli import relay_keys
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.cli.relay_keys import broker_login, credential_text, frontend_of, handle_file
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.errors import EXIT_REMOTE, AuthenticationError, RelayError, RemoteError, UsageError
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import Answer, Deny, Sign
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.site_connection import login_endpoint
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import Account, SiteDescription
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT
from tests.unit.relay_fixture import FakeBroker, RelayHost, fake_broker, relay_host
from tests.unit.site_text import HOST_KEY, changed_site, use_host_folders, write_site
from tests.unit.ssh_version import needs_session_bind
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

PINS = {"cms": "sha256:" + "1" * 64, "osg": "sha256:" + "2" * 64}
JUMP = f"""host: login.example.org
  jump_hosts:
    - host: jump.example.org
      host_keys: ["{HOST_KEY}"]
"""


def row(number: int, purpose: str = MAINTAIN, **other: Any) -> dict[str, Any]:
    """What status.json says of a handle."""
    name = other.pop("name", "cms")
    return {
        "handle": f"{number:x}".replace("0", "a").replace("1", "b").rjust(26, "c"),
        "purpose": purpose,
        "user": "pilot",
        "hosts": ["login.example.org:22"],
        "name": name,
        "frontend": f"{name} pool",
        "broker": "up",
        "broker_pin": PINS[name],
        "since": 0,
        "not_after": 0,
        "last_deny": None,
        **other,
    }


class Factory:
    """A factory host on which a relay seems to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "relay.conf"
        self.sockets = folder / "run"
        self.state = folder / "state"
        for path in (self.sockets, self.state):
            path.mkdir()
        self.write_conf({name: [str(self.state / "handles" / name)] for name in PINS})

    def write_conf(self, paths: dict[str, list[str]]) -> None:
        brokers = [
            {"name": name, "frontend": f"{name} pool", "spki": [pin], "credential_paths": paths[name]}
            for name, pin in PINS.items()
        ]
        conf = {
            "version": 1,
            "identity": str(self.folder / "relay"),
            "allowed_uids": [os.getuid()],
            "socket_dir": str(self.sockets),
            "tap_program": "/opt/tap",
            "brokers": brokers,
        }
        self.conf.write_text(json.dumps(conf))

    def offers(self, *rows: dict[str, Any], tap: bool = False) -> None:
        (self.sockets / "status.json").write_text(json.dumps({"tap": tap, "handles": rows}))


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Factory:
    made = Factory(tmp_path)
    monkeypatch.setenv("GWMS_SSH_RELAY_CONF", str(made.conf))
    return made


def site_of(factory: Factory, old: str = "", new: str = "") -> tuple[SiteDescription, Account]:
    site = changed_site(factory.folder, old, new)
    return site, site.accounts[0]


def account(factory: Factory, credential: str = "broker") -> Account:
    return site_of(factory, "credential: broker", f"credential: {credential}")[1]


@pytest.mark.parametrize(
    ("typed", "credential", "frontend"),
    [
        ("broker", "key_pair", ""),
        ("broker:cms", "key_pair", "cms"),
        (None, "broker", ""),
        (None, "key_pair", None),
        ("/etc/key", "broker", None),
        ("/etc/broker", "broker", None),
        ("brokers", "broker", None),
    ],
)
def test_what_was_typed_and_the_site_file_say_who_signs(
    factory: Factory, typed: Optional[str], credential: str, frontend: Optional[str]
) -> None:
    assert frontend_of(Path(typed) if typed else None, account(factory, credential)) == frontend


def test_without_a_relay_on_this_host_the_callers_own_agent_signs(factory: Factory) -> None:
    factory.conf.unlink()
    assert frontend_of(None, account(factory)) is None


def test_takes_the_maintenance_handle_of_the_account(factory: Factory) -> None:
    right = row(7)
    factory.offers(
        row(2, SUBMIT), row(3, user="other"), row(4, hosts=["other.example.org:22"]), row(5, hosts=["x:22"]), right,
        row(6, hosts=["login.example.org:2222"]),
    )  # fmt: skip
    login = broker_login(*site_of(factory))
    key = login.connection.agent_keys[login.connection.login]
    assert key.socket == factory.sockets / f"{right['handle']}.sock"
    assert key.public_file == factory.sockets / f"{right['handle']}.pub"
    assert (key.certificate_file, key.tap, login.connection.key_file) == (None, None, None)


def test_takes_certificate_and_tap_where_the_relay_has_them(factory: Factory) -> None:
    offered = row(7)
    factory.offers(offered, tap=True)
    certificate = factory.sockets / f"{offered['handle']}-cert.pub"
    certificate.touch()
    login = broker_login(*site_of(factory))
    key = login.connection.agent_keys[login.connection.login]
    assert (key.certificate_file, key.tap) == (certificate, Path("/opt/tap"))


def test_jump_host_is_served_by_the_same_brokers_handle(factory: Factory) -> None:
    jump = row(8, hosts=["jump.example.org:22"])
    factory.offers(row(6, hosts=["jump.example.org:22"], name="osg"), row(9, SUBMIT, hosts=["jump.example.org:22"]),
                   row(7), jump)  # fmt: skip
    connection = broker_login(*site_of(factory, "host: login.example.org\n", JUMP)).connection
    assert connection.agent_keys[connection.jumps[0]].socket.name == f"{jump['handle']}.sock"


def test_several_frontends_have_to_be_told_apart(factory: Factory) -> None:
    factory.offers(row(7), row(8, name="osg"))
    with pytest.raises(UsageError, match="--key broker:NAME, one of: cms, osg"):
        broker_login(*site_of(factory))
    login = broker_login(*site_of(factory), "osg")
    assert login.connection.agent_keys[login.connection.login].socket.name.startswith(str(row(8)["handle"]))


def test_says_what_to_do_without_a_handle(factory: Factory) -> None:
    factory.offers(row(2, SUBMIT))
    with pytest.raises(UsageError, match=r"no broker offers a maintain handle for pilot@login.*key add --maintain"):
        broker_login(*site_of(factory))
    with pytest.raises(UsageError, match="no broker of osg offers a maintain handle"):
        broker_login(*site_of(factory), "osg")


def test_says_that_no_relay_runs(factory: Factory) -> None:
    with pytest.raises(RemoteError, match=r"no relay is running: .*; start gwms-ssh-relay"):
        broker_login(*site_of(factory))
    with pytest.raises(RemoteError, match="no relay is running"):
        handle_file(factory.state, login_endpoint(*site_of(factory)), "")


@pytest.mark.parametrize("verb", ["probe", "verify", "deploy"])
def test_command_without_a_relay_says_that_the_other_side_failed(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    host = factory.folder / "host"
    host.mkdir()
    write_site(use_host_folders(host, monkeypatch) / "sites.d")
    monkeypatch.setattr(SiteBundles, "get", lambda *_: (None, None))
    assert main(["remote", verb, "test", "--key", "broker"]) == EXIT_REMOTE
    assert "no relay is running" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", '{"tap": true}', '{"handles": [{}], "tap": false}', "[]"])
def test_broken_status_is_one_line(factory: Factory, text: str) -> None:
    (factory.sockets / "status.json").write_text(text)
    with pytest.raises((RelayError, RemoteError), match="gwms-ssh-relay"):
        broker_login(*site_of(factory))
    assert credential_text(*site_of(factory)).startswith("broker: ")


def test_broker_that_is_away_is_told_before_ssh_is_tried(factory: Factory) -> None:
    factory.offers(row(7, broker="down"))
    with pytest.raises(AuthenticationError, match="the broker of cms pool is not connected"):
        broker_login(*site_of(factory))


def test_relay_that_went_away_since_is_the_reason(factory: Factory) -> None:
    factory.offers(row(7))
    assert "the relay is gone" in (broker_login(*site_of(factory)).why_refused() or "")


def test_handle_file_is_private_powerless_and_kept(factory: Factory) -> None:
    factory.offers(row(2, SUBMIT), row(7))
    login = login_endpoint(*site_of(factory))
    path = handle_file(factory.state, login, "")
    assert path == factory.state / "handles" / "cms" / str(row(2)["handle"])
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert relay_keys.frontend_of_handle(path) == "cms"
    before = path.read_bytes()
    assert handle_file(factory.state, login, "cms").read_bytes() == before


def test_handle_file_outside_of_the_brokers_folders_is_not_written(factory: Factory) -> None:
    factory.write_conf({"cms": ["/elsewhere"], "osg": [str(factory.state / "handles" / "cms")]})
    factory.offers(row(2, SUBMIT))
    with pytest.raises(UsageError, match=r"does not let a handle of cms lie in .*add this folder to credential_paths"):
        handle_file(factory.state, login_endpoint(*site_of(factory)), "")
    assert not (factory.state / "handles").exists()


def test_key_file_is_no_handle(factory: Factory) -> None:
    (factory.folder / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert relay_keys.frontend_of_handle(factory.folder / "key") is None
    assert relay_keys.frontend_of_handle(factory.folder / "missing") is None


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([row(2, SUBMIT)], "broker cms: connected, no end"),
        ([row(2, SUBMIT, broker="down", not_after=86400)], "broker cms: not connected, until 1970-01-02T00:00:00Z"),
        ([row(2, SUBMIT), row(3, SUBMIT, name="osg")], "broker cms: connected, no end; broker osg: connected, no end"),
        ([row(2)], "broker: no handle for this account"),
        ([], "broker: no handle for this account"),
    ],
)
def test_status_says_who_signs_and_until_when(factory: Factory, rows: list[dict[str, Any]], text: str) -> None:
    factory.offers(*rows)
    assert credential_text(*site_of(factory)) == text


def test_address_of_ipv6_is_found(factory: Factory) -> None:
    factory.offers(row(7, hosts=["[2001:db8::1]:22"]))
    login = Endpoint("2001:db8::1", 22, "pilot", (HOST_KEY,))
    rows = [row(7, hosts=["[2001:db8::1]:22"])]
    assert relay_keys.find_handle(rows, login, MAINTAIN, "") == rows[0]


# --- through a real relay, by real ssh ---


@pytest.fixture
def real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback_sshd: LoopbackSshd
) -> Iterator[tuple[RelayHost, FakeBroker, SiteDescription]]:
    with relay_host(tmp_path) as host:
        broker = fake_broker(tmp_path / "cms", "cms")
        where = f"127.0.0.1:{loopback_sshd.port}"
        known = f"[127.0.0.1]:{loopback_sshd.port} {loopback_sshd.host_key}\n"
        handle = broker.add(known, where, loopback_sshd.user, purpose=MAINTAIN)
        host.write_conf({"cms": broker})
        monkeypatch.setenv("GWMS_SSH_RELAY_CONF", str(host.conf_file))
        host.start()
        host.connect(broker)
        public = (host.sockets / f"{handle}.pub").read_text()
        (loopback_sshd.directory / "authorized_keys").write_text(public)
        host.wait_for(lambda: bool(json.loads((host.sockets / "status.json").read_text())["handles"]))
        folder = tmp_path / "site"
        folder.mkdir()
        login = f"host: 127.0.0.1\n  port: {loopback_sshd.port}\n"
        old = f'host: login.example.org\n  host_keys: ["{HOST_KEY}"]\naccounts:\n  - user: pilot\n'
        new = f'{login}  host_keys: ["{loopback_sshd.host_key}"]\naccounts:\n  - user: {loopback_sshd.user}\n'
        yield host, broker, changed_site(folder, old, new)


@needs_session_bind
def test_real_ssh_logs_in_with_the_brokers_signature(real: tuple[RelayHost, FakeBroker, SiteDescription]) -> None:
    _, broker, site = real
    login = broker_login(site, site.accounts[0])
    with SshSession(login.connection, why_refused=login.why_refused):
        assert [len(request.binds) for request in broker.asked] == [1]
    assert login.why_refused() is None


@needs_session_bind
def test_refused_login_says_the_brokers_reason(real: tuple[RelayHost, FakeBroker, SiteDescription]) -> None:
    _, broker, site = real

    async def closed(_request: Sign) -> Answer:
        return Deny(DenyCode.PURPOSE_CLOSED, "maintenance of juwels is closed; the frontend opens it: key open")

    broker.answer = closed
    login = broker_login(site, site.accounts[0])
    with pytest.raises(AuthenticationError, match="DENY 20: maintenance of juwels is closed"):
        SshSession(login.connection, why_refused=login.why_refused).__enter__()
