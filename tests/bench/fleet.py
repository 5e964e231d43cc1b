# SPDX-License-Identifier: Apache-2.0
"""Deploy to many accounts at once against one deploy: wall time as a ratio, and memory.

The accounts are users of the lab's one login host, which has the machine's two processors to unpack and hash for all of
them; accounts at different sites would not share it.
"""

from __future__ import annotations

import json

from tests.bench.figures import BenchError, Figure, Section
from tests.bench.workplace import COMMAND, FOLDER, Workplace
from tests.lab.operator import SITES, USER, host_keys, key_of
from tests.lab.settings import CHECKOUT_IN_HOST

ACCOUNTS = 50
ROUNDS = 3
JOBS = 8
TARGET_MIB = 200
SITE = "benchfleet"
BOSCO_DIR = f"bosco-{SITE}"
DEADLINE_S = 600.0
_ADD_USERS = """\
count=$1 key=$2
for number in $(seq "$count"); do
  # '*' is no password; the '!' of useradd would be a locked account, which sshd refuses.
  useradd --create-home --shell /bin/bash --password '*' "fleet$number"
  home=$(getent passwd "fleet$number" | cut -d : -f 6)
  install -d -o "fleet$number" -g "fleet$number" -m 700 "$home/.ssh"
  printf 'restrict,port-forwarding %s\\n' "$key" >"$home/.ssh/authorized_keys"
  chown "fleet$number" "$home/.ssh/authorized_keys"
done
"""


def _site_file(place: Workplace) -> str:
    """One site with all accounts; its centre would allow what the bench needs."""
    return json.dumps(
        {
            "site": "Fleet",
            "trust_domain": "lab",
            "login": {
                "host": "login",
                "host_keys": host_keys(place.lab, "login"),
                "max_connections": JOBS,
                "connections_per_minute": 600,
            },
            "accounts": [{"user": f"fleet{number}", "credential": "broker"} for number in range(1, ACCOUNTS + 1)],
            "batch": {"system": "slurm"},
            "install": {"bosco_dir": BOSCO_DIR},
            "entries": [{"name": "Lab_benchfleet", "cpus": 1, "walltime": "2h"}],
        }
    )


def _empty(place: Workplace) -> None:
    place.lab.run("login", ["sh", "-c", f"rm -rf /home/fleet*/{BOSCO_DIR}"])


def _deploy(place: Workplace, accounts: str) -> dict[str, float]:
    """Deploy and measure.

    Raises:
        BenchError: an account failed.
    """
    command = [COMMAND, "remote", "deploy", accounts, "--jobs", str(JOBS), "--key", key_of("pilot")]
    env = {"PYTHONPATH": CHECKOUT_IN_HOST, "PYTHONDONTWRITEBYTECODE": "1"}
    argv = ["python3", "-m", "tests.bench.meter", *command]
    done = place.lab.run("factory", argv, user=USER, env=env, timeout=DEADLINE_S)
    sample: dict[str, float] = json.loads(done.stdout)
    if sample["status"]:
        raise BenchError(f"deploy to {accounts}: exit status {sample['status']:.0f}: {done.stderr}")
    return sample


def measure(place: Workplace) -> Section:
    """Measure one deploy, then all, into accounts that have nothing; then all again.

    Raises:
        BenchError: an account failed.
        LabError: a command failed.
    """
    key = place.lab.read_file("factory", f"{key_of('pilot')}.pub").strip()
    place.lab.run("login", ["bash", "-euc", _ADD_USERS, "bash", str(ACCOUNTS), key])
    place.lab.write_file("factory", f"{SITES}/{SITE}.yaml", _site_file(place))
    place.lab.run("factory", ["mkdir", "-p", FOLDER], user=USER)
    one, many = [], []
    try:
        for _ in range(ROUNDS):
            _empty(place)
            one.append(_deploy(place, f"{SITE}:fleet1"))
            _empty(place)
            many.append(_deploy(place, f"{SITE}:*"))
        again = [_deploy(place, f"{SITE}:*") for _ in range(ROUNDS)]
    finally:
        place.lab.run("factory", ["rm", "-f", f"{SITES}/{SITE}.yaml"])
    single_s = [sample["seconds"] for sample in one]
    return Section(
        f"Deploy to {ACCOUNTS} accounts on one login host, --jobs {JOBS} (no network delay, one machine is both ends)",
        (
            Figure(
                f"remote deploy, {ACCOUNTS} accounts", [sample["seconds"] for sample in many], "s", "one account",
                single_s, f"one after the other: {ACCOUNTS} x",
            ),
            Figure("  again, nothing changed", [sample["seconds"] for sample in again], "s", "one account", single_s),
            _memory("  peak memory, with all its ssh processes", many, one, "peak_kb"),
            _memory("  of it gwms-bosco", many, one, "own_peak_kb"),
        ),
    )  # fmt: skip


def _memory(what: str, many: list[dict[str, float]], one: list[dict[str, float]], name: str) -> Figure:
    mib = [[sample[name] / 1024 for sample in samples] for samples in (many, one)]
    return Figure(what, mib[0], "MiB", "one account", mib[1], f"target < {TARGET_MIB} MiB")
