# SPDX-License-Identifier: Apache-2.0
"""The findings of `entry lint`: one row each. A code keeps its meaning for ever; a number is never used again.

Source of the rules, unless a row's module says otherwise: glideinWMS 3.10 creation/lib/factoryXmlConfig.py,
creation/lib/xmlConfig.py, creation/lib/cgWParamDict.py, creation/lib/cgWCreate.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = "BOSCO-ENTRY-"
SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Rule:
    """What one code stands for.

    Attributes:
        number: the code's number.
        severity: `error`: reconfig or the pilots fail; `warning`: something is lost or has no effect; `info`.
        what: what is found, as a sentence without its stop.
        remedy: what to do.
        example: XML that has it.
    """

    number: int
    severity: str
    what: str
    remedy: str
    example: str

    @property
    def code(self) -> str:
        """`BOSCO-ENTRY-07`."""
        return f"{PREFIX}{self.number:02d}"


_ROWS = (
    # Files and structure.
    (
        1,
        "error",
        "The file cannot be read as XML",
        "correct the file; reconfig of the whole factory stops",
        "<entries>",
    ),
    (
        2,
        "error",
        "An attribute's name is probably misspelt; glideinWMS drops it silently",
        "correct the name",
        '<entry boeco_dir="bosco"/>',
    ),
    (
        3,
        "warning",
        "An attribute is not known to glideinWMS, which drops it silently",
        "remove it",
        '<entry colour="red"/>',
    ),
    (
        4,
        "warning",
        "An element is not known to glideinWMS at this place, which drops it silently",
        "move, correct or remove it",
        "<entry><submit_attrs/></entry>",
    ),
    (
        5,
        "error",
        "A section stands twice in one element; only the last counts",
        "make one of the two",
        "<entry><attrs>..</attrs><attrs>..</attrs></entry>",
    ),
    (
        6,
        "error",
        "A list element lacks the attribute that tells it from others; reconfig stops",
        "add the attribute",
        "<allow_frontend/>",
    ),
    (
        7,
        "warning",
        "An entry is replaced by one of the same name in a later file",
        "rename or remove one of them",
        '<entry name="A"/> in 1.xml and in 2.xml',
    ),
    (
        8,
        "error",
        "An entry stands twice in one file; reconfig mixes the two",
        "rename or remove one of them",
        '<entry name="A"/><entry name="A"/>',
    ),
    (
        9,
        "warning",
        "A value has a newline, tab or control character",
        "write it on one line",
        '<attr name="A" value="a&#10;b"/>',
    ),
    # The entry itself.
    (10, "error", "An entry has no name, or an entry set no alias", "give it a name", '<entry gatekeeper="u@h"/>'),
    (
        11,
        "error",
        "An entry's name has a character that does not fit into a path and a submit file",
        "use letters, digits, dot, dash, underscore",
        '<entry name="a/b"/>',
    ),
    (12, "error", "An entry has no gatekeeper", "add the gatekeeper, user@host[:port]", '<entry name="A"/>'),
    (13, "error", "`enabled` is neither True nor False", "write True or False", '<entry enabled="true"/>'),
    (
        14,
        "error",
        "The gatekeeper of a batch entry is not [user@]host[:port]",
        "write user@host or user@host:port",
        '<entry gridtype="batch slurm" gatekeeper="host host:9619"/>',
    ),
    (
        15,
        "warning",
        "The gatekeeper of a batch entry names no user",
        "write user@host; otherwise every frontend has to send a remote_username, or no pilot is submitted",
        '<entry gridtype="batch slurm" gatekeeper="login.example.org"/>',
    ),
    (16, "error", "`batch` names no batch system", "write for example `batch slurm`", '<entry gridtype="batch"/>'),
    (
        17,
        "error",
        "The batch system is not known",
        "use slurm, pbs, lsf, sge or condor",
        '<entry gridtype="batch slrum"/>',
    ),
    (
        18,
        "warning",
        "The gridtype is not known",
        "use condor, arc, ec2, gce or `batch SYSTEM`",
        '<entry gridtype="bacth slurm"/>',
    ),
    (
        19,
        "error",
        "The gridtype is not supported any more; reconfig stops",
        "use another one or disable the entry",
        '<entry gridtype="gt5"/>',
    ),
    (20, "warning", "The auth_method is not known", "use key_pair for a batch entry", '<entry auth_method="keypair"/>'),
    (21, "warning", "The verbosity is not known", "use std, fast, nodebug or check", '<entry verbosity="loud"/>'),
    (22, "warning", "The slots_layout is not known", "use fixed or partitionable", '<submit slots_layout="dynamic"/>'),
    (
        23,
        "warning",
        "The work_dir is neither a known word nor an absolute path",
        "use AUTO, Condor, CONDOR, OSG, TMPDIR, a dot or an absolute path",
        '<entry work_dir="scratch"/>',
    ),
    (
        24,
        "info",
        "A batch entry has no bosco_dir; HTCondor then takes `bosco`",
        "state it if the install is elsewhere",
        '<entry gridtype="batch slurm"/>',
    ),
    (
        25,
        "error",
        "bosco_dir is not a relative folder below the remote home",
        "write for example bosco-osg",
        '<entry bosco_dir="/home/u/bosco"/>',
    ),
    (
        26,
        "info",
        "`schedd_name` of an entry has no effect; glideinWMS spreads entries over the factory's schedds",
        "remove it",
        '<entry schedd_name="s@h"/>',
    ),
    (
        27,
        "warning",
        "An attribute of the entry, or a submit command, is empty",
        "give it a value or remove it",
        '<entry trust_domain=""/>',
    ),
    (
        28,
        "warning",
        "A batch entry has an auth_method other than key_pair",
        "use key_pair",
        '<entry gridtype="batch slurm" auth_method="grid_proxy"/>',
    ),
    (
        29,
        "error",
        "CONDOR_VERSION, CONDOR_OS and CONDOR_ARCH match no condor_tarball; reconfig stops",
        "add the tarball or change the attributes",
        '<attr name="CONDOR_VERSION" value="1.2.3"/>',
    ),
    # Limits.
    (30, "error", "A limit is not a whole number of 0 or more", "write a number", '<per_entry glideins="many"/>'),
    (
        31,
        "warning",
        "More idle pilots are allowed than pilots at all",
        "lower idle or raise glideins",
        '<per_entry glideins="10" idle="20"/>',
    ),
    (32, "warning", "No held pilot is allowed: the first one stops the entry", "allow some", '<per_entry held="0"/>'),
    (
        33,
        "warning",
        "One frontend may have more pilots than the whole entry",
        "lower the frontend's limit",
        '<per_entry glideins="10"/><default_per_frontend glideins="20"/>',
    ),
    (
        34,
        "warning",
        "The limit allows no pilots",
        "disable the entry instead, or raise it",
        '<per_entry glideins="0"/>',
    ),
    (35, "error", "A time or rate is not a number of 0 or more", "write a number, seconds", '<submit sleep="fast"/>'),
    (
        36,
        "warning",
        "Nothing can be submitted, released or removed in a cycle",
        "write 1 or more",
        '<submit cluster_size="0"/>',
    ),
    # Attributes.
    (40, "error", "An attribute has no value; reconfig stops", "add the value", '<attr name="A"/>'),
    (
        41,
        "error",
        "The type of an attribute is not string, int or expr",
        "correct the type",
        '<attr name="A" type="bool" value="1"/>',
    ),
    (
        42,
        "error",
        "An attribute of type int is no whole number",
        "correct the value or the type",
        '<attr name="A" type="int" value="8 GB"/>',
    ),
    (43, "error", "A flag is neither True nor False", "write True or False", '<attr name="A" const="yes" value="1"/>'),
    (
        44,
        "error",
        "publish, const and parameter contradict each other",
        "publish True needs const or parameter True; publish False needs both True",
        '<attr name="A" publish="False" const="False" value="1"/>',
    ),
    (
        45,
        "error",
        "An attribute stands twice with different definitions; reconfig stops",
        "remove one of them",
        '<attr name="A" value="1"/><attr name="A" value="2"/>',
    ),
    (
        46,
        "warning",
        "An attribute stands twice, equal (an error in the global list if the second has no const)",
        "remove one of them",
        '<attr name="A" value="1"/><attr name="A" value="1"/>',
    ),
    (
        47,
        "info",
        "An attribute's value is empty",
        "remove it unless it shall hide a global one",
        '<attr name="A" value=""/>',
    ),
    (
        48,
        "error",
        "An attribute's name is no name for the shell and HTCondor",
        "use letters, digits and underscore",
        '<attr name="MY SITE" value="a"/>',
    ),
    (
        49,
        "error",
        "A published value has a single quote, which breaks the pilot's shell scripts",
        "remove it",
        '<attr name="A" value="it\'s" glidein_publish="True"/>',
    ),
    (
        50,
        "warning",
        "A published string has a double quote, which ends it early in the pilot's HTCondor configuration",
        "remove it",
        '<attr name="A" value="a &quot;b&quot;" glidein_publish="True"/>',
    ),
    (
        51,
        "info",
        "A string has & < or >; a validation script that reports it writes broken XML",
        "avoid them",
        '<attr name="A" value="a &amp; b"/>',
    ),
    (
        52,
        "error",
        "`const` differs from the global attribute of that name; reconfig stops",
        "make them equal",
        '<attr name="USE_CCB" const="False" value="True"/>',
    ),
    (
        53,
        "warning",
        "`const` differs from the global attribute in another file, which reconfig does not see",
        "make them equal",
        '<attr name="USE_CCB" const="False" value="True"/>',
    ),
    (
        54,
        "error",
        "GLIDEIN_SINGULARITY_REQUIRE has a value that reconfig refuses",
        "use REQUIRED_GWMS, REQUIRED, PREFERRED, OPTIONAL or NEVER",
        '<attr name="GLIDEIN_SINGULARITY_REQUIRE" value="True"/>',
    ),
    (
        55,
        "warning",
        "GLIDEIN_USE_CVMFSEXEC stops reconfig for the whole factory while no cvmfsexec distribution is built",
        "remove it, or add a cvmfsexec_distro",
        '<attr name="GLIDEIN_USE_CVMFSEXEC" value="0"/>',
    ),
    (
        56,
        "error",
        "GLIDEIN_OVERLOAD_ENABLED is empty, or a percentage that is not const False and parameter True",
        "give it a value and those flags",
        '<attr name="GLIDEIN_OVERLOAD_ENABLED" value="10%"/>',
    ),
    (
        57,
        "warning",
        "A batch entry has no GLIDEIN_CPUS: its pilots offer one CPU",
        "add the attribute",
        '<entry gridtype="batch slurm"/>',
    ),
    (
        58,
        "warning",
        "The pilot plans to live longer than the batch system lets it",
        "lower GLIDEIN_Max_Walltime below batch_runtime",
        '<attr name="GLIDEIN_Max_Walltime" value="7200"/> with batch_runtime 3600',
    ),
    # Files.
    (
        60,
        "error",
        "A file has no absfname, or one that names no file; reconfig stops",
        "name the file",
        '<file absfname="/etc/"/>',
    ),
    (
        61,
        "error",
        "A file is not on this machine; reconfig stops",
        "put it there, or correct the path",
        '<file absfname="/missing.sh"/>',
    ),
    (62, "error", "A flag of a file is neither True nor False", "write True or False", '<file executable="yes"/>'),
    (
        63,
        "error",
        "A file is more than one of executable, wrapper, untar and config",
        "choose one",
        '<file executable="True" wrapper="True"/>',
    ),
    (
        64,
        "error",
        "An executable, wrapper or untar file needs const True",
        "remove const",
        '<file executable="True" const="False"/>',
    ),
    (
        65,
        "error",
        "The period is no whole number, or the file is not executable",
        "correct or remove period",
        '<file period="60"/>',
    ),
    (
        66,
        "error",
        "The type of a file is one the factory refuses",
        "use regular, source, wrapper, untar, exec or config",
        '<file type="run"/>',
    ),
    (
        67,
        "error",
        "The time of a file is one the factory refuses",
        "use setup, prejob, postjob, cleanup or periodic",
        '<file time="bogus"/>',
    ),
    (
        68,
        "error",
        "after_entry in an entry's file stops reconfig with a traceback",
        "remove it",
        '<entry><files><file after_entry="True"/></files></entry>',
    ),
    (
        69,
        "warning",
        "A file stands twice, or two files get the same name on the worker node",
        "remove one of them",
        '<file absfname="/a.sh"/><file absfname="/a.sh"/>',
    ),
    (
        70,
        "warning",
        "The factory ignores type and time of a file",
        "use executable, wrapper, untar and period",
        '<file type="exec:s" time="cleanup"/>',
    ),
    (71, "error", "relfname of a file is empty", "remove it", '<file absfname="/a.sh" relfname=""/>'),
    # Submit attributes.
    (80, "error", "A submit_attr has no name; reconfig stops", "add the name", '<submit_attr value="1"/>'),
    (
        81,
        "error",
        "glideinWMS writes this submit command itself; a second one stops reconfig or is undone",
        "remove it",
        '<submit_attr name="Universe" value="vanilla"/>',
    ),
    (82, "warning", "A submit_attr has no value and gets the value All", "add the value", '<submit_attr name="+A"/>'),
    (
        83,
        "error",
        "A submit command stands twice",
        "remove one of them",
        '<submit_attr name="request_memory" ../> twice',
    ),
    (
        84,
        "warning",
        "The submit command has no effect on this batch system",
        "use the one that has",
        '<submit_attr name="request_cpus" value="8"/> with batch slurm',
    ),
    (
        85,
        "error",
        "The value is no ClassAd expression; condor_submit refuses every pilot",
        "correct it",
        '<submit_attr name="+A" value="1 +"/>',
    ),
    (86, "info", "ClassAd expressions were not checked", "install HTCondor's Python bindings (classad2)", ""),
    (
        87,
        "error",
        "The queue or project has characters that change the remote submit command",
        "use letters, digits and _ . : @ / + - only",
        '<submit_attr name="batch_project" value="a b"/>',
    ),
    (
        88,
        "error",
        "The batch system cannot express this wall time",
        "write whole seconds, a multiple of 60",
        '<submit_attr name="batch_runtime" value="48h"/>',
    ),
    (
        89,
        "error",
        "The batch system cannot express this memory",
        "write MB as a whole number",
        '<submit_attr name="request_memory" value="0"/>',
    ),
    (
        90,
        "info",
        "The batch system rounds this wall time down to minutes",
        "write a multiple of 60",
        '<submit_attr name="batch_runtime" value="3601"/>',
    ),
    (
        91,
        "warning",
        "The value is the name of another attribute, not a string",
        "put it in double quotes",
        '<submit_attr name="+remote_queue" value="normal"/>',
    ),
    (
        92,
        "info",
        "remote_cerequirements needs a script of the site on the login host",
        "check that BATCH_local_submit_attributes.sh is in the bundle",
        '<submit_attr name="+remote_cerequirements" ../>',
    ),
    # Versions.
    (
        100,
        "warning",
        "A factory 3.11 refuses key_pair from a frontend 3.11 without CONTINUE_IF_NO_PROXY True",
        "add the attribute with const False and parameter True",
        '<entry auth_method="key_pair"/>',
    ),
    (
        101,
        "error",
        "A frontend 3.11 does not know the requirement username",
        "use key_pair and user@host",
        '<entry auth_method="key_pair+username"/>',
    ),
    (102, "error", "3.10 splits auth_method at + only", "use +", '<entry auth_method="key_pair;grid_proxy"/>'),
    (
        103,
        "warning",
        "3.11 ignores a credential's remote_username unless auth_method lists RemoteUsername",
        "put the user into the gatekeeper",
        '<entry gatekeeper="login.example.org"/>',
    ),
    # The factory's own settings.
    (
        110,
        "error",
        "Something of the factory's own settings is missing; reconfig stops",
        "add it",
        '<frontend name="f"/>',
    ),
)

RULES = {row[0]: Rule(*row) for row in _ROWS}


def codes_page() -> str:
    """The page that documents all codes, in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "<!-- SPDX-License-Identifier: Apache-2.0 -->"
    yield "<!-- Written by `gwms-bosco entry lint --codes`; change glideinwms_bosco/entry/lint_codes.py instead. -->"
    yield "# Findings of `gwms-bosco entry lint`"
    yield ""
    yield "*error*: reconfig or the pilots fail. *warning*: something is lost or has no effect. *info*: good to know."
    yield ""
    yield "| Code | Severity | What | Example | Remedy |"
    yield "|---|---|---|---|---|"
    for rule in RULES.values():
        example = f"`{rule.example}`" if rule.example else ""
        cells = (rule.code, rule.severity, rule.what, example, rule.remedy)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
