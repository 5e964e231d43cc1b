# SPDX-License-Identifier: Apache-2.0
"""gwms-ssh-relay: the daemon as a process, and what an operator is told."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.cli import ssh_relay
from tests.free_port import free_port
from tests.unit.relay_fixture import FakeBroker, RelayHost, fake_broker, relay_host

PACKAGE_DIR = Path(__file__).parents[2]
WAIT_S = 10.0


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RelayHost]:
    (tmp_path / "factory").mkdir()
    with relay_host(tmp_path / "factory") as made:
        yield made


@pytest.fixture
def broker(tmp_path: Path) -> FakeBroker:
    made = fake_broker(tmp_path / "cms", "cms")
    made.add("h.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43, "h.example.org:22", "pilot")
    return made


def command(host: RelayHost, *words: str) -> int:
    return ssh_relay.main(["--conf", str(host.conf_file), *words])


def test_init_makes_a_private_key_and_prints_the_pin(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker}, identity=str(host.directory / "new"))
    assert command(host, "init", "--host", "gfactory.example.org") == 0
    said = capsys.readouterr().out
    assert re.search(r"^pin: sha256:[0-9a-f]{64}$", said, re.MULTILINE)
    assert 'name="GlideFactorySshRelay"' in said
    assert 'value="gfactory.example.org:8620"' in said
    assert stat.S_IMODE((host.directory / "new.key").stat().st_mode) == 0o600
    assert command(host, "init") == 1
    assert "exists" in capsys.readouterr().err


def test_init_without_its_folder_says_what_to_make(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = host.directory / "none"
    host.write_conf({"cms": broker}, identity=str(folder / "relay"))
    assert command(host, "init") == 1
    said = capsys.readouterr().err
    assert f"{folder}: there is no such folder; mkdir {folder}, or name another `identity` in {host.conf_file}" in said
    assert not folder.exists()


def test_check_names_what_is_missing_on_the_host(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker}, remote_gahp="/nonexistent/remote_gahp", tap="never")
    assert command(host, "check") == 1
    said = capsys.readouterr().err
    assert "remote_gahp: /nonexistent/remote_gahp is not there" in said
    assert "shim_dir:" in said
    assert "dnf reinstall glideinwms-bosco-factory" in said
    assert "warning: ssh_include:" in said


def test_check_passes_a_complete_host(host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]) -> None:
    (host.directory / "shim").mkdir()
    (host.directory / "shim" / "ssh").symlink_to("/bin/true")
    host.write_conf({"cms": broker}, remote_gahp="/bin/true", tap="always", tap_program="/bin/true")
    assert command(host, "check") == 0
    said = capsys.readouterr()
    assert f"1 broker, port 8620, pin {host.identity.pin}" in said.out
    assert "by the tap" in said.out
    assert command(host, "check", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["pin"], report["proof"]) == (True, host.identity.pin, "the tap")


def test_check_says_every_problem_with_its_line(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker}, prot=1, tap="x")
    assert command(host, "check") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(re.match(rf"{re.escape(str(host.conf_file))}:\d+: error: ", line) for line in lines)
    assert command(host, "check", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert [problem["field"] for problem in report["problems"]] == ["prot", "tap"]


@pytest.mark.parametrize("verb", ["check", "status", "handles", "init", "run"])
def test_without_relay_conf_it_says_where_one_comes_from(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ssh_relay.main(["--conf", str(tmp_path / "relay.conf"), verb]) == 2
    assert "there is no such file; glideinwms-bosco-factory brings one" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "handles"])
def test_status_without_a_relay_says_what_to_do(
    host: RelayHost, broker: FakeBroker, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker})
    assert command(host, verb) == 3
    assert "no relay is running" in capsys.readouterr().err


def test_status_and_handles_show_what_is_there(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker})
    host.start()
    host.connect(broker)
    host.wait_for(lambda: len(json.loads((host.sockets / "status.json").read_text())["handles"]) == 1)
    assert command(host, "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"relay   {host.identity.pin} on .* port \d+, up since .*, 0 agent connections", lines[0])
    assert re.fullmatch(
        r"broker  cms {21} up since .*: 1 handle, .*0 agent connections, from 127\..*  \(frontend of cms\)", lines[1]
    )
    host.run(broker.leave())
    host.wait_for(lambda: json.loads((host.sockets / "status.json").read_text())["brokers"][0]["state"] == "down")
    assert command(host, "status") == 0
    assert re.search(r"^broker  cms {21} DOWN since .*, 1 handle waits for it", capsys.readouterr().out, re.MULTILINE)
    host.connect(broker)
    host.wait_for(lambda: json.loads((host.sockets / "status.json").read_text())["brokers"][0]["state"] == "up")
    assert command(host, "handles") == 0
    handle = broker.items[0].handle
    assert capsys.readouterr().out == f"{handle} submit pilot@h.example.org:22 cms up\n"
    assert command(host, "handles", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["handle"] == handle
    assert command(host, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pin"] == host.identity.pin


def test_old_status_is_not_shown_as_new(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker})
    host.sockets.mkdir()
    (host.sockets / "status.json").write_text(json.dumps({"version": 1, "updated": time.time() - 60}))
    assert command(host, "status") == 3
    assert "gone or hangs" in capsys.readouterr().err


def test_status_of_another_release_is_not_shown(
    host: RelayHost, broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_conf({"cms": broker})
    host.sockets.mkdir()
    (host.sockets / "status.json").write_text(json.dumps({"version": 2, "updated": time.time()}))
    assert command(host, "status") == 3
    assert "of another release; restart gwms-ssh-relay" in capsys.readouterr().err


def test_daemon_serves_reloads_and_ends(host: RelayHost, broker: FakeBroker, tmp_path: Path) -> None:
    port = free_port()
    host.write_conf({"cms": broker}, port=port)
    argv = [sys.executable, "-m", "glideinwms_bosco.cli.ssh_relay", "--conf", str(host.conf_file), "run"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_DIR)}
    status = host.sockets / "status.json"
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as daemon:
        try:
            wait(status.exists)
            host.run(broker.connect(port, host.identity.pin))
            wait(lambda: len(json.loads(status.read_text())["handles"]) == 1)
            host.conf_file.write_text("{")
            daemon.send_signal(signal.SIGHUP)
            assert daemon.stderr is not None
            line = next(line for line in daemon.stderr if "not read again" in line)
            assert "the old one stays" in line
            host.write_conf({"osg": fake_broker(tmp_path / "osg", "osg")}, port=port)
            daemon.send_signal(signal.SIGHUP)
            wait(lambda: json.loads(status.read_text())["brokers"][0]["name"] == "osg")
            assert not list(host.sockets.glob("*.sock"))
        finally:
            daemon.terminate()
        assert daemon.wait(WAIT_S) == 0
        assert daemon.stderr is not None
        assert "Traceback" not in daemon.stderr.read()
    assert not status.exists()


def wait(condition: object) -> None:
    assert callable(condition)
    ends_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)
