# SPDX-License-Identifier: Apache-2.0
"""The audit log: no signature without a record, and nothing in it can be changed unseen."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from glideinwms_bosco.broker import audit, audit_check
from glideinwms_bosco.broker.audit import AuditLog
from glideinwms_bosco.broker.audit_check import follow, verify
from glideinwms_bosco.broker.audit_head import FILE as HEAD_FILE
from glideinwms_bosco.broker.audit_head import Head, HeadSigner, heads_of_journal, read_head
from glideinwms_bosco.broker.audit_line import CURRENT, MAX_LINE_BYTES, log_files, read_line, write_line
from glideinwms_bosco.broker.audit_record import MAX_CLAIM_CHARS, deny_record, sign_record
from glideinwms_bosco.broker.decision import Allowed, decide
from glideinwms_bosco.broker.memory import SessionMemory
from glideinwms_bosco.broker.rate import RateLimits
from glideinwms_bosco.errors import AuditError
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import Sign
from glideinwms_bosco.sshwire.handle import SUBMIT, spki_pin
from glideinwms_bosco.sshwire.userauth import build_userauth
from tests.unit.broker_text import ENTRY, PIN, USER, changed, keyed, policy_data, signer

NOW = 1_800_000_000.0


class Host:
    """A log folder and what the journal has heard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal: list[str] = []
        self.current = folder / CURRENT

    def open(self, **options: Any) -> AuditLog:
        """A broker's log."""
        return AuditLog(self.folder, lambda: NOW, self.journal.append, **options)

    def write(self, count: int, **options: Any) -> None:
        """A broker that starts, writes so many records and ends."""
        log = self.open(**options)
        for number in range(count):
            log.append({"event": "test", "number": number})
        log.close()

    def lines(self) -> list[bytes]:
        """Lines of the current file."""
        return self.current.read_bytes().splitlines(keepends=True)

    def findings(self, *heads: Head) -> list[str]:
        """What verify says, without the place."""
        return [finding.message for finding in verify(self.folder, heads).findings]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def head_signer(tmp_path_factory: pytest.TempPathFactory) -> HeadSigner:
    return HeadSigner(key_file(tmp_path_factory.mktemp("key") / "key.pem"))


def key_file(path: Path, key: Any = None) -> Path:
    key = key or ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return path


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a full disk: what still fits is written, the rest is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_writes_a_chain_that_verifies(host: Host) -> None:
    host.write(3)
    records = [json.loads(line) for line in host.lines()]
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert records[0]["prev"] == "0" * 64
    assert records[0]["t"] == "2027-01-15T08:00:00.000Z"
    report = verify(host.folder)
    assert (report.lines, report.first_seq, report.findings) == (3, 1, ())
    assert report.last == Head(3, heads_of_journal(host.journal[-1])[0].digest)


def test_goes_on_where_it_ended(host: Host) -> None:
    host.write(2)
    host.write(2)
    assert [json.loads(line)["seq"] for line in host.lines()] == [1, 2, 3, 4]
    assert host.findings() == []


def test_the_record_is_in_the_file_when_append_returns(host: Host) -> None:
    log = host.open()
    line = log.append({"event": "sign"})
    assert read_line(host.lines()[-1][:-1]) == line
    log.close()


def test_a_second_broker_is_refused_until_the_first_has_ended(host: Host) -> None:
    log = host.open()
    with pytest.raises(AuditError, match="another process writes it"):
        host.open()
    log.close()
    host.open().close()


