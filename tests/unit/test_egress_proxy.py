# SPDX-License-Identifier: Apache-2.0
"""Real egress proxies with the configuration that a site file gives: a valid request, one change, one refusal."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.egress.listed import everything_but, listed, public_key
from glideinwms_bosco.egress.places import Places
from glideinwms_bosco.egress.proxy_files import proxy_files
from glideinwms_bosco.egress.units import CONFS
from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.site.network import EGRESS_KINDS, HTTP_CONNECT, SOCKS5, SSH, Forward
from tests.unit.egress_world import (
    SITE,
    STRANGER,
    UNLISTED,
    NameServer,
    World,
    egress_world,
    network_of,
    site_of,
    with_network,
)
from tests.unit.site_text import HOST_KEY
from tests.unit.sshd_fixture import make_key

PING = b"ping"
NAMES = {
    "stratum1.example.org": (SITE,),
    "mixed.example.org": (SITE, UNLISTED),
    "other.example.org": (UNLISTED,),
    "inner.example.org": (SITE,),
}


def _connect(host: str, port: int) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()


def _get(url: str, *headers: str, method: str = "GET") -> bytes:
    host = url.partition("://")[2].partition("/")[0]
    lines = [f"{method} {url} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


@pytest.fixture(scope="module")
def squid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with egress_world(HTTP_CONNECT, tmp_path_factory.mktemp("squid"), cache_mb=10) as world:
        yield world


class TestSquid:
    @pytest.fixture(autouse=True)
    def _forget(self, squid: World) -> None:
        for server in squid.servers:
            server.saw.clear()

    def _refused(self, squid: World, data: bytes, source: str = SITE) -> None:
        """Refused, and no server has seen anything."""
        assert _status(squid.ask(data, source, PING)) in (400, 403, 404, 405, 501), data
        assert [server.saw for server in squid.servers] == [[], [], [], []]

    def test_connects_to_a_forward(self, squid: World) -> None:
        answer = squid.ask(_connect(SITE, squid.pool.port), then=PING)
        assert _status(answer) == 200 and answer.endswith(PING)

    def test_fetches_from_a_web_forward_and_keeps_what_it_got(self, squid: World) -> None:
        url = f"http://{SITE}:{squid.web.port}/object"
        answers = [squid.ask(_get(url)) for _ in range(3)]
        assert all(answer.endswith(b"page") for answer in answers)
        assert len(squid.web.saw) == 1 and b"\r\nAge: " in answers[-1]

    def test_refuses_another_source_address(self, squid: World) -> None:
        self._refused(squid, _connect(SITE, squid.pool.port), STRANGER)
        self._refused(squid, _get(f"http://{SITE}:{squid.web.port}/object"), STRANGER)

    def test_refuses_an_unlisted_host(self, squid: World) -> None:
        self._refused(squid, _connect(UNLISTED, squid.pool.port))

    def test_refuses_another_port_of_a_listed_host(self, squid: World) -> None:
        self._refused(squid, _connect(SITE, squid.hidden.port))
        self._refused(squid, _get(f"http://{SITE}:{squid.hidden.port}/"))

    @pytest.mark.parametrize("host", ["localhost", "[::1]", "%31%32%37.0.0.1", "127.0.0.1@127.0.0.3"])
    def test_refuses_a_listed_host_by_a_name(self, squid: World, host: str) -> None:
        self._refused(squid, _connect(host, squid.pool.port))

    @pytest.mark.parametrize(
        "host", ["127.3", "2130706435", "0x7f000003", "0177.0.0.3", "[::ffff:127.0.0.3]", "127.0.0.1.127.0.0.3"]
    )
    def test_refuses_an_unlisted_host_however_it_is_spelled(self, squid: World, host: str) -> None:
        self._refused(squid, _connect(host, squid.pool.port))
        self._refused(squid, _get(f"http://{host}:{squid.web.port}/"))

    def test_refuses_to_fetch_from_a_forward_that_is_not_web(self, squid: World) -> None:
        self._refused(squid, _get(f"http://{SITE}:{squid.pool.port}/"))

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PURGE", "PATCH", "MADE-UP"])
    def test_refuses_every_other_method(self, squid: World, method: str) -> None:
        self._refused(squid, _get(f"http://{SITE}:{squid.web.port}/", "Content-Length: 0", method=method))

    @pytest.mark.parametrize(
        "url",
        [
            "cache_object://127.0.0.1/info",
            "/squid-internal-mgr/info",
            "http://127.0.0.1:{port}/squid-internal-mgr/info",
            "http://egress-proxy:{port}/squid-internal-mgr/menu",
            "http://egress-proxy:{port}/squid-internal-dynamic/netdb",
            "/squid-internal-static/icons/SN.png",
        ],
    )
    def test_has_no_cache_manager(self, squid: World, url: str) -> None:
        self._refused(squid, _get(url.format(port=squid.port)))

    @pytest.mark.parametrize("scheme", ["ftp", "https", "gopher", "whois", "wais", "coap"])
    def test_refuses_to_fetch_by_another_protocol(self, squid: World, scheme: str) -> None:
        self._refused(squid, _get(f"{scheme}://{SITE}:{squid.web.port}/"))

    def test_request_behind_an_allowed_one_is_looked_at_too(self, squid: World) -> None:
        """One connection: a page that is allowed, then a way to a host that is not."""
        allowed = f"GET http://{SITE}:{squid.web.port}/first HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode()
        answer = squid.ask(allowed + _connect(UNLISTED, squid.pool.port))
        assert _status(answer) == 200 and b" 403 " in answer[answer.index(b"page") :]
        assert squid.elsewhere.saw == []

    def test_hides_no_request_in_a_body(self, squid: World) -> None:
        """Two lengths of one body, between which a request to another forward hides."""
        hidden = _get(f"http://{SITE}:{squid.pool.port}/")
        headers = ("Transfer-Encoding: chunked", f"Content-Length: {len(hidden) + 5}")
        url = f"http://{SITE}:{squid.web.port}/"
        squid.ask(_get(url, *headers).replace(b"Connection: close\r\n", b"") + b"0\r\n\r\n" + hidden)
        assert squid.pool.saw == []

    def test_host_header_leads_nowhere_else(self, squid: World) -> None:
        data = _get(f"http://{SITE}:{squid.web.port}/host").replace(
            f"Host: {SITE}:{squid.web.port}".encode(), f"Host: {UNLISTED}:{squid.elsewhere.port}".encode()
        )
        assert squid.ask(data).endswith(b"page")
        assert squid.elsewhere.saw == [] and f"Host: {SITE}".encode() in squid.web.saw[0]

    def test_upgrade_opens_no_other_protocol(self, squid: World) -> None:
        upgrade = ("Upgrade: websocket", "Sec-WebSocket-Key: AAAA")
        squid.ask(_get(f"http://{SITE}:{squid.web.port}/upgrade", *upgrade).replace(b"close", b"close, Upgrade"))
        assert b"upgrade:" not in squid.web.saw[0].lower()

    def test_says_nothing_of_who_asked(self, squid: World) -> None:
        secrets = (
            "Authorization: Basic c2VjcmV0",
            "Cookie: secret=1",
            "X-Forwarded-For: 10.0.0.1",
            "Referer: http://a/",
        )
        squid.ask(_get(f"http://{SITE}:{squid.web.port}/who", *secrets))
        sent = squid.web.saw[0].lower()
        assert not any(name in sent for name in (b"authorization", b"cookie", b"forwarded", b"10.0.0.1", b"referer"))

    def test_writes_a_log_of_what_it_refused(self, squid: World) -> None:
        squid.ask(_connect(UNLISTED, 4711))
        assert "TCP_DENIED/403" in (log := (squid.folder / "access.log").read_text()) and f"{UNLISTED}:4711" in log


@pytest.fixture(scope="module")
def named_squid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = NameServer(NAMES)
    named = [Forward("store", "inner.example.org", 4711)]
    try:
        extra = f"dns_nameservers {NameServer.ADDRESS}\nhosts_file none\n"
        with egress_world(HTTP_CONNECT, tmp_path_factory.mktemp("squid"), extra, named) as world:
            yield world
    finally:
        server.close()


class TestSquidAndNames:
    def test_fetches_by_a_name_that_means_a_web_forward(self, named_squid: World) -> None:
        assert named_squid.ask(_get(f"http://stratum1.example.org:{named_squid.web.port}/")).endswith(b"page")

    @pytest.mark.parametrize("name", ["mixed", "other", "unknown"])
    def test_refuses_a_name_that_means_anything_else_besides(self, named_squid: World, name: str) -> None:
        """Whoever owns a name could otherwise add the address of any host to that of a listed one."""
        assert _status(named_squid.ask(_get(f"http://{name}.example.org:{named_squid.web.port}/"))) == 403

    def test_refuses_a_listed_name_that_leads_inward(self, named_squid: World) -> None:
        """A name among the forwards is changed to mean the institute's own network."""
        assert _status(named_squid.ask(_connect("inner.example.org", 4711))) == 403


