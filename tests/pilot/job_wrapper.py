# SPDX-License-Identifier: Apache-2.0
"""The job wrapper as condor_startup.sh composes it: a head, the fragments in order, and the last line.

With GLIDEINWMS_SRC the code that composes it is cut out of the real condor_startup.sh and run; else it is written from
the contract (glideinWMS 3.10 condor_startup.sh, set_var and what writes condor_job_wrapper.sh).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.pilot.harness import GLIDEINWMS_SRC, Pilot, startup_text

NAME = "condor_job_wrapper.sh"
_DEFAULT_EXEC = '"$@"'
_LAST_LINE = "exec $GLIDEIN_WRAPPER_EXEC\n"
OLD_LAST_LINE = 'exec "$GLIDEIN_WRAPPER_EXEC"\n'
_HEAD = """#!/bin/sh
if [ -n "$BASH_VERSION" ]; then
    set +o posix || echo "WARN: running in POSIX mode"
fi
"""
_TAIL = """
exec {exec}
exit_code=$?
echo "Wrapper script failed the final exec, exit code: $exit_code" >&2
exit "$exit_code"
"""
_REAL = """
source ./add_config_line.source || exit 1
glidein_config=$PWD/glidein_config config_file=$PWD/glidein_config
wrapper_list=$1 pstr='"' CONDOR_CONFIG=$PWD/condor_config
: >"$CONDOR_CONFIG"
CONDOR_REQUIRED_VAR_X509=","
{functions}
{head}
while read line; do set_var $line; done < <(cat main_vars.lst condor_vars.lst)
printf '%s' "$job_env" >job_env
{tail}
"""


def compose(pilot: Pilot, before: Sequence[str] = (), after: Sequence[str] = (), *, quoted: bool = False) -> Path:
    """Write the wrapper into the pilot's folder, our fragment between those of others, and return its path.

    Args:
        quoted: as glideinWMS before 3.10.16, 3.11.0 and 3.11.1 write its last line.
    """
    ours = pack_script("payload_wrapper.sh", read_sources(default_scripts_dir())).decode()
    fragments = [*before, ours, *after]
    path = pilot.folder / NAME
    if GLIDEINWMS_SRC:
        _compose_really(pilot, fragments, quoted)
    else:
        last = pilot.config().get("GLIDEIN_WRAPPER_EXEC") or _DEFAULT_EXEC
        last = f'"{last}"' if quoted else last
        path.write_text("".join([_HEAD, *fragments, _TAIL.format(exec=last)]))
    path.chmod(0o755)
    return path


def _compose_really(pilot: Pilot, fragments: Sequence[str], quoted: bool) -> None:
    names = []
    for number, text in enumerate(fragments):
        names.append(pilot.folder / f"wrapper_{number}.sh")
        names[-1].write_text(text)
    listing = pilot.folder / "wrapper_list.lst"
    listing.write_text("".join(f"{name}\n" for name in names))
    (pilot.folder / "main_vars.lst").write_text(main_variables())
    script = composing_script()
    if quoted:
        assert _LAST_LINE in script
        script = script.replace(_LAST_LINE, OLD_LAST_LINE)
    done = pilot.node.run(["bash", "-c", script, "bash", str(listing)], cwd=pilot.folder)
    assert done.returncode == 0, done.stderr


def main_variables() -> str:
    """The lines of glideinWMS's own condor_vars.lst that name what our scripts set."""
    path = Path(GLIDEINWMS_SRC) / "creation" / "web_base" / "condor_vars.lst"
    found = re.findall(r"^(?:GLIDEIN_WRAPPER_EXEC|GLIDEIN_Entry_Start)\s.*\n", path.read_text(), re.MULTILINE)
    return "".join(found)


def composing_script() -> str:
    """What of the real condor_startup.sh writes the job wrapper, as a bash script: $1 = the list of fragments.

    It runs in the pilot's folder and wants `main_vars.lst` and `condor_vars.lst` there.
    """
    source = startup_text()
    return _REAL.format(
        functions=_cut(source, r"^is_var_required\(\)", r"^# TODO: import from b64uuencode"),
        head=_cut(source, r'^condor_job_wrapper="condor_job_wrapper.sh"', r'^echo "USER_JOB_WRAPPER'),
        tail=_cut(source, r"^cat >> \"\$condor_job_wrapper\" <<EOF", r"^now="),
    )


def _cut(text: str, first: str, before: str) -> str:
    begin = re.search(first, text, re.MULTILINE)
    assert begin is not None, first
    end = re.compile(before, re.MULTILINE).search(text, begin.end())
    assert end is not None, before
    return text[begin.start() : end.start()]