def test_a_killed_broker_leaves_a_record_for_all_that_it_let_out(host: Host) -> None:
    """Kill it while it signs as fast as it can: what it has said is in the log, and the log is whole."""
    program = (
        "import os, pathlib, sys, time\n"
        "from glideinwms_bosco.broker.audit import AuditLog\n"
        "log = AuditLog(pathlib.Path(sys.argv[1]), time.time, lambda line: None, max_file_bytes=20000)\n"
        "while True:\n"
        "    os.write(1, b'%d\\n' % log.append({'event': 'sign', 'filler': 'x' * 200}).seq)\n"
    )
    for wanted in (1, 70, 300):
        with subprocess.Popen([sys.executable, "-c", program, str(host.folder)], stdout=subprocess.PIPE) as broker:
            assert broker.stdout is not None
            told = [int(broker.stdout.readline()) for _ in range(wanted)]
            broker.kill()
            told += [int(number) for number in broker.stdout.read().split()]
        host.open().close()
        assert host.findings() == []
        seqs = {line.seq for line in follow(host.folder, lambda: False, from_start=True)}
        assert set(told) <= seqs


def test_refuses_when_the_disk_is_full_and_goes_on_when_there_is_room(host: Host) -> None:
    log = host.open()
    log.append({"event": "first"})
    with files_no_larger_than(host.current.stat().st_size + 30):
        for _ in range(2):
            with pytest.raises(AuditError, match="audit log"):
                log.append({"event": "lost"})
    assert not host.current.read_bytes().endswith(b"\n")
    log.append({"event": "second"})
    log.close()
    assert [json.loads(line)["event"] for line in host.lines()] == ["first", "repair", "second"]
    assert host.findings() == []
    (kept,) = host.folder.glob("audit-torn-*")
    assert len(kept.read_bytes()) == 30
    assert "30 bytes behind line 1" in host.journal[0]


@pytest.mark.parametrize("tail", [b"{", b'{"seq":4', b"\0" * 4096, b'{"seq":9}\n', b"x\ny\n"], ids=repr)
def test_a_torn_tail_is_kept_aside_and_told(tail: bytes, host: Host) -> None:
    host.write(3)
    with host.current.open("ab") as stream:
        stream.write(tail)
    host.journal.clear()
    host.open().close()
    records = [json.loads(line) for line in host.lines()]
    assert [record["event"] for record in records] == ["test", "test", "test", "repair"]
    assert records[3]["cut_bytes"] == len(tail)
    assert (host.folder / records[3]["kept"]).read_bytes() == tail
    assert str(records[3]["kept"]) in host.journal[0]
    assert host.findings() == []


def test_a_last_line_without_its_newline_counts_as_torn(host: Host) -> None:
    host.write(2)
    host.current.write_bytes(host.current.read_bytes()[:-1])
    host.open().close()
    assert [json.loads(line)["event"] for line in host.lines()] == ["test", "repair"]
    assert host.findings() == []


