# SPDX-License-Identifier: Apache-2.0
"""Endpoints refuse what ssh_config could misread; the rendered configuration is read back by ssh itself."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.connection import (
    LOGIN_ALIAS,
    MAX_JUMPS,
    Connection,
    Endpoint,
    host_keys_command,
    render_known_hosts,
    render_ssh_config,
)

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()
OTHER_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"o" * 32).decode()
RSA_KEY = "ssh-rsa " + base64.b64encode(b"\0\0\0\x07ssh-rsa\0\0\0\x01\x03").decode()


@pytest.mark.parametrize("host", ["login.example.org", "10.77.0.20", "::1", "2001:db8::5", "a", "x" * 63])
def test_accepts_host(host: str) -> None:
    assert Endpoint(host, 22, "pilot", (KEY,)).host == host


@pytest.mark.parametrize(
    "host",
    ["", "-oProxyCommand=x", "a b", "a\nb", "a_b", ".a", "a..b", "a-", "x" * 64, "fe80::1%eth0", "a%h", "u@h", "[::1]",
     "a*", "!a", "a,b", "a\n"],
)  # fmt: skip
def test_refuses_host(host: str) -> None:
    with pytest.raises(RemoteError, match="host name"):
        Endpoint(host, 22, "pilot", (KEY,))


@pytest.mark.parametrize("port", [1, 65535])
def test_accepts_port_at_limit(port: int) -> None:
    assert Endpoint("h", port, "pilot", (KEY,)).port == port


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_refuses_port_beyond_limit(port: int) -> None:
    with pytest.raises(RemoteError, match="port"):
        Endpoint("h", port, "pilot", (KEY,))


@pytest.mark.parametrize("user", ["pilot", "first.last", "u_1-x", "1user", "u" * 64])
def test_accepts_user(user: str) -> None:
    assert Endpoint("h", 22, user, (KEY,)).user == user


@pytest.mark.parametrize("user", ["", "-l", ".x", "a b", "a@b", "a%u", 'a"', "a$b", "u" * 65, "a\n"])
def test_refuses_user(user: str) -> None:
    with pytest.raises(RemoteError, match="user name"):
        Endpoint("h", 22, user, (KEY,))


@pytest.mark.parametrize(
    "key",
    ["", "ssh-ed25519", KEY + " comment", "h " + KEY, KEY + "\n", "ssh-rsa " + KEY.split()[1], "ssh-ed25519 !!!!",
     "ssh-ed25519 AAAA", "ssh-ed25519 " + "A" * 9000],
)  # fmt: skip
def test_refuses_host_key(key: str) -> None:
    with pytest.raises(RemoteError, match="host key"):
        Endpoint("h", 22, "pilot", (key,))


def test_refuses_endpoint_without_pinned_key() -> None:
    with pytest.raises(RemoteError, match="gwms-bosco site hostkeys h"):
        Endpoint("h", 22, "pilot", ())


@pytest.mark.parametrize("path", ["key", "/a\nb", '/a"b', "/a\\b", "/a${HOME}", "/" + "x" * 1024])
def test_refuses_key_file_path(path: str) -> None:
    with pytest.raises(RemoteError, match="key file path"):
        Connection(Endpoint("h", 22, "pilot", (KEY,)), (), Path(path))


def test_refuses_one_jump_too_many() -> None:
    hop = Endpoint("h", 22, "pilot", (KEY,))
    Connection(hop, (hop,) * MAX_JUMPS)
    with pytest.raises(RemoteError, match="jump hosts"):
        Connection(hop, (hop,) * (MAX_JUMPS + 1))


def test_known_hosts_brackets_only_other_ports() -> None:
    endpoints = [Endpoint("Login.Example.org", 22, "a", (KEY, RSA_KEY)), Endpoint("::1", 2222, "a", (KEY,))]
    assert render_known_hosts([*endpoints, endpoints[0]]).splitlines() == [
        f"login.example.org {KEY}", f"login.example.org {RSA_KEY}", f"[::1]:2222 {KEY}",
    ]  # fmt: skip


def test_command_names_port_only_when_unusual() -> None:
    assert host_keys_command("h", 22) == "gwms-bosco site hostkeys h"
    assert host_keys_command("::1", 2222) == "gwms-bosco site hostkeys ::1 --port 2222"


def effective(config: str, alias: str, tmp_path: Path) -> dict[str, list[str]]:
    """Return what `ssh -G` makes of a configuration."""
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed")
    path = tmp_path / "config"
    path.write_text(config)
    done = subprocess.run(["ssh", "-G", "-F", str(path), alias], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    options: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


def test_ssh_reads_every_protective_option(tmp_path: Path) -> None:
    login = Endpoint("login.example.org", 2222, "first.last", (KEY,))
    jump = Endpoint("10.0.0.1", 22, "hop", (KEY,))
    known_hosts = Path("/tmp/with blank/100%/known_hosts")
    connection = Connection(login, (jump,), Path("/keys/my key%20"))
    config = render_ssh_config(connection, known_hosts)
    options = effective(config, LOGIN_ALIAS, tmp_path)
    expected = {
        "hostname": "login.example.org", "port": "2222", "user": "first.last", "proxyjump": "gwms-bosco-jump1",
        "stricthostkeychecking": "true", "updatehostkeys": "false", "batchmode": "yes", "forwardagent": "no",
        "passwordauthentication": "no", "kbdinteractiveauthentication": "no", "identitiesonly": "yes",
        "clearallforwardings": "yes", "permitlocalcommand": "no", "requesttty": "false", "escapechar": "none",
        "tunnel": "false", "serveraliveinterval": "15", "serveralivecountmax": "3", "forwardx11": "no",
        "globalknownhostsfile": "/dev/null", "preferredauthentications": "publickey", "checkhostip": "no",
    }  # fmt: skip
    assert {name: options[name] for name in expected} == {name: [value] for name, value in expected.items()}
    # Whether ssh -G shows a file name before or after %-expansion differs between options and versions.
    assert options["identityfile"][0].replace("%%", "%") == "/keys/my key%20"
    assert options["userknownhostsfile"][0].replace("%%", "%") == "/tmp/with blank/100%/known_hosts"
    hop = effective(config, "gwms-bosco-jump1", tmp_path)
    assert (hop["hostname"], hop["port"], hop["user"]) == (["10.0.0.1"], ["22"], ["hop"])
    assert "proxyjump" not in hop


def test_without_key_file_only_the_agent_is_used(tmp_path: Path) -> None:
    config = render_ssh_config(Connection(Endpoint("h", 22, "u", (KEY,))), Path("/tmp/k"))
    options = effective(config, LOGIN_ALIAS, tmp_path)
    assert options["identityfile"] == ["none"]
    assert options["identitiesonly"] == ["no"]
