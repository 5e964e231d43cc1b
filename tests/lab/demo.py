# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the main job from factory_configs/sites/demo.yaml to a worker node, in a lab of its own.

Everything is real: HTCondor and its remote_gahp on the factory, OpenSSH between the hosts, Slurm behind the login
host. Each command is shown as an operator types it on the factory, with its own output.
"""

from __future__ import annotations

import re
import sys
import time

from tests.lab.host import CommandError
from tests.lab.lab import Lab
from tests.lab.operator import add_site, gwms_bosco, host_keys, key_of, pin, prepare_factory
from tests.lab.settings import CHECKOUT, LabError

NAME = "gwmsdemo"
SITE_FILE = CHECKOUT / "factory_configs" / "sites" / "demo.yaml"
ACCOUNT = "pilot"
SHOWN_CHARS = 116
"""Longer lines, such as those of RSA host keys, are cut in the demo's output."""


class DemoError(Exception):
    """The demo did not show what it should."""


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def step(lab: Lab, *args: str) -> str:
    """Show a command, run it on the factory, show its output and return it."""
    say(f"factory$ gwms-bosco {' '.join(args)}")
    done = gwms_bosco(lab, *args, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        say(f"    {line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 3] + '...'}")
    if done.returncode != 0:
        raise DemoError(f"gwms-bosco {args[0]} {args[1]} ended with exit status {done.returncode}")
    say()
    return done.stdout


def compare_fingerprints(lab: Lab, proposed: str) -> list[str]:
    """What an operator does with the centre's web page: take only keys that the login host's own disk confirms."""
    true_keys = host_keys(lab, "login")
    shown = [line.strip()[2:] for line in proposed.splitlines() if line.strip().startswith("- ")]
    if sorted(shown) != sorted(true_keys):
        raise DemoError("the keys shown by the network are not those of the login host")
    return true_keys


def run(lab: Lab) -> str:
    """Go through the steps; return the node that the job ran on."""
    say("1. A login node, an account and a batch system; nothing of ours is there.")
    say(f"login$ ls -A ~{ACCOUNT}")
    say(f"    {lab.run('login', ['ls', '-A'], user=ACCOUNT).stdout.strip()}")
    say()
    say("2. The site file, with the host keys of the login node pinned after their fingerprints were compared.")
    keys = compare_fingerprints(lab, step(lab, "site", "hostkeys", "login"))
    add_site(lab, "demo", pin(SITE_FILE.read_text(encoding="utf-8"), keys))
    step(lab, "site", "check", "demo")
    say("3. The factory's ssh client learns the pinned keys.")
    step(lab, "remote", "ssh-config")
    say("4. HTCondor's remote half is installed in the account, from the factory's own HTCondor.")
    step(lab, "remote", "deploy", f"demo:{ACCOUNT}", "--key", key_of(ACCOUNT))
    say("5. The factory entry.")
    step(lab, "entry", "render", "demo")
    say("6. A real job: schedd, remote_gahp, ssh, blahp, Slurm, worker node and back, exit code 3 and its output too.")
    test = step(
        lab, "remote", "test", f"demo:{ACCOUNT}", "--key", key_of(ACCOUNT), "--exit-code", "3", "--timeout", "120"
    )
    node = re.search(r"; 1 on (\S+)", test)
    if node is None:
        raise DemoError("the test does not say where the job ran")
    return node[1]


def main(name: str = NAME) -> int:
    """Run the demo in a lab of that name; returns the exit status."""
    begun = time.monotonic()
    lab = Lab(name, "trixie", say=say)
    try:
        say("The lab: factory, login node with Slurm, two workers (name spaces on this machine).")
        lab.down()
        lab.up()
        prepare_factory(lab)
        say()
        node = run(lab)
    except (LabError, CommandError, DemoError) as err:
        print(f"demo failed: {err}", file=sys.stderr)
        return 1
    finally:
        lab.down()
    say(f"The job ran on {node}. ({time.monotonic() - begun:.0f} s; the lab is taken down)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
