# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco egress`: the recipe, the files for the egress proxy's administrator, and questions to real proxies."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.cli import egress as egress_cli
from glideinwms_bosco.cli.egress_check import check_from_here, check_from_login
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.cli.target import Target
from glideinwms_bosco.egress.check import ERROR, OK, UNREACHED, WARNING, Answer, Line, Question, judge_ssh, questions
from glideinwms_bosco.egress.recipe import recipe
from glideinwms_bosco.errors import EgressError, RemoteError
from glideinwms_bosco.remote import reach
from glideinwms_bosco.remote.reach import Call, call_from_login
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.network import EGRESS_KINDS, HTTP_CONNECT, SITE_KEY, SOCKS5, SSH, Forward, Tunnel
from tests.free_port import free_port
from tests.unit.egress_world import CHANGES, SITE, World, egress_world, network_of, site_of, with_network
from tests.unit.network_text import EGRESS, closed
from tests.unit.site_text import HOST_KEY, VALID, use_host_folders
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

DONE, REFUSED, USAGE, REMOTE = 0, 1, 2, 3
ROOT = Path(__file__).parents[2]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_host_folders(tmp_path, monkeypatch)


def _add(host: Path, kind: str) -> None:
    (host / "sites.d" / "jsc.yaml").write_text(closed(*CHANGES[kind]), encoding="utf-8")


def _severities(lines: tuple[Line, ...]) -> dict[str, str]:
    return {line.name: line.severity for line in lines}


