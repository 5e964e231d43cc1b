# SPDX-License-Identifier: Apache-2.0
"""What it costs that the key stays at the frontend: signatures of relay and broker against those of ssh-agent.

Both ways are asked in turn, round by round, and the best round of each counts, so that what else runs on the machine
falls on both alike. Not quite: ssh-agent works on one processor, while relay, broker and the broker's own agent share
what is free, so that the throughput's target needs two idle ones. Processor time per signature tells more on a busy
machine.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from glideinwms_bosco.relay.service import ssh_version
from glideinwms_bosco.sshwire.keys import PublicKey, parse_public_key
from tests.bench import signing_memory, signing_ssh
from tests.bench.agent_load import HostKey, full_logins, logins_per_s, make_logins, signatures, signatures_per_s
from tests.bench.delayed import delayed, round_trip_s
from tests.bench.figures import Figure, Section
from tests.bench.signers import SSH, BrokerSide, Process, RelaySide, make_key, ssh_agent, wait_for_handles
from tests.free_port import free_port

KINDS: Mapping[str, Sequence[str]] = {"ed25519": ("-t", "ed25519"), "rsa-3072": ("-t", "rsa", "-b", "3072")}
HOST = "site.example.org"
USER = "pilot"
ROUNDS = 7
OUTSTANDING = 32
RTT_MS = 20
FULL_MARGIN_US = 1000
THROUGHPUT_TARGET = 0.8


@dataclass(frozen=True)
class Amount:
    """How much is asked for in one round of one way; in all less than signers.BURST."""

    signatures: int
    logins: int
    outstanding: int
    logins_at_once: int


NEAR = Amount(150, 100, 512, 128)
FAR = Amount(20, 20, 256, 128)


@dataclass
class Way:
    """Figures of one way for one kind of key, one value per round; times in microseconds.

    Attributes:
        processes: those whose processor time counts.
    """

    processes: Sequence[Process]
    sign_p50: list[float] = field(default_factory=list)
    sign_p95: list[float] = field(default_factory=list)
    full_p50: list[float] = field(default_factory=list)
    full_p95: list[float] = field(default_factory=list)
    signatures_per_s: list[float] = field(default_factory=list)
    logins_per_s: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def ask(self, path: Path, key: PublicKey, host: HostKey, amount: Amount) -> None:
        """Measure one round.

        Raises:
            BenchError: a signature did not come, or does not hold.
        """
        logins = make_logins(key, USER, host, OUTSTANDING + amount.logins + amount.logins_at_once)
        bound, single = logins[:OUTSTANDING], logins[OUTSTANDING : -amount.logins_at_once]
        times_s = signatures(path, bound[0], amount.signatures)
        self.sign_p50.append(_percentile_us(times_s, 50))
        self.sign_p95.append(_percentile_us(times_s, 95))
        times_s = full_logins(path, single)
        self.full_p50.append(_percentile_us(times_s, 50))
        self.full_p95.append(_percentile_us(times_s, 95))
        before_s = self._processor_s()
        self.signatures_per_s.append(signatures_per_s(path, bound, amount.outstanding))
        self.processor.append((self._processor_s() - before_s) / amount.outstanding * 1e6)
        self.logins_per_s.append(logins_per_s(path, logins[-amount.logins_at_once :], OUTSTANDING))

    def _processor_s(self) -> float:
        return sum(process.cpu_s for process in self.processes)


def _percentile_us(times_s: Sequence[float], percent: int) -> float:
    return statistics.quantiles(times_s, n=100)[percent - 1] * 1e6


def measure() -> Generator[Section, None, None]:
    """Measure latency and throughput, whole logins of ssh, and memory.

    Raises:
        BenchError, LabError: something did not work.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bench-") as name:
        folder = Path(name)
        for part in ("signing", "ssh", "memory"):
            (folder / part).mkdir()
        yield from _signing(folder / "signing")
        yield signing_ssh.measure(folder / "ssh", RTT_MS)
        yield signing_memory.measure(folder / "memory")


def _signing(folder: Path) -> Generator[Section, None, None]:
    # A key, and so a rate, of its own for each round.
    keys = {
        f"{kind}-{number}": make_key(folder / f"{kind}-{number}", options)
        for kind, options in KINDS.items()
        for number in range(ROUNDS)
    }
    host = HostKey()
    near, far = RelaySide(folder / "near"), RelaySide(folder / "far", dial_port=free_port())
    broker = BrokerSide(folder / "broker")
    agent = folder / "agent"
    with ExitStack() as stack:
        alone = stack.enter_context(ssh_agent(agent, [folder / name for name in keys]))
        near_relay, far_relay = (stack.enter_context(relay.serving([broker.identity.pin])) for relay in (near, far))
        stack.enter_context(delayed(folder / "delay.log", far.dial_port, far.port, RTT_MS))
        entries = {name: {"key": {"backend": "ssh-agent", "file": str(folder / name)}, "user": USER} for name in keys}
        hosts = [{"name": HOST, "keys": [parse_public_key(host.blob).authorized]}]
        daemon = stack.enter_context(broker.serving(entries, hosts, {"near": near, "far": far}))
        for relay in (near, far):
            wait_for_handles(relay, [broker.handle(key) for key in keys.values()], broker)
        rtt_us = round_trip_s(folder / "echo.log", RTT_MS) * 1e6
        for kind in KINDS:
            on_agent, on_near, on_far = Way([alone]), Way([near_relay, daemon]), Way([far_relay, daemon])
            for number in range(ROUNDS):
                key = keys[f"{kind}-{number}"]
                handle = broker.handle(key)
                on_agent.ask(agent, key, host, NEAR)
                on_near.ask(near.socket(handle), key, host, NEAR)
                on_far.ask(far.socket(handle), key, host, FAR)
            yield _section(kind, on_agent, on_near, on_far, rtt_us)


def _section(kind: str, agent: Way, near: Way, far: Way, rtt_us: float) -> Section:
    openssh = ssh_version(SSH).partition(",")[0]
    title = (
        f"Signatures, {kind} ({openssh}, Python {platform.python_version()}; TLS on loopback; best of {ROUNDS} "
        "rounds, the ways in turn)"
    )
    return Section(
        title,
        (
            *_rows("relay + broker", near, agent, 0.0),
            Figure("a round trip through the delaying forwarder", [rtt_us], "us"),
            *_rows(f"with {RTT_MS} ms", far, agent, rtt_us),
        ),
    )


def _rows(who: str, way: Way, agent: Way, rtt_us: float) -> tuple[Figure, ...]:
    full_us = min(agent.full_p50) + rtt_us + FULL_MARGIN_US
    rate = "" if rtt_us else f"target >= {THROUGHPUT_TARGET} x"

    def row(what: str, name: str, unit: str, note: str = "") -> Figure:
        best = min if unit == "us" else max
        values = [best(getattr(side, name)) for side in (way, agent)]
        return Figure(what, values[:1], unit, "ssh-agent", values[1:], note)

    return (
        row(f"{who}: signature, p50", "sign_p50", "us"),
        row("  p95", "sign_p95", "us"),
        row("  login: connect, bind, list, sign; p50", "full_p50", "us", f"target <= {full_us:,.0f} us"),
        row("  p95", "full_p95", "us"),
        row(f"  signatures/s, {OUTSTANDING} outstanding", "signatures_per_s", "/s", rate),
        row(f"  logins/s, {OUTSTANDING} at once", "logins_per_s", "/s"),
        row("  processor per signature, beside its agent", "processor", "us"),
    )