def test_a_failed_sync_ends_all_signing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it the kernel may have dropped the pages: a later sync that succeeds proves nothing."""
    log = host.open()
    log.append({"event": "first"})

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "I/O error", descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(AuditError, match="cannot be synced"):
            log.publish_head()
    with pytest.raises(AuditError, match="could not be synced"):
        log.append({"event": "second"})
    log.close()


def test_syncs_and_publishes_in_the_background(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SYNC_S", 0.01)
    monkeypatch.setattr(audit, "HEAD_S", 0.0)
    synced: list[int] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)

    async def run() -> None:
        log = host.open()
        synced.clear()
        task = asyncio.create_task(log.run())
        log.append({"event": "test"})
        while not host.journal:
            await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert log.head.journal_line in host.journal
        log.close()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert synced


def test_a_closed_log_takes_nothing(host: Host) -> None:
    log = host.open()
    log.close()
    with pytest.raises(AuditError, match="closed"):
        log.append({"event": "late"})
    log.close()


def test_refuses_a_record_that_is_too_long_and_stays_whole(host: Host) -> None:
    log = host.open()
    with pytest.raises(AuditError, match="too long"):
        log.append({"event": "x" * MAX_LINE_BYTES})
    log.append({"event": "next"})
    log.close()
    assert [json.loads(line)["event"] for line in host.lines()] == ["next"]


def test_nothing_outside_can_forge_a_line_or_steer_a_terminal(host: Host) -> None:
    log = host.open()
    log.append({"event": "deny", "claimed": 'x"}\n{"seq":2,"event":"sign"}\u2028\x1b[2J'})
    log.close()
    (line,) = host.lines()
    assert line.isascii() and line[:-1].decode("ascii").isprintable()


def test_rotation_continues_the_chain(host: Host) -> None:
    host.write(20, max_file_bytes=600)
    files = log_files(host.folder)
    assert len(files) > 3
    assert host.findings() == []
    host.write(1, max_file_bytes=600)
    report = verify(host.folder)
    assert (report.lines, report.findings) == (21, ())
    first_of_each = [json.loads(file.read_bytes().splitlines()[0])["seq"] for file in files[:-1]]
    assert [file.name for file in files[:-1]] == [f"audit-{seq:012d}.jsonl" for seq in first_of_each]


def test_a_broker_killed_while_it_rotates_goes_on(host: Host) -> None:
    host.write(3)
    host.current.rename(host.folder / "audit-000000000001.jsonl")
    host.write(2)
    report = verify(host.folder)
    assert (report.lines, report.findings) == (5, ())


def test_verify_beside_a_broker_that_rotates_finds_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    log = host.open(max_file_bytes=600)
    for _ in range(4):
        log.append({"event": "before"})
    looked: list[list[Path]] = []

    def look(folder: Path) -> list[Path]:
        files = log_files(folder)
        if not looked:
            for _ in range(8):
                log.append({"event": "meanwhile"})
        looked.append(files)
        return files

    monkeypatch.setattr(audit_check, "log_files", look)
    assert host.findings() == []
    assert len(looked) > 2
    log.close()


def test_old_files_may_be_taken_away(host: Host) -> None:
    host.write(20, max_file_bytes=600)
    log_files(host.folder)[0].unlink()
    report = verify(host.folder)
    assert report.first_seq > 1
    assert report.findings == ()


def test_a_file_taken_from_the_middle_is_missed(host: Host) -> None:
    host.write(20, max_file_bytes=600)
    log_files(host.folder)[1].unlink()
    (message,) = host.findings()
    assert "missing" in message


def swap(old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        assert old in lines[2]
        lines[2] = lines[2].replace(old, new)

    return change


def remove(first: int, last: int) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        del lines[first:last]

    return change


def insert_forged(lines: list[bytes]) -> None:
    before = read_line(lines[2][:-1])
    assert before is not None
    lines.insert(3, write_line(4, before.digest, NOW, {"event": "forged"}) + b"\n")


def rewrite_from_the_third(lines: list[bytes]) -> None:
    """Whoever may write the file can make a whole new chain: only a head tells."""
    before = read_line(lines[1][:-1])
    assert before is not None
    for at in range(2, len(lines)):
        raw = write_line(before.seq + 1, before.digest, NOW, {"event": "forged"})
        lines[at] = raw + b"\n"
        before = read_line(raw)
        assert before is not None


# attack -> what is done to six lines, words of the first finding
TAMPERED: dict[str, tuple[Callable[[list[bytes]], None], str]] = {
    "altered": (swap(b'"number":2', b'"number":7'), "one of the two was altered"),
    "altered in its chain": (swap(b'"prev":"', b'"prev":"0'), "altered or inserted"),
    "removed": (remove(2, 3), "line 3 is missing"),
    "several removed": (remove(2, 5), "lines 3 to 5 are missing"),
    "inserted": (insert_forged, "inserted"),
    "inserted as text": (lambda lines: lines.insert(3, b"hello\n"), "altered or inserted"),
    "doubled": (lambda lines: lines.insert(3, lines[2]), "inserted"),
    "exchanged": (lambda lines: lines.insert(2, lines.pop(3)), "missing"),
    "cut off": (remove(4, 6), "cut off"),
    "cut off within a line": (swap(b"", b""), "does not end"),
    "all gone": (remove(0, 6), "cut off"),
    "made anew": (rewrite_from_the_third, "not the one of the head"),
    "last line altered": (lambda lines: lines.append(lines.pop().replace(b'"number":5', b'"number":6')), "of the head"),
}


@pytest.mark.parametrize("attack", TAMPERED)
def test_verify_finds(attack: str, host: Host, head_signer: HeadSigner) -> None:
    host.write(6, signer=head_signer)
    assert host.findings() == []
    change, words = TAMPERED[attack]
    lines = host.lines()
    change(lines)
    content = b"".join(lines)
    host.current.write_bytes(content[:-5] if attack == "cut off within a line" else content)
    assert words in " / ".join(host.findings())


@pytest.mark.parametrize("attack", ["cut off", "made anew", "last line altered"])
def test_the_journal_tells_when_the_head_is_gone_too(attack: str, host: Host) -> None:
    host.write(6)
    lines = host.lines()
    TAMPERED[attack][0](lines)
    host.current.write_bytes(b"".join(lines))
    assert host.findings() == []
    text = "Jan 15 08:00:00 fe gwms-ssh-broker[1]: " + "\n".join(host.journal)
    assert TAMPERED[attack][1] in " / ".join(host.findings(*heads_of_journal(text)))


def test_a_broker_that_starts_on_a_shortened_log_notes_the_gap(host: Host, head_signer: HeadSigner) -> None:
    host.write(6, signer=head_signer)
    host.current.write_bytes(b"".join(host.lines()[:4]))
    host.journal.clear()
    host.write(1, signer=head_signer)
    records = [json.loads(line) for line in host.lines()]
    assert [record["seq"] for record in records] == [1, 2, 3, 4, 7, 8]
    assert (records[4]["event"], records[4]["from"], records[4]["to"]) == ("gap", 5, 6)
    assert "lines 5 to 6 are gone" in host.journal[0]
    assert "lines 5 to 6 are missing; the broker found so at its start" in " / ".join(host.findings())


def test_a_broker_that_starts_on_an_altered_last_line_notes_it(host: Host, head_signer: HeadSigner) -> None:
    host.write(3, signer=head_signer)
    host.current.write_bytes(host.current.read_bytes().replace(b'"number":2', b'"number":7'))
    host.journal.clear()
    host.write(1, signer=head_signer)
    assert "line 3 is not the one" in host.journal[0]
    assert host.findings() == ["the broker found line 3 altered at its start"]


def test_a_torn_line_that_the_head_knows_is_missed_as_well(host: Host, head_signer: HeadSigner) -> None:
    host.write(3, signer=head_signer)
    host.current.write_bytes(host.current.read_bytes()[:-10])
    host.write(1, signer=head_signer)
    records = [json.loads(line) for line in host.lines()]
    assert [(record["seq"], record["event"]) for record in records[2:]] == [(4, "gap"), (5, "repair"), (6, "test")]
    assert "line 3 is missing; the broker found so at its start" in " / ".join(host.findings())


def test_the_head_is_signed_by_the_broker(host: Host, head_signer: HeadSigner) -> None:
    host.write(3, signer=head_signer)
    pin = spki_pin(head_signer.public_der)
    assert read_head(host.folder, pin) == verify(host.folder, broker_pin=pin).last
    (finding,) = verify(host.folder, broker_pin=PIN).findings
    assert "not by this broker" in finding.message
    content = (host.folder / HEAD_FILE).read_text(encoding="ascii")
    (host.folder / HEAD_FILE).write_text(content.replace('"seq": 3', '"seq": 2'), encoding="ascii")
    assert "was altered" in host.findings()[0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seq": "1"}', "x", "[" * 3000])
def test_a_damaged_head_is_told_and_stops_nobody(content: str, host: Host) -> None:
    host.write(1)
    (host.folder / HEAD_FILE).write_text(content, encoding="ascii")
    assert "damaged" in host.findings()[0]
    host.write(1)
    assert any("damaged" in line for line in host.journal)


def test_only_a_p256_like_key_signs_heads(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot be read"):
        HeadSigner(tmp_path / "none")
    with pytest.raises(AuditError, match="not an elliptic curve key"):
        HeadSigner(key_file(tmp_path / "ed", signer("user").private))
    (tmp_path / "text").write_text("x", encoding="ascii")
    with pytest.raises(AuditError, match="no private key"):
        HeadSigner(tmp_path / "text")


def test_follow_reads_what_comes_over_rotations(host: Host) -> None:
    host.write(3)
    log = host.open(max_file_bytes=600)
    rounds = iter([2, 10, 0, 5])

    def wait() -> bool:
        count = next(rounds, None)
        for _ in range(count or 0):
            log.append({"event": "new"})
        return count is not None

    assert [line.seq for line in follow(host.folder, wait)] == list(range(4, 21))
    log.close()
    assert [line.seq for line in follow(host.folder, lambda: False, from_start=True)] == list(range(1, 21))


def test_follow_waits_for_a_log_that_is_not_there_yet(host: Host) -> None:
    rounds = iter([1])

    def wait() -> bool:
        for count in rounds:
            host.write(count)
            return True
        return False

    assert [line.seq for line in follow(host.folder, wait, from_start=True)] == [1]


def test_says_when_a_log_cannot_be_used(host: Host) -> None:
    with pytest.raises(AuditError, match="No such file"):
        AuditLog(host.folder / "none", lambda: NOW, host.journal.append)
    with pytest.raises(AuditError, match=r"cannot be read: .*; gwms-ssh-broker init makes it"):
        verify(host.folder / "none")
    with pytest.raises(AuditError, match="cannot be read"):
        list(follow(host.folder / "none", lambda: False))


def test_the_log_is_not_for_everybody(host: Host, head_signer: HeadSigner) -> None:
    host.write(1, signer=head_signer)
    assert [path.stat().st_mode & 0o007 for path in host.folder.iterdir()] == [0, 0]


def decided_records() -> tuple[dict[str, Any], dict[str, Any], Sign]:
    policy = keyed(changed("handles", ENTRY, "require", value="unproven"))
    data = build_userauth(b"s" * 32, USER, "ssh-ed25519", signer("user").blob)
    request = Sign(policy.handle_of(ENTRY, SUBMIT).handle, "c" * 5000, (), (), data)
    allowed = decide(policy, request, PIN, NOW, SessionMemory(), RateLimits(), {})
    assert isinstance(allowed, Allowed)
    refused = deny_record(Denied(DenyCode.RATE, "too many"), request, policy, PIN, "192.0.2.1", 4)
    return sign_record(allowed, request, PIN, "192.0.2.1"), refused, request


def test_records_say_who_what_where_and_hold_no_signed_bytes(host: Host) -> None:
    signed, refused, request = decided_records()
    for record in (signed, refused):
        assert (record["entry"], record["factory_spki"], record["peer"]) == (ENTRY, PIN, "192.0.2.1")
        assert len(record["claimed"]) == MAX_CLAIM_CHARS
    assert (signed["user"], signed["proof"], signed["host_key"]) == (USER, "none", None)
    assert (refused["code"], refused["left_out"]) == (15, 4)
    log = host.open()
    log.append(signed)
    log.append(refused)
    log.close()
    text = host.current.read_text(encoding="ascii")
    assert "73" * 32 not in text and request.data.hex() not in text


def test_a_refusal_for_an_unknown_handle_has_a_record_too() -> None:
    record = deny_record(
        Denied(DenyCode.UNKNOWN_HANDLE, "no"), Sign("x" * 500, "", (), (), b""), keyed(policy_data()), PIN, "p"
    )
    assert (record["entry"], len(record["handle"])) == (None, 64)
