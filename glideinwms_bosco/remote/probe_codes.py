# SPDX-License-Identifier: Apache-2.0
"""The findings of `remote probe`: one row each. A code keeps its meaning for ever; a number is never used again.

"Tried" in a row's source: seen in the lab with HTCondor 23.9, Slurm 24.11, Grid Engine 8.1.9 and OpenSSH 10.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "BOSCO-PROBE-"
SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Rule:
    """What one code stands for.

    Attributes:
        number: the code's number.
        severity: `error`: no pilot runs, or its result is lost; `warning`: it works until it does not; `info`.
        what: what is found, as a sentence without its stop.
        remedy: what to do.
        source: where it is known from.
    """

    number: int
    severity: str
    what: str
    remedy: str
    source: str

    @property
    def code(self) -> str:
        """`BOSCO-PROBE-07`."""
        return f"{PREFIX}{self.number:02d}"


_ROWS = (
    # The machine.
    (1, "error", "The machine's architecture is not the bundle's",
     "name an HTCondor source for the machine's architecture", "ELF header of the bundle's programs"),
    (2, "error", "glibc is older than the bundle needs, or there is another libc",
     "name an HTCondor release for the login node's operating system",
     "symbol versions of the bundle's programs; tried on Debian 12: GLIBC_2.38 not found"),
    (3, "error", "A program that an installation needs is missing", "ask the site to install it", "scripts/install.sh"),
    (4, "error", "There is no /usr/bin/python3", "ask the site to install Python 3; without it no job's end is seen",
     "HTCondor 23.9 libexec/blahp: slurm_status.py, pbs_status.py, lsf_status.py"),
    # The login shell.
    (10, "error", "There is no /bin/bash", "ask the site to install it",
     "HTCondor 23.9 remote_gahp: it runs /bin/bash -l -c"),
    (11, "error", "The login profile hangs or ends the shell",
     "look into ~/.bash_profile, ~/.bash_login or ~/.profile of the account; try there: bash -l -c 'echo works'",
     "HTCondor 23.9 remote_gahp: it runs /bin/bash -l -c"),
    (12, "error", "The login profile reads standard input, which is meant for the pilots' requests",
     "look into ~/.bash_profile, ~/.bash_login or ~/.profile of the account for a command that reads",
     "HTCondor 23.9 remote_gahp: it talks to blahpd over standard input"),
    (13, "warning", "The login shell prints text of its own",
     "print only for interactive shells: in ~/.bashrc, ~/.bash_profile: case $- in *i*) ... ;; esac",
     "HTCondor pull request 246: quota messages broke the protocol; 23.9 skips lines (tried)"),
    (14, "warning", "The umask lets others write, or takes rights from the account itself",
     "set umask 022 or 077 in the account's startup files", "umask(2); blahp makes files in the home"),
    # Storage.
    (20, "error", "The home directory takes no data", "free space or quota there",
     "a file of 64 KiB was written and synchronised, or not"),
    (21, "warning", "There is little space or there are few inodes left", "free space there",
     "sizes of a bundle (10 MB) and of pilots' output"),
    (22, "warning", "The quota is nearly used up", "free space, or ask the site for more", "quota(1)"),
    (23, "error", "The home directory is not shared with the workers",
     "set install.bosco_dir to a folder (or a link to one) on a file system that workers have too",
     "HTCondor 23.9 libexec/blahp: the job's script starts in a folder below the home; tested by a job"),
    (24, "error", "The directory /tmp cannot be written", "ask the site; blahp makes its batch scripts there",
     "HTCondor 23.9 libexec/blahp/blah_common_submit_functions.sh"),
    (25, "info", "Programs in /tmp cannot be run", "nothing to do for pilots; helpers of your own must lie elsewhere",
     "mount(8), noexec"),
    # sshd.
    (30, "error", "sshd refuses remote forwarding",
     "ask the site for AllowTcpForwarding yes; in authorized_keys, `restrict` needs `port-forwarding` beside it",
     "HTCondor 23.9 remote_gahp: condor_ft-gahp is started with ssh -R; without it jobs are held (tried)"),
    (31, "warning", "sshd allows few sessions on one connection", "ask the site for MaxSessions 10 or more",
     "requirement of the OSG Hosted CE; sshd_config(5), default 10"),
    (32, "info", "sshd may lock the factory's address out after failed logins",
     "ask the site for PerSourcePenaltyExemptList with the factory's address",
     "sshd_config(5), PerSourcePenalties of OpenSSH 9.8: on by default (tried: four failures)"),
    # The clock.
    (40, "error", "The clock is wrong by more than 5 minutes", "ask the site to run chrony or ntpd",
     "munged(8): a credential lives 300 s; tokens and certificates are refused before their time"),
    (41, "warning", "The clock is off by more than 30 seconds", "ask the site to run chrony or ntpd",
     "a short-lived certificate that begins now is not valid there yet"),
    # The batch system.
    (50, "error", "A command of the batch system is not found by a login shell",
     "set batch.bin_path, or PATH in the account's ~/.bash_profile", "HTCondor 23.9 libexec/blahp/<system>_submit.sh"),
    (51, "error", "The batch system does not answer", "try the command by hand as the account, then ask the site",
     "exit status and text of its own command"),
    (52, "error", "The queue does not exist", "correct `queue`", "scontrol(1), qconf(1), bqueues(1), qstat(1B)"),
    (53, "warning", "The queue takes or starts no jobs at present", "wait, or use another queue",
     "scontrol(1), qstat(1), bqueues(1)"),
    (54, "error", "The account may not use the queue", "ask the site for access, or use another queue",
     "scontrol(1) AllowGroups and AllowAccounts, qselect(1), bqueues(1)"),
    (55, "error", "The account may not charge the project", "correct `project`, or ask the site",
     "sacctmgr(1), show associations"),
    (56, "error", "An entry asks for more wall time than the queue gives", "lower `walltime`, or use another queue",
     "limit of the queue; such jobs are refused, or wait for ever"),
    (57, "warning", "The entries' limits allow more pilots than the account may queue",
     "lower the limits of the entries",
     "sacctmgr(1) MaxSubmitJobs, sge_conf(5) max_u_jobs, HTCondor MAX_JOBS_PER_OWNER"),
    (58, "error", "The batch system refuses the test job", "correct what it says in the site file, or ask the site",
     "its own submit command"),
    (59, "error", "The test job failed", "ask the site; look at the worker", "its own state command"),
    (60, "info", "The test job did not start in time, so the home was not tested",
     "probe again with a longer --job-timeout, or when the queue is shorter", "its own state command"),
    (61, "info", "The batch system has no accounting: exit codes come from the queue",
     "nothing to do; the bundle's own scripts ask the queue", "sacct(1); tried without slurmdbd"),
    (62, "warning", "Without accounting an ended job is forgotten before it is asked for",
     "ask the site for MinJobAge of 60 seconds or more", "slurm.conf(5), MinJobAge"),
    (63, "error", "A helper of the batch system's scripts is missing",
     "ask the site to install it (perl-XML-Simple, libxml-simple-perl); without it every exit code is 0",
     "HTCondor 23.9 libexec/blahp/sge_helper; tried"),
    # Limits.
    (70, "warning", "Processes of the login node may use little CPU time",
     "ask the site to exempt the account: the gahp lives as long as there are pilots", "getrlimit(2), RLIMIT_CPU"),
    (71, "warning", "Few processes or open files are allowed", "ask the site to raise the limit",
     "getrlimit(2), RLIMIT_NPROC and RLIMIT_NOFILE"),
    # The probe itself.
    (80, "info", "Something could not be found out", "probe again, or look by hand", "the probe"),
    # Closed sites and containers.
    (90, "error", "The container's image is not there", "copy it to the site, or correct runtime.container.image",
     "stat(1) on the login node"),
    (91, "error", "The container's image is not the one that the site file names",
     "copy it again, or correct runtime.container.sha256", "sha256sum(1) on the login node"),
    (92, "info", "The container's image was not read to its end", "nothing to do; pilots compare it themselves",
     "sha256sum(1) under a time limit: images are large, file systems slow"),
    (93, "error", "There is no preload library",
     "ask the site for proxychains-ng, or copy its library there and name it in network.preload",
     "proxychains-ng: nothing reaches the tunnel without it"),
    (94, "error", "A login node does not answer under the name that workers use",
     "correct network.login_hosts and network.login_port", "ssh-keyscan(1) on the login node"),
    (95, "error", "A login node shows workers a key that is not pinned",
     "compare with the site's page of keys, then correct network.login_host_keys", "ssh-keyscan(1) on the login node"),
    (96, "error", "The egress proxy cannot be reached from the login node",
     "is it running, is its port 80 or 443, does the site's firewall let login nodes out to it?", "connect(2), 5 s"),
    (97, "error", "sshd refuses local forwarding to the egress proxy",
     "ask the site for AllowTcpForwarding yes (or local) and for PermitOpen with the egress proxy",
     "sshd_config(5); a session of this account was refused ssh -W"),
    (98, "error", "sshd reads another file than ~/.ssh/authorized_keys",
     "hand the tunnel's public key to the site by its own way, or use tunnel.auth existing",
     "sshd_config(5), AuthorizedKeysFile"),
)  # fmt: skip

RULES = {row[0]: Rule(*row) for row in _ROWS}


@dataclass(frozen=True)
class Finding:
    """One finding; `message` says what was found there, the remedy is the code's."""

    number: int
    message: str

    @property
    def code(self) -> str:
        """`BOSCO-PROBE-07`."""
        return RULES[self.number].code

    @property
    def severity(self) -> str:
        """`error`, `warning` or `info`."""
        return RULES[self.number].severity

    def __str__(self) -> str:
        return f"{self.severity}: [{self.code}] {self.message}; {RULES[self.number].remedy}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        rule = RULES[self.number]
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "remedy": rule.remedy,
            "source": rule.source,
        }


def summary(findings: Sequence[Finding]) -> str:
    """`no findings`, or how many of each severity."""
    if not findings:
        return "no findings"
    counts = {s: sum(finding.severity == s for finding in findings) for s in SEVERITIES}
    return ", ".join(f"{number} {severity}" for severity, number in counts.items())


def codes_page() -> str:
    """The page that documents all codes, in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "<!-- SPDX-License-Identifier: Apache-2.0 -->"
    yield "<!-- Written by `gwms-bosco remote probe --codes`; change remote/probe_codes.py instead. -->"
    yield "# Findings of `gwms-bosco remote probe`"
    yield ""
    yield (
        "*error*: no pilot runs, or its result is lost. *warning*: it works until it does not. *info*: good to know. "
        "The exit status is 3 when there is an error."
    )
    yield ""
    yield "| Code | Severity | What | Remedy | Source |"
    yield "|---|---|---|---|---|"
    for rule in RULES.values():
        cells = (rule.code, rule.severity, rule.what, rule.remedy, rule.source)
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
