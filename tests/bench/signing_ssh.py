# SPDX-License-Identifier: Apache-2.0
"""`ssh HOST true` from start to end, with the key where it used to be and where it is now."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from glideinwms_bosco.sshwire.keys import parse_authorized
from tests.bench.delayed import delayed
from tests.bench.figures import BenchError, Figure, Section, timed
from tests.bench.signers import SSH, BrokerSide, RelaySide, ssh_agent, wait_for_handles
from tests.free_port import ADDRESS, free_port
from tests.unit.sshd_fixture import LoopbackSshd, make_sshd

LOGINS = 20
KEY_FILE = "key file"
DEADLINE_S = 60.0
# What the relay's configuration says, too.
_OPTIONS = ("StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes")


def measure(folder: Path, rtt_ms: int) -> Section:
    """Log in by each way in turn.

    Raises:
        BenchError: a login failed.
        LabError: a daemon does not start.
    """
    daemon = make_sshd(folder)
    near, far = RelaySide(folder / "near"), RelaySide(folder / "far", dial_port=free_port())
    broker = BrokerSide(folder / "broker")
    agent = folder / "agent"
    key = parse_authorized(daemon.key_file.with_suffix(".pub").read_text())
    handle = broker.handle(key)
    with ExitStack() as stack:
        stack.callback(daemon.stop)
        daemon.start()
        stack.enter_context(ssh_agent(agent, [daemon.key_file]))
        for relay in (near, far):
            stack.enter_context(relay.serving([broker.identity.pin]))
        stack.enter_context(delayed(folder / "delay.log", far.dial_port, far.port, rtt_ms))
        entries = {"login": {"key": {"backend": "ssh-agent", "file": str(daemon.key_file)}, "user": daemon.user}}
        hosts = [{"name": ADDRESS, "port": daemon.port, "keys": [daemon.host_key]}]
        stack.enter_context(broker.serving(entries, hosts, {"near": near, "far": far}))
        for relay in (near, far):
            wait_for_handles(relay, [handle], broker)
        ways: Mapping[str, Sequence[str]] = {
            KEY_FILE: _plain(folder, daemon, "IdentityAgent=none", daemon.key_file),
            "ssh-agent": _plain(folder, daemon, f"IdentityAgent={agent}", daemon.key_file.with_suffix(".pub")),
            "relay + broker": ["-F", str(near.conf(handle))],
            f"relay + broker, {rtt_ms} ms away": ["-F", str(far.conf(handle))],
        }
        times_s: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(LOGINS):
            for way, options in ways.items():
                times_s[way].append(_login([str(SSH), *options, f"{daemon.user}@{ADDRESS}", "true"]))
    means = {way: sum(values) / len(values) for way, values in times_s.items()}
    instead = means.pop(KEY_FILE)
    figures = [Figure(KEY_FILE, [instead])]
    figures += [Figure(way, [mean], "s", KEY_FILE, [instead]) for way, mean in means.items()]
    return Section(f"ssh HOST true on loopback, mean of {LOGINS} logins, the ways in turn", tuple(figures))


def _plain(folder: Path, daemon: LoopbackSshd, agent: str, identity: Path) -> list[str]:
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[{ADDRESS}]:{daemon.port} {daemon.host_key}\n")
    options = (*_OPTIONS, agent, f"IdentityFile={identity}", f"UserKnownHostsFile={known_hosts}")
    return ["-F", "/dev/null", "-p", str(daemon.port), *(word for option in options for word in ("-o", option))]


def _login(argv: Sequence[str]) -> float:
    took_s, done = timed(
        lambda: subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    )
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr}")
    return took_s
