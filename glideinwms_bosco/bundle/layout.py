# SPDX-License-Identifier: Apache-2.0
"""Which files a bundle holds for each batch system, and where HTCondor's packages and tarballs keep them.

Everything here is a table. The file lists are the smallest that ran a real job with its exit code (slurm, sge, condor)
or that the scripts name (pbs, lsf).
"""

from __future__ import annotations

from dataclasses import dataclass

EXECUTABLE = 0o755
PLAIN = 0o644


@dataclass(frozen=True)
class OwnFile:
    """A file of ours: `path` in the bundle, `resource` below bundle/files/, octal `mode`."""

    path: str
    resource: str
    mode: int = EXECUTABLE


@dataclass(frozen=True)
class BatchLayout:
    """What one batch system needs on the login node.

    Attributes:
        scripts: names in HTCondor's blahp directory, copied to libexec/.
        own: our files, beside HTCondor's or in the place of one that is left out.
        passthrough: batch commands that blahp calls by directory; links to the pass-through in libexec/<name>/.
        settings: (key, value) lines of etc/blah.config.
        bin_path_key: the blah.config key that takes BundleRequest.bin_path, where no pass-through does.
        remote_commands: what the login node must have, beside the batch system's own commands.
        known_limits: defects that remain; one line each, shown to the operator.
    """

    scripts: tuple[str, ...]
    own: tuple[OwnFile, ...] = ()
    passthrough: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    bin_path_key: str = ""
    remote_commands: tuple[str, ...] = ("awk", "bash", "sed")
    known_limits: tuple[str, ...] = ()


# First hit wins. Debian and RPM packages; release tarballs (upstream nmi_tools/glue/build/make-tarball-links:
# usr/ with links bin, sbin, lib, libexec on top); then plain release directories.
BINARIES: dict[str, tuple[str, ...]] = {
    "blahpd": ("usr/bin/blahpd", "bin/blahpd", "usr/sbin/blahpd", "sbin/blahpd"),
    "condor_ft-gahp": (
        "usr/sbin/condor_ft-gahp",
        "sbin/condor_ft-gahp",
        "usr/bin/condor_ft-gahp",
        "usr/libexec/condor/condor_ft-gahp",
        "libexec/condor_ft-gahp",
    ),
}
BLAH_CONFIG = ("etc/blah.config",)
SCRIPT_DIRS = ("usr/libexec/blahp", "libexec/blahp", "usr/lib/condor/libexec/blahp", "usr/libexec/condor/blahp")
LIBRARY_DIRS = (
    "usr/lib64",
    "usr/lib64/condor",
    "usr/lib",
    "usr/lib/condor",
    "lib64",
    "lib64/condor",
    "lib",
    "lib/condor",
)
# A soname with one of these prefixes is HTCondor's wherever it lies; any other only in a directory of its own, since
# /usr/lib64 of a factory holds libstdc++ and libcrypto too, which belong to the remote machine.
HTCONDOR_SONAMES = ("libcondor_utils", "libclassad.so")

RUNPATH = "$ORIGIN/../lib"
LAUNCHER = "common/launcher"
CONF_PATH = "etc/bosco.conf"
BLAH_CONFIG_PATH = "etc/blah.config"
FT_GAHP_CONFIG_PATH = "etc/condor_config.ft-gahp"

_COMMON = ("blah_common_submit_functions.sh", "blah_load_config.sh")
_FUNCTIONS = OwnFile("libexec/bosco_batch.sh", "common/bosco_batch.sh", PLAIN)


def _scripts(name: str, *more: str) -> tuple[str, ...]:
    actions = ("submit", "cancel", "hold", "resume", "ping")
    own = tuple(f"{name}_{action}.sh" for action in actions)
    return tuple(sorted((*_COMMON, *own, f"{name}_local_submit_attributes.sh", *more)))


def _passthrough(name: str) -> OwnFile:
    return OwnFile(f"libexec/{name}/passthrough", "common/passthrough")


