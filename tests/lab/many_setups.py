# SPDX-License-Identifier: Apache-2.0
"""Many pilots that set up side by side, in cheap form: an entry's own script and attributes, no HTCondor.

Runs on a node as the pilots' account, by the contract of standin_glidein.sh. Starts a script of the entry many times,
each in a folder of its own, and prints what came of each as JSON: exit code, seconds, and the keys of its
glidein_config. What a CVMFS client would ask for when it mounts, which the stand-in client does not, is asked for by
the web proxy that the script has found, as soon as it has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_FUNCTIONS = ("add_config_line.source", "error_gen.sh")
BEGIN_PER_S = 10
"""More at once than a node's processors bear would wait for these and not as long as the plan says."""
_SET_UP = """\
script=$1; shift
bash "$script" glidein_config entry || exit
proxy=$(sed -n 's/^GWMS_BOSCO_WEB_PROXY //p' glidein_config)
[ $# = 0 ] || exec curl -s -S -x "$proxy" "$@" >/dev/null
"""


def prepare(entry: Path, folder: Path) -> None:
    """Make a pilot's folder as a script finds it."""
    folder.mkdir()
    (folder / "condor_vars.lst").touch()
    words = {
        "GLIDEIN_WORK_DIR": folder,
        "GLIDEIN_ENTRY_WORK_DIR": entry,
        "GLIDEIN_STARTUP_PID": os.getpid(),
        "ADD_CONFIG_LINE_SOURCE": entry / _FUNCTIONS[0],
        "ERROR_GEN_PATH": entry / _FUNCTIONS[1],
        "CONDOR_VARS_FILE": folder / "condor_vars.lst",
    }
    text = "".join(f"{key} {value}\n" for key, value in words.items())
    (folder / "glidein_config").write_text(text + (entry / "attrs.lst").read_text())


def run_one(script: Path, folder: Path, mount: Sequence[str], after_s: float) -> dict[str, Any]:
    """Run a script in a pilot's folder, and what follows, when it is its turn."""
    time.sleep(after_s)
    argv = ["bash", "-c", _SET_UP, "bash", str(script), *mount]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - began
    lines = (folder / "glidein_config").read_text().splitlines()
    config = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
    return {"rc": done.returncode, "took_s": took_s, "output": (done.stdout + done.stderr)[-500:], **config}


def run(archive: Path, count: int, folder: Path, script: str, mount: Sequence[str]) -> list[dict[str, Any]]:
    """Run them side by side, and wait for the last."""
    entry = folder / "entry"
    entry.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(entry, filter="data")
    folders = [folder / f"pilot{number}" for number in range(count)]
    for pilot in folders:
        prepare(entry, pilot)
    with ThreadPoolExecutor(count) as pool:
        running = [
            pool.submit(run_one, entry / script, pilot, mount, number / BEGIN_PER_S)
            for number, pilot in enumerate(folders)
        ]
        return [one.result() for one in running]


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.many_setups")
    parser.add_argument("archive", type=Path, help="of an entry, by standin_factory.py")
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path, help="is made")
    parser.add_argument("script", help="one of the entry's")
    parser.add_argument("--mount", default=[], nargs="*", metavar="URL", help="what a CVMFS client would ask for")
    given = parser.parse_args()
    print(json.dumps(run(given.archive, given.count, given.folder, given.script, given.mount)))


if __name__ == "__main__":
    main()
