# SPDX-License-Identifier: Apache-2.0
"""Give a pilot script exactly what glideinWMS gives it: folder, files, arguments, stdin, environment.

Written from the contract (glideinWMS 3.10 glidein_startup.sh, fetch_file_base; script_wrapper.sh). The functions and
error_gen.sh that scripts call come from a glideinWMS checkout when GLIDEINWMS_SRC names one, else from `contract/`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from xml.etree import ElementTree

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.pilot.node import UID, Node

GLIDEINWMS_SRC = os.environ.get("GLIDEINWMS_SRC", "")
PERIODIC_PREFIX = "GLIDEIN_PS_"
_CONTRACT = Path(GLIDEINWMS_SRC) / "creation" / "web_base" if GLIDEINWMS_SRC else Path(__file__).with_name("contract")
# The last is looked at by scripts, and not run.
_STARTUP = "condor_startup.sh"
_FILES = ("add_config_line.source", "error_gen.sh", *((_STARTUP,) if GLIDEINWMS_SRC else ()))


@dataclass(frozen=True)
class Outcome:
    """How a script ended: its exit code, output, and the test result it wrote."""

    rc: int
    stdout: str
    stderr: str
    status: Optional[str]
    detail: str
    metrics: Mapping[str, str]
    """Metric name -> text, as an XML parser reads them."""


def startup_text() -> str:
    """condor_startup.sh without the fault of 3.11.2 and 3.11.3, whose wrapper runs nowhere but where sh is bash."""
    opening = 'cat > "$condor_job_wrapper" <<EOF\n#!'
    return (_CONTRACT / _STARTUP).read_text().replace(opening, opening.replace("EOF", '"EOF"'))


class Pilot:
    """A pilot's folder on a node, and a process that stands for glidein_startup.sh."""

    def __init__(
        self, node: Node, folder: Path, config: Mapping[str, str], env: Optional[Mapping[str, str]] = None
    ) -> None:
        """Make the folder, owned by the node's user, and start the pilot's process."""
        self.node = node
        self.folder = folder
        self._env = dict(env or {})
        folder.mkdir(mode=0o755)
        for name in _FILES:
            (folder / name).write_text(startup_text() if name == _STARTUP else (_CONTRACT / name).read_text())
            (folder / name).chmod(0o755)
        (folder / "condor_vars.lst").write_text("")
        os.chown(folder, UID, UID)
        # The number that the node's own processes see.
        self.process = node.start(["sh", "-c", "echo $$; exec sleep 600"])
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())
        lines = {
            "GLIDEIN_WORK_DIR": str(folder),
            "ADD_CONFIG_LINE_SOURCE": str(folder / "add_config_line.source"),
            "ERROR_GEN_PATH": str(folder / "error_gen.sh"),
            "CONDOR_VARS_FILE": str(folder / "condor_vars.lst"),
            "GLIDEIN_STARTUP_PID": str(self.pid),
            **config,
        }
        (folder / "glidein_config").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        for path in folder.iterdir():
            os.chown(path, UID, UID)

    def write(self, name: str) -> Path:
        """Put a packed script of ours into the folder."""
        script = self.folder / name
        script.write_bytes(pack_script(name, read_sources(default_scripts_dir())))
        script.chmod(0o755)
        return script

    def run(self, name: str, periodic: bool = False) -> Outcome:
        """Run a packed script of ours as the pilot would."""
        script = self.write(name)
        (self.folder / "otrb_output.xml").unlink(missing_ok=True)
        config, cwd, env = "glidein_config", self.folder, dict(self._env)
        if periodic:
            cwd = self.folder / "periodic"
            cwd.mkdir(exist_ok=True)
            os.chown(cwd, UID, UID)
            config = str(self.folder / config)
            env["GLIDEIN_PERIODIC_SCRIPT"] = "true"
        ended = self.node.run([str(script), config, "entry"], cwd=cwd, env=env)
        status, detail, metrics = self._result(cwd)
        return Outcome(ended.returncode, ended.stdout.decode(), ended.stderr.decode(), status, detail, metrics)

    def config(self) -> dict[str, str]:
        """glidein_config as it is now; the last line of a key counts."""
        lines = (self.folder / "glidein_config").read_text().splitlines()
        return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}

    def published(self) -> dict[str, str]:
        """What reaches the machine ad: name -> value as condor_startup.sh would write it."""
        config, found = self.config(), {}
        for line in (self.folder / "condor_vars.lst").read_text().splitlines():
            name, kind, _default, _condor, _required, publish, _job = line.split()
            if publish == "Y" and config.get(name):
                found[name] = f'"{config[name]}"' if kind == "S" else config[name]
        return found

    def payload(self, *command: str, stdin: Optional[bytes] = None, **env: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command by run-with-cvmfs, in the pilot's folder."""
        return self.node.run([self.run_with_cvmfs, *command], cwd=self.folder, stdin=stdin, env=env)

    @property
    def run_with_cvmfs(self) -> str:
        """The program in the state folder."""
        return str(self.folder / "gwms_bosco" / "run-with-cvmfs")

    def end(self) -> None:
        """End the pilot's process, as at its normal end or as kill -9 does: nobody tells the scripts."""
        self.node.run(["kill", "-9", str(self.pid)])
        self.process.communicate()

    def _result(self, cwd: Path) -> tuple[Optional[str], str, dict[str, str]]:
        path = cwd / "otrb_output.xml"
        if not path.exists():
            return None, "", {}
        tree = ElementTree.parse(path)  # noqa: S314 # our own script wrote it
        metrics = {metric.get("name", ""): metric.text or "" for metric in tree.iter("metric")}
        return tree.findtext(".//status"), (tree.findtext(".//detail") or "").strip(), metrics