LAYOUTS: dict[str, BatchLayout] = {
    "slurm": BatchLayout(
        scripts=_scripts("slurm", "slurm_status.sh", "slurm_status.py", "blah.py"),
        own=(
            _FUNCTIONS,
            _passthrough("slurm"),
            OwnFile("libexec/slurm/sacct", "slurm/sacct"),
            OwnFile("libexec/slurm/squeue", "slurm/squeue"),
        ),
        passthrough=("sbatch", "scancel", "scontrol"),
        settings=(("slurm_binpath", "${BLAHPD_LOCATION}/libexec/slurm"),),
        remote_commands=("awk", "bash", "python3", "sed"),
        known_limits=(
            "without slurmdbd the exit code of a job is known for MinJobAge (Slurm default 300 s) after its end; "
            "a job that is asked for later counts as failed (255)",
            "slurmctld out of reach: the last known state of a job is reported for up to 24 h",
        ),
    ),
    "pbs": BatchLayout(
        scripts=_scripts("pbs"),
        own=(_FUNCTIONS, _passthrough("pbs"), OwnFile("libexec/pbs_status.sh", "pbs/pbs_status.sh")),
        passthrough=("qdel", "qhold", "qrls", "qstat", "qsub"),
        settings=(("pbs_binpath", "${BLAHPD_LOCATION}/libexec/pbs"),),
        known_limits=(
            "tried with recorded-like output only, not with a real PBS",
            "the exit code is known while the server remembers finished jobs (Torque keep_completed, PBS Pro "
            "job_history_enable); a job it does not know counts as failed (255) after 5 minutes",
        ),
    ),
    "lsf": BatchLayout(
        scripts=_scripts("lsf"),
        own=(_FUNCTIONS, _passthrough("lsf"), OwnFile("libexec/lsf_status.sh", "lsf/lsf_status.sh")),
        passthrough=("bhist", "bjobs", "bkill", "bresume", "bstop", "bsub", "lsid"),
        settings=(("lsf_binpath", "${BLAHPD_LOCATION}/libexec/lsf"),),
        known_limits=(
            "tried with recorded-like output only, not with a real LSF",
            "the exit code is known for CLEAN_PERIOD (LSF default 3600 s) after the end of a job; "
            "a job that bjobs does not know counts as failed (255) after 5 minutes",
        ),
    ),
    "sge": BatchLayout(
        scripts=_scripts("sge"),
        own=(_FUNCTIONS, OwnFile("libexec/sge_status.sh", "sge/sge_status.sh")),
        bin_path_key="PATH",
        # sge_submit.sh takes the job id out of qsub's answer with perl; no module is needed.
        remote_commands=("awk", "bash", "perl", "sed"),
        known_limits=(
            "qacct must be able to read the accounting file on the login node; a job that neither qstat nor qacct "
            "knows counts as failed (255) after 5 minutes",
        ),
    ),
    "condor": BatchLayout(
        scripts=_scripts("condor", "condor_status.sh"),
        bin_path_key="condor_binpath",
        known_limits=("blah_job_wrapper is ignored by blahp for this batch system",),
    ),
}

# What blahp's scripts read with `source`: the mode of these does not matter.
_SOURCED = ("blah.py", *_COMMON)
_SOURCED_ENDING = "_local_submit_attributes.sh"


def launcher_paths() -> tuple[str, ...]:
    """What remote_gahp starts."""
    return tuple(f"bin/{name}" for name in BINARIES)


def is_sourced(path: str) -> bool:
    """Whether a file of libexec/ is read by another script instead of being run."""
    name = path.rpartition("/")[2]
    return name in _SOURCED or name.endswith(_SOURCED_ENDING)


def executed_paths(batch_system: str) -> frozenset[str]:
    """Files that blahpd or its scripts run, so that they must be executable."""
    layout = LAYOUTS[batch_system]
    scripts = {f"libexec/{name}" for name in layout.scripts if not is_sourced(name)}
    own = {own.path for own in layout.own if own.mode == EXECUTABLE}
    return frozenset(scripts | own | {f"libexec/{batch_system}/{command}" for command in layout.passthrough})