class TestShow:
    @pytest.mark.parametrize("kind", EGRESS_KINDS)
    def test_says_the_same_to_people_and_programs(
        self, kind: str, host: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _add(host, kind)
        assert main(["egress", "show", "jsc"]) == DONE
        text = capsys.readouterr().out
        assert main(["egress", "show", "jsc", "--json"]) == DONE
        found = json.loads(capsys.readouterr().out)
        assert found["kind"] == kind and [row["name"] for row in found["forwards"]] == ["pool", "squid"]
        for value in (*found["ways"].values(), *found["key_limits"].values(), "192.0.2.10:9618"):
            assert value in text

    def test_each_kind_has_its_chain_and_web_proxy(self, tmp_path: Path) -> None:
        ways = {kind: dict(recipe(site_of(kind, tmp_path)).ways) for kind in EGRESS_KINDS}
        assert ways[HTTP_CONNECT]["chain"] == "http 127.0.0.1 P"
        assert ways[SOCKS5]["chain"] == ways[SSH]["chain"] == "socks5 127.0.0.1 P"
        assert "127.0.0.1:P" in ways[HTTP_CONNECT]["web proxy"]
        assert ways[SOCKS5]["web proxy"] == "http://192.0.2.11:3128, through the chain"
        assert ways[SSH]["web proxy"] == "http://127.0.0.1:Q, which is 192.0.2.11:3128"

    def test_refuses_a_site_that_is_not_closed(self, host: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (host / "sites.d" / "open.yaml").write_text(VALID, encoding="utf-8")
        for argv in (["show"], ["proxy", "--output", str(host / "out")], ["check", "--direct"]):
            assert main(["egress", *argv, "open"]) == REFUSED
            assert "has no network block" in capsys.readouterr().err


class TestProxy:
    @pytest.mark.parametrize("kind", EGRESS_KINDS)
    def test_writes_all_its_files_or_says_that_they_are_there(
        self, kind: str, host: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _add(host, kind)
        argv = ["egress", "proxy", "jsc", "--output", str(host / "out"), "--json"]
        assert main(argv) == DONE
        found = json.loads(capsys.readouterr().out)
        written = sorted(str(path.relative_to(host / "out")) for path in (host / "out").rglob("*") if path.is_file())
        assert found["action"] == "written" and found["files"] == written
        readme = (host / "out" / "README").read_text()
        assert all(Path(name).name in readme for name in written if name != "README")
        assert main(argv) == DONE and json.loads(capsys.readouterr().out)["action"] == "unchanged"

    def test_replaces_nothing_by_itself(self, host: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _add(host, HTTP_CONNECT)
        out = host / "out"
        out.mkdir()
        (out / "mine").write_text("x")
        assert main(["egress", "proxy", "jsc", "--output", str(out)]) == REFUSED
        assert [path.name for path in out.iterdir()] == ["mine"] and "--force" in capsys.readouterr().err

    def test_puts_the_public_key_behind_its_limits(self, host: Path) -> None:
        _add(host, SSH)
        (host / "key.pub").write_text(f"{HOST_KEY} me@there\n")
        argv = ["egress", "proxy", "jsc", "--output", str(host / "out"), "--public-key", str(host / "key.pub")]
        assert main(argv) == DONE
        line = (host / "out" / "authorized_keys").read_text()
        assert line.startswith('restrict,port-forwarding,command="/bin/false",from="203.0.113.0/28",permitopen=')
        assert line.endswith(f" {HOST_KEY} gwms-bosco:jsc\n")

    @pytest.mark.parametrize(
        ("kind", "options", "status"),
        [
            (HTTP_CONNECT, ["--listen", "::"], REFUSED),
            (HTTP_CONNECT, ["--listen", "0.0.0.0:80 intercept"], REFUSED),
            (HTTP_CONNECT, ["--cache-mb", "-1"], REFUSED),
            (HTTP_CONNECT, ["--public-key", "{host}/key.pub"], REFUSED),
            (SSH, ["--public-key", "{host}/private"], REFUSED),
            (SSH, ["--public-key", "{host}/none"], USAGE),
        ],
    )
    def test_refuses_unusable_options(self, kind: str, options: list[str], status: int, host: Path) -> None:
        _add(host, kind)
        (host / "key.pub").write_text(HOST_KEY)
        (host / "private").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
        filled = [option.format(host=host) for option in options]
        assert main(["egress", "proxy", "jsc", "--output", str(host / "out"), *filled]) == status
        assert not (host / "out").exists()


class TestCheck:
    @pytest.fixture(params=[HTTP_CONNECT, SOCKS5])
    def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
        with egress_world(request.param, tmp_path) as world:
            yield world

    def test_finds_nothing_wrong_with_our_own(self, world: World) -> None:
        lines = check_from_here(world.site)
        assert set(_severities(lines).values()) == {OK}, lines
        names = [line.name for line in lines]
        assert names[:3] == ["egress proxy", "pool", "web"] and sum(name.startswith("not ") for name in names) == 2

    def test_finds_the_same_from_a_login_node(self, world: World, loopback_sshd: LoopbackSshd) -> None:
        with loopback_sshd.session() as session:
            calls = [
                Call(SITE, world.port, question.data, str(question.enough_bytes) if world.kind == SOCKS5 else "head")
                for question in questions(network_of(world.site))
            ]
            found = call_from_login(session, calls)
        lines = [
            question.judge(Answer(answer.connected, answer.data, answer.reason))
            for question, answer in zip(questions(network_of(world.site)), found)
        ]
        assert {line.severity for line in lines} == {OK}, lines

    def test_notices_that_a_forward_is_not_listed_there(self, world: World) -> None:
        forwards = (*network_of(world.site).forwards, Forward("store", SITE, world.hidden.port))
        found = _severities(check_from_here(with_network(world.site, forwards=forwards)))
        assert found["store"] == ERROR and found["pool"] == OK

    def test_notices_that_a_listed_server_is_down(self, world: World) -> None:
        world.pool.close()
        assert _severities(check_from_here(world.site))["pool"] == WARNING

    def test_notices_a_proxy_of_another_kind(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reach, "WAIT_S", 1)
        other = SOCKS5 if world.kind == HTTP_CONNECT else HTTP_CONNECT
        egress = dataclasses.replace(network_of(world.site).egress, kind=other)
        (line,) = check_from_here(with_network(world.site, egress=egress))
        assert line.severity == ERROR and line.remedy


def test_notices_a_proxy_that_opens_everything(tmp_path: Path) -> None:
    """An open proxy serves the site too, and everybody else with it."""
    site = site_of(HTTP_CONNECT, tmp_path)
    with socket.create_server((SITE, 0)) as listener:
        thread = threading.Thread(target=_open_proxy, args=(listener,), daemon=True)
        thread.start()
        egress = dataclasses.replace(network_of(site).egress, host=SITE, port=listener.getsockname()[1])
        found = check_from_here(with_network(site, egress=egress))
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    bad = [line for line in found if line.severity == ERROR]
    assert len([line for line in bad if line.name.startswith("not ")]) == 2
    assert all("opens what is not listed" in line.remedy for line in bad)


def _open_proxy(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")


def test_exit_status_tells_a_wrong_proxy_from_an_unreachable_one(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _add(host, HTTP_CONNECT)
    for severity, status in ((OK, DONE), (WARNING, DONE), (ERROR, REFUSED), (UNREACHED, REMOTE)):
        line = Line("pool", severity, "what", "remedy")
        monkeypatch.setattr(egress_cli, "check_from_here", lambda _site, line=line: (line,))
        assert main(["egress", "check", "jsc", "--direct", "--json"]) == status
        assert json.loads(capsys.readouterr().out)["lines"] == [line.as_json()]
    assert main(["egress", "check", "jsc", "--direct", "--key", "x"]) == USAGE


def test_closed_port_is_unreached_and_says_why(tmp_path: Path, loopback_sshd: LoopbackSshd) -> None:
    site = site_of(HTTP_CONNECT, tmp_path)
    egress = dataclasses.replace(network_of(site).egress, host=SITE, port=free_port())
    (line,) = check_from_here(with_network(site, egress=egress))
    assert line.severity == UNREACHED and "refused" in line.text
    with loopback_sshd.session() as session:
        (found,) = call_from_login(session, [Call(SITE, egress.port, b"", "line")])
    assert not found.connected and "refused" in found.reason


def test_asks_through_the_account_of_the_site_file(
    host: Path, loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens on that address of loopback: the login is real, the egress proxy is not there."""
    loopback = (
        ("host: login.example.org\n", f"host: 127.0.0.1\n  port: {loopback_sshd.port}\n"),
        ("user: pilot\n", f"user: {loopback_sshd.user}\n"),
        (f'host_keys: ["{HOST_KEY}"]', f'host_keys: ["{loopback_sshd.host_key}"]'),
        (EGRESS, "egress: {kind: http-connect, host: 127.0.0.99, port: 443}"),
    )
    (host / "sites.d" / "jsc.yaml").write_text(closed(*loopback), encoding="utf-8")
    assert main(["egress", "check", "jsc", "--key", str(loopback_sshd.key_file), "--json"]) == REMOTE
    found = json.loads(capsys.readouterr().out)
    assert found["from"] == f"jsc:{loopback_sshd.user}" and not found["ok"]
    (line,) = found["lines"]
    assert (line["name"], line["severity"]) == ("egress proxy", UNREACHED) and "refused" in line["text"]
    loopback_sshd.stop()
    assert main(["egress", "check", "jsc", "--key", str(loopback_sshd.key_file), "--json"]) == REMOTE
    assert capsys.readouterr().out == ""


class _OneSession(Target):
    """An account of a login node on loopback."""

    opened: SshSession

    def session(self) -> SshSession:
        return self.opened


class TestCheckOfKindSsh:
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with egress_world(SSH, tmp_path) as world:
            key = (world.folder / "ssh_host_ed25519_key.pub").read_text().split()[:2]
            egress = dataclasses.replace(network_of(world.site).egress, host_keys=(" ".join(key),))
            tunnel = Tunnel(SITE_KEY, accept_key_on_site=True)
            world.site = with_network(world.site, egress=egress, tunnel=tunnel)
            yield world

    def _check(self, world: World, sshd: LoopbackSshd) -> tuple[Line, ...]:
        target = _OneSession(world.site, world.site.accounts[0], None)
        object.__setattr__(target, "opened", sshd.session())
        return check_from_login(target)

    def test_logs_in_with_the_key_on_the_site(self, world: World, loopback_sshd: LoopbackSshd) -> None:
        assert world.key is not None
        place = loopback_sshd.home / world.site.install.folder / "egress"
        place.mkdir(parents=True)
        (place / "id_ed25519").write_bytes(world.key.read_bytes())
        (place / "id_ed25519").chmod(0o600)
        lines = self._check(world, loopback_sshd)
        assert {line.severity for line in lines} == {OK} and len(lines) == 5, lines
        other = with_network(world.site, forwards=(Forward("pool", SITE, world.hidden.port),))
        world.site = other
        assert _severities(self._check(world, loopback_sshd))["pool"] == ERROR

    def test_says_that_the_key_is_not_there(self, world: World, loopback_sshd: LoopbackSshd) -> None:
        with pytest.raises(RemoteError, match="there is no key"):
            self._check(world, loopback_sshd)

    def test_asks_only_for_the_banner_from_here(self, world: World) -> None:
        assert _severities(check_from_here(world.site)) == {"egress proxy": OK, "forwards": WARNING}


def test_shipped_example_is_right(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the keys of its login nodes, which nobody can ship."""
    text = (ROOT / "factory_configs" / "sites" / "jsc-like.yaml").read_text(encoding="utf-8")
    pinned = text.replace("host_keys: []", f'host_keys: ["{HOST_KEY}"]')
    (host / "sites.d" / "jsc-like.yaml").write_text(pinned, encoding="utf-8")
    site, problems = load_site(host / "sites.d" / "jsc-like.yaml")
    # The one warning is that of a key on the site, which the file accepts.
    assert [problem.field for problem in problems] == ["network.tunnel.auth"]
    assert recipe(site).kind == HTTP_CONNECT
    assert main(["egress", "proxy", "jsc-like", "--output", str(host / "out")]) == DONE
    assert "written" in capsys.readouterr().out


POOL = Forward("pool", "192.0.2.10", 9618)


@pytest.mark.parametrize(
    ("question", "data", "severity"),
    [
        (Question("a", HTTP_CONNECT, target=POOL), b"HTTP/1.1 200 ok\r\n\r\n", OK),
        (Question("a", HTTP_CONNECT, target=POOL), b"HTTP/1.1 403 no\r\n\r\n", ERROR),
        (Question("a", HTTP_CONNECT, target=POOL), b"HTTP/1.1 503 down\r\n\r\n", WARNING),
        (Question("a", HTTP_CONNECT, target=POOL), b"", ERROR),
        (Question("a", HTTP_CONNECT, target=POOL), b"HTTP/1.1 2x0 ok\r\n", ERROR),
        (Question("a", HTTP_CONNECT, target=POOL, allowed=False), b"HTTP/1.1 403 no\r\n\r\n", OK),
        (Question("a", HTTP_CONNECT, target=POOL, allowed=False), b"HTTP/1.1 503 down\r\n\r\n", ERROR),
        (Question("a", HTTP_CONNECT, "GET", POOL), b"HTTP/1.1 403 of the server\r\n\r\n", OK),
        (Question("a", HTTP_CONNECT, "GET", POOL), b"HTTP/1.1 403 x\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n", ERROR),
        (Question("a", SOCKS5, target=POOL), b"\5\0\5\0", OK),
        (Question("a", SOCKS5, target=POOL), b"\5\0\5\2", ERROR),
        (Question("a", SOCKS5, target=POOL), b"\5\0\5\5", WARNING),
        (Question("a", SOCKS5, target=POOL), b"\5\xff", ERROR),
        (Question("a", SOCKS5, target=POOL, allowed=False), b"\5\0\5\2", OK),
        (Question("a", SOCKS5, target=POOL, allowed=False), b"\5\0", OK),
        (Question("a", SOCKS5, target=POOL, allowed=False), b"\5\0\5\4", ERROR),
        (Question("a", SSH), b"SSH-2.0-OpenSSH_9.2\r\n", OK),
        (Question("a", SSH), b"220 mail\r\n", ERROR),
    ],
)
def test_answer_means(question: Question, data: bytes, severity: str) -> None:
    line = question.judge(Answer(True, data))
    assert line.severity == severity
    assert severity == OK or line.remedy


@pytest.mark.parametrize(
    ("said", "allowed", "severity"),
    [
        ("debug2: channel 0: open confirm rwindow 2097152 rmax 32768", True, OK),
        ("channel 0: open failed: administratively prohibited: open failed", False, OK),
        ("channel 0: open failed: administratively prohibited: open failed", True, ERROR),
        ("channel 0: open failed: connect failed: Connection refused", True, WARNING),
        ("channel 0: open failed: connect failed: Connection refused", False, ERROR),
        ("nobody@192.0.2.1: Permission denied (publickey).", True, ERROR),
        ("nobody@192.0.2.1: Permission denied (publickey).", False, ERROR),
        ("", True, ERROR),
    ],
)
def test_log_of_ssh_means(said: str, allowed: bool, severity: str) -> None:
    assert judge_ssh(POOL, allowed, said).severity == severity


def test_what_is_unlisted_is_not_among_the_forwards(tmp_path: Path) -> None:
    site = site_of(HTTP_CONNECT, tmp_path)
    targets = {forward.target for forward in network_of(site).forwards}
    asked = [question.target for question in questions(network_of(site)) if question.name.startswith("not ")]
    assert len(asked) == 2 and all(target is not None and target.target not in targets for target in asked)
    documentation = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.0.2.2")
    with pytest.raises(EgressError, match="documentation"):
        questions(network_of(with_network(site, forwards=tuple(Forward("a", at, 80) for at in documentation))))
