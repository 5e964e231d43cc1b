# SPDX-License-Identifier: Apache-2.0
"""Look at an account on a login node as a pilot will find it, and say what is wrong before a pilot does.

One connection; one program (scripts/probe.sh) that tells facts and runs a small job; then what sshd gives is tried on
the same connection.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from glideinwms_bosco.batch import batch_system
from glideinwms_bosco.batch.probing import BatchFacts
from glideinwms_bosco.remote.probe_channels import count_sessions, remote_forwarding
from glideinwms_bosco.remote.probe_codes import Finding
from glideinwms_bosco.remote.probe_facts import SESSIONS_WANTED, AccountFacts, SshFacts, parse_probe
from glideinwms_bosco.remote.probe_findings import judge
from glideinwms_bosco.remote.probe_network import NetworkFacts, ask_network, find_network, network_wishes
from glideinwms_bosco.remote.probe_wishes import Platform, Wishes, demands_of
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import Account, SiteDescription

# Login profiles that load environment modules from a busy file system take seconds.
PROFILE_TIMEOUT_S = 30
# blahpd gives a command as long.
COMMAND_TIMEOUT_S = 30
JOB_TIMEOUT_S = 120
MAX_JOB_TIMEOUT_S = 3600
# A file that a worker has written may show up late: NFS keeps what it knows of a folder for up to a minute, unless
# the folder is opened anew.
RESULT_TIMEOUT_S = 15
# Profile, quota, six commands, submitting and taking back, each at its limit.
_FACTS_TIMEOUT_S = 300


@dataclass(frozen=True)
class ProbeReport:
    """What a probe has found.

    Attributes:
        account: `user@host:port`.
        probed_at: when the answer was complete, seconds since 1970.
        job: whether a test job was submitted.
        network: None when the site has neither a network block nor an image of its own.
    """

    account: str
    probed_at: int
    job: bool
    facts: AccountFacts
    ssh: SshFacts
    batch_system: str
    batch: BatchFacts
    findings: tuple[Finding, ...]
    network: Optional[NetworkFacts] = None

    @property
    def ok(self) -> bool:
        """Whether there is no finding of severity error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json` and for keeping."""
        facts = asdict(self.facts)
        del facts["answers"]  # parsed into `batch`
        return {
            "account": self.account,
            "probed_at": self.probed_at,
            "ok": self.ok,
            "job_submitted": self.job,
            "facts": facts,
            "ssh": asdict(self.ssh),
            "batch": {"system": self.batch_system, **asdict(self.batch)},
            "network": None if self.network is None else asdict(self.network),
            "findings": [finding.as_json() for finding in self.findings],
        }


def _list(words: Sequence[str]) -> tuple[str, ...]:
    return (str(len(words)), *words)


def _login_input(site: SiteDescription, account: Account, wishes: Wishes, job_timeout_s: int) -> list[str]:
    """The lines that scripts/probe_login.sh reads, in the order that stands there."""
    system = wishes.system
    requests = [demand.request for demand in wishes.demands]
    questions = system.probe_questions(account.user, requests)
    lines = [site.install.folder, site.batch.bin_path or "-", str(COMMAND_TIMEOUT_S)]
    lines += [*_list(system.remote_commands), str(len(questions))]
    for question in questions:
        lines += [question.key, *_list(question.argv)]
    lines += [str(job_timeout_s), str(RESULT_TIMEOUT_S)]
    if job_timeout_s:
        plan = system.probe_job(requests[0])
        for words in (plan.submit, plan.state, plan.cancel, plan.text):
            lines += _list(words)
        lines += [plan.id_pattern, plan.alive, plan.decided]
    return lines


def _ask(
    session: SshSession, site: SiteDescription, account: Account, wishes: Wishes, token: str, job_timeout_s: int
) -> AccountFacts:
    """Run scripts/probe.sh."""
    inner = load_program("probe_login.sh")
    lines = [token, *_login_input(site, account, wishes, job_timeout_s)]
    data = inner + "".join(f"{line}\n" for line in lines)
    header = (token, site.install.folder, str(PROFILE_TIMEOUT_S), str(len(inner)))
    sent_at = time.time()
    reply = session.run_script(
        load_program("probe_umask.sh", "begin.sh", "probe.sh"),
        header,
        data.encode("utf-8"),
        deadline_s=_FACTS_TIMEOUT_S + job_timeout_s + RESULT_TIMEOUT_S,
    )
    return parse_probe(reply, sent_at, time.time())


def probe(
    session: SshSession,
    site: SiteDescription,
    account: Account,
    *,
    platforms: Sequence[Platform] = (),
    job_timeout_s: int = JOB_TIMEOUT_S,
) -> ProbeReport:
    """Probe the account of an open session; leaves nothing there.

    Args:
        session: an open session; stays open.
        platforms: those there is a bundle for; empty: not compared.
        job_timeout_s: seconds for the test job to come back, 0 for no job; it is taken back then.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    demands = demands_of(site, account)
    job_timeout_s = job_timeout_s if demands else 0
    token = secrets.token_hex(16)
    wishes = Wishes(batch_system(site.batch.system), demands, tuple(platforms), token if job_timeout_s else None)
    facts = _ask(session, site, account, wishes, token, job_timeout_s)
    ssh = SshFacts(remote_forwarding(session), count_sessions(session, SESSIONS_WANTED))
    batch = wishes.system.probe_facts(facts.answers, facts.groups)
    wanted, network = network_wishes(site), None
    found = judge(facts, ssh, batch, wishes)
    if wanted is not None:
        network = ask_network(session, wanted)
        found = tuple(sorted((*found, *find_network(network, wanted, facts.sshd_settings)), key=lambda f: f.number))
    return ProbeReport(
        account=session.connection.login.label,
        probed_at=int(time.time()),
        job=bool(job_timeout_s),
        facts=facts,
        ssh=ssh,
        batch_system=wishes.system.name,
        batch=batch,
        findings=found,
        network=network,
    )