def _socks(host: str, port: int, command: int = 1) -> bytes:
    numeric = host.replace(".", "").isdigit()
    place = b"\1" + socket.inet_aton(host) if numeric else b"\3" + bytes([len(host)]) + host.encode()
    return b"\5\1\0" + bytes([5, command, 0]) + place + port.to_bytes(2, "big")


@pytest.fixture(scope="module")
def dante(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with egress_world(SOCKS5, tmp_path_factory.mktemp("dante")) as world:
        yield world


class TestDante:
    def test_opens_a_forward(self, dante: World) -> None:
        with socket.create_connection((SITE, dante.port), 10) as connection:
            connection.sendall(_socks(SITE, dante.pool.port))
            got = b""
            while len(got) < 12:
                got += connection.recv(12 - len(got))
            connection.sendall(PING)
            assert connection.recv(16) == PING

    @pytest.mark.parametrize(
        "request_of",
        [
            lambda dante: _socks(UNLISTED, dante.pool.port),
            lambda dante: _socks(SITE, dante.hidden.port),
            lambda dante: _socks("127.0.0.255", dante.pool.port),
            lambda dante: _socks(SITE, dante.pool.port, 2),
            lambda dante: _socks(SITE, dante.pool.port, 3),
        ],
        ids=["unlisted host", "another port", "another address", "bind", "udp"],
    )
    def test_refuses_all_else(self, dante: World, request_of: Callable[[World], bytes]) -> None:
        answer = dante.ask(request_of(dante))
        assert answer[:2] == b"\5\0" and answer[3:4] == b"\2"
        assert dante.elsewhere.saw == [] and dante.hidden.saw == []

    def test_refuses_another_source_address(self, dante: World) -> None:
        assert dante.ask(_socks(SITE, dante.pool.port), STRANGER) == b""

    def test_speaks_no_older_socks_to_an_unlisted_host(self, dante: World) -> None:
        request = b"\4\1" + dante.pool.port.to_bytes(2, "big") + socket.inet_aton(UNLISTED) + b"me\0"
        assert dante.ask(request)[1:2] != b"\x5a"
        assert dante.elsewhere.saw == []


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with egress_world(SSH, tmp_path_factory.mktemp("sshd")) as world:
        yield world


class TestSshd:
    def _ssh(
        self, sshd: World, *options: str, source: str = SITE, text: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        host_key = " ".join((sshd.folder / "ssh_host_ed25519_key.pub").read_text().split()[:2])
        known = sshd.folder / "known_hosts"
        known.write_text(f"[{SITE}]:{sshd.port} {host_key}\n")
        argv = ["ssh", "-F", "none", "-p", str(sshd.port), "-i", str(sshd.key), "-b", source, "-o", "BatchMode=yes"]
        argv += ["-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
        argv += ["-o", "StrictHostKeyChecking=yes", "-o", "ExitOnForwardFailure=yes"]
        return subprocess.run([*argv, *options], input=text, capture_output=True, timeout=30, check=False)

    def _forward(self, sshd: World, host: str, port: int) -> subprocess.CompletedProcess[bytes]:
        return self._ssh(sshd, "-W", f"{host}:{port}", f"{sshd.user}@{SITE}", text=PING)

    def test_opens_a_forward(self, sshd: World) -> None:
        assert self._forward(sshd, SITE, sshd.pool.port).stdout == PING, sshd.log()

    def test_refuses_an_unlisted_host_and_another_port(self, sshd: World) -> None:
        for host, port in ((UNLISTED, sshd.pool.port), (SITE, sshd.hidden.port), ("localhost", sshd.pool.port)):
            assert b"administratively prohibited" in self._forward(sshd, host, port).stderr
        assert sshd.elsewhere.saw == [] and sshd.hidden.saw == []

    @pytest.mark.parametrize(
        "options",
        [
            ("true",),
            ("-tt", "true"),
            ("-s", "sftp"),
            ("-N", "-R", "127.0.0.1:0:127.0.0.1:9"),
            ("-N", "-R", "/tmp/gwms-egress-test:127.0.0.1:9"),
        ],
        ids=["command", "pty", "subsystem", "reverse forward", "reverse socket"],
    )
    def test_key_can_do_nothing_else(self, sshd: World, options: tuple[str, ...]) -> None:
        switches = [word for word in options if word not in ("true", "sftp")]
        words = [word for word in options if word in ("true", "sftp")]
        assert self._ssh(sshd, *switches, f"{sshd.user}@{SITE}", *words).returncode == 255

    def test_refuses_another_source_address(self, sshd: World) -> None:
        done = self._ssh(sshd, "-W", f"{SITE}:{sshd.pool.port}", f"{sshd.user}@{SITE}", source=STRANGER)
        assert done.returncode == 255 and b"Permission denied" in done.stderr

    def test_refuses_another_key(self, sshd: World, tmp_path: Path) -> None:
        make_key(tmp_path / "other")
        other = dataclasses.replace(sshd, key=tmp_path / "other")
        assert b"Permission denied" in self._forward(other, SITE, sshd.pool.port).stderr


@pytest.mark.parametrize("kind", EGRESS_KINDS)
class TestFiles:
    def test_same_site_gives_same_bytes(self, kind: str, tmp_path: Path) -> None:
        assert proxy_files(site_of(kind, tmp_path)) == proxy_files(site_of(kind, tmp_path))

    def test_real_program_accepts_the_configuration(self, kind: str, tmp_path: Path) -> None:
        program, *check = {
            HTTP_CONNECT: ("squid", "-k", "parse", "-f"),
            SOCKS5: ("danted", "-V", "-f"),
            SSH: ("sshd", "-t", "-f"),
        }[kind]
        found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if found is None:
            pytest.skip(f"{program} is not installed")
        if kind == SSH:
            make_key(tmp_path / "ssh_host_ed25519_key")
            if os.geteuid() == 0:
                # Made by sshd's unit; a machine where it has never run since the start has none.
                Path("/run/sshd").mkdir(exist_ok=True)
        conf = tmp_path / CONFS[kind]
        places = Places(str(tmp_path), str(tmp_path), str(tmp_path))
        names = (*network_of(site_of(kind, tmp_path)).forwards, Forward("web", "www.example.org", 80))
        site = with_network(site_of(kind, tmp_path), forwards=names)
        # Dante looks for the address that it is to listen on.
        conf.write_bytes(proxy_files(site, SITE, None, 10, places)[CONFS[kind]])
        done = subprocess.run([found, *check, str(conf)], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "ERROR" not in said and "WARNING" not in said, said

    def test_systemd_accepts_the_unit(self, kind: str, tmp_path: Path) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed")
        files = proxy_files(site_of(kind, tmp_path))
        (name,) = (path for path in files if path.endswith(".service"))
        text = files[name].decode()
        for program in ("squid", "danted", "sshd"):
            text = text.replace(f"/usr/sbin/{program}", "/bin/true")
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
        )
        assert name not in done.stderr, done.stderr

    @pytest.mark.parametrize(
        "changes",
        [
            {"exit_addresses": ()},
            {"exit_addresses": ("0.0.0.0/0",)},
            {"exit_addresses": ("::/0",)},
            {"exit_addresses": ("all",)},
            {"exit_addresses": ("203.0.113.1/28",)},
            {"forwards": (Forward("pool", "all", 9618),)},
            {"forwards": (Forward("pool", "none", 9618),)},
            {"forwards": (Forward("pool", "10.77.1", 9618),)},
            {"forwards": (Forward("pool", "0x7f.1", 9618),)},
            {"forwards": (Forward("pool", "2001:db8::1", 9618),)},
            {"forwards": (Forward("pool", "192.0.2.0/24", 9618),)},
            {"forwards": (Forward("pool", ".example.org", 9618),)},
            {"forwards": (Forward("pool", "a..example.org", 9618),)},
            {"forwards": (Forward("pool", f"{'a' * 250}.org", 9618),)},
            {"forwards": (Forward("pool", "192.0.2.1", 0),)},
            {"forwards": (Forward("pool", "192.0.2.1", 65536),)},
            {"forwards": (Forward("pool", "192.0.2.1", 9618, "udp"),)},
        ],
        ids=str,
    )
    def test_refuses_what_could_mean_more(self, kind: str, changes: dict[str, object], tmp_path: Path) -> None:
        with pytest.raises(EgressError):
            proxy_files(with_network(site_of(kind, tmp_path), **changes))

    def test_refuses_a_site_name_with_a_line_end(self, kind: str, tmp_path: Path) -> None:
        site = dataclasses.replace(site_of(kind, tmp_path), file="a\nhttp_access allow all.yaml")
        with pytest.raises(EgressError, match="cannot stand"):
            proxy_files(site)


def test_refuses_an_account_that_could_mean_more(tmp_path: Path) -> None:
    site = site_of(SSH, tmp_path)
    for user in ("a@0.0.0.0/0", "root/x", "-x", None):
        egress = dataclasses.replace(network_of(site).egress, user=user)
        with pytest.raises(EgressError, match="no account name"):
            proxy_files(with_network(site, egress=egress))


@pytest.mark.parametrize(
    "text",
    ["", "no key", f'command="x" {HOST_KEY}', f"{HOST_KEY}\n{HOST_KEY}\n", f"{HOST_KEY} a\x00b", "-----BEGIN KEY-----"],
)
def test_takes_one_plain_public_key(text: str) -> None:
    assert public_key(f"{HOST_KEY} comment\n") == HOST_KEY
    with pytest.raises(EgressError):
        public_key(text)


def test_everything_but_leaves_out_just_these() -> None:
    networks = everything_but(["192.0.2.1", "255.255.255.255", "8.8.8.8"])
    sizes = sum(2 ** (32 - int(network.partition("/")[2])) for network in networks)
    assert sizes == 2**32 - 3
    assert not {"192.0.2.1/32", "255.255.255.255/32", "8.8.8.8/32"} & set(networks)


def test_socks_and_ssh_proxies_fetch_nothing(tmp_path: Path) -> None:
    for kind in (SOCKS5, SSH):
        assert listed(site_of(kind, tmp_path)).web == ()


def test_only_numeric_forwards_let_the_kernel_shut_out_the_rest(tmp_path: Path) -> None:
    site = site_of(HTTP_CONNECT, tmp_path)
    assert any(path.endswith("addresses.conf") for path in proxy_files(site))
    named = with_network(site, forwards=(Forward("pool", "pool.example.org", 9618),))
    assert not any(path.endswith("addresses.conf") for path in proxy_files(named))
