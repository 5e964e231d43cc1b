# SPDX-License-Identifier: Apache-2.0
"""Site files for lab tests, as YAML text, and the commands that put them to work."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from tests.lab.lab import Lab
from tests.lab.operator import add_site, gwms_bosco, host_keys, key_of
from tests.lab.settings import KEYS


@dataclass(frozen=True)
class LabSite:
    """A site behind one of the lab's login hosts; each test gives it a name and an install folder of its own."""

    name: str
    host: str = "login"
    system: str = "slurm"
    user: str = "pilot"
    port: int = 22
    host_keys: Optional[Sequence[str]] = None
    batch: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    login: dict[str, Any] = field(default_factory=dict)
    install: dict[str, Any] = field(default_factory=dict)

    def text(self, lab: Lab) -> str:
        """The site file. JSON is YAML."""
        keys = list(host_keys(lab, self.host) if self.host_keys is None else self.host_keys)
        return json.dumps(
            {
                "site": "Lab",
                "trust_domain": "lab",
                "login": {"host": self.host, "port": self.port, "host_keys": keys, **self.login},
                "accounts": [{"user": self.user, "credential": "broker"}],
                "batch": {"system": self.system, **self.batch},
                "install": {"bosco_dir": f"bosco-{self.name}", **self.install},
                "entries": [{"name": f"Lab_{self.name}", "cpus": 1, "walltime": "2h", **self.entry}],
            },
            indent=1,
        )

    def add(self, lab: Lab) -> None:
        """Put the site file on the factory and tell ssh of it."""
        add_site(lab, self.name, self.text(lab))
        gwms_bosco(lab, "remote", "ssh-config")

    def remove(self, lab: Lab) -> None:
        """Take the site file away: two files cannot pin different keys for one host."""
        lab.run("factory", ["rm", "-f", f"/etc/gwms-bosco/sites.d/{self.name}.yaml"])

    def deploy(self, lab: Lab, *options: str, key: str = key_of("pilot")) -> dict[str, Any]:
        """Deploy the site's bundle; the report."""
        done = gwms_bosco(lab, "remote", "deploy", self.name, "--key", key, "--json", *options)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def test(self, lab: Lab, *options: str, timeout_s: int = 180) -> dict[str, Any]:
        """Run a test job; the result, passed or not."""
        return run_test(lab, self.name, *options, timeout_s=timeout_s)


def run_test(lab: Lab, account: str, *options: str, key: str = "pilot", timeout_s: int = 180) -> dict[str, Any]:
    """`remote test --json` for `SITE[:ACCOUNT]`; the result with its exit status as `status`.

    Args:
        key: name of one of the factory's keys, or anything else that `--key` takes.
    """
    key_option = key_of(key) if key in KEYS else key
    argv = ["remote", "test", account, "--key", key_option, "--json", "--timeout", str(timeout_s), *options]
    done = gwms_bosco(lab, *argv, check=False, timeout=timeout_s + 180.0)
    result: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"passed": False, "stderr": done.stderr}
    return {**result, "status": done.returncode}


def wake_sleepers(lab: Lab, nodes: Iterable[str], user: str = "pilot") -> int:
    """End what sleeps on these nodes for `remote test --run-s`, whose job then goes on as if its time had come.

    Returns:
        How many slept.
    """
    argv = ["pkill", "-c", "-x", "-u", user, "sleep"]
    return sum(int(lab.run(node, argv, check=False).stdout) for node in nodes)
