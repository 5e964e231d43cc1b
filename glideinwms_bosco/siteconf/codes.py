# SPDX-License-Identifier: Apache-2.0
"""The findings of `siteconf check`: one row each. A code keeps its meaning for ever; a number is never used again.

Where the rules stand in the readers is said in `SOURCES`; what is about regular expressions was tried with GCC 12's
libstdc++ and with Python 3.9 and 3.11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PREFIX = "BOSCO-SITECONF-"
SEVERITIES = ("error", "warning")
CMSSW, WMCORE, VALIDATION = "CMSSW", "WMCore", "CMS validation"
READERS = (CMSSW, WMCORE, VALIDATION)
_ALL = READERS
_BOTH = (CMSSW, WMCORE)

SOURCES = {
    "config": "cmssw FWCore/Services/src/SiteLocalConfigService.cc",
    "locator": "cmssw FWCore/Catalog/src/FileLocator.cc",
    "input": "cmssw FWCore/Catalog/src/InputFileCatalog.cc",
    "wmconfig": "WMCore src/python/WMCore/Storage/SiteLocalConfig.py",
    "wmcatalog": "WMCore src/python/WMCore/Storage/RucioFileCatalog.py",
    "wmtrivial": "WMCore src/python/WMCore/Storage/TrivialFileCatalog.py",
    "wmstageout": "WMCore src/python/WMCore/Storage/StageOutMgr.py, Registry.py",
    "wmruntime": "WMCore src/python/WMCore/WMRuntime/Scripts/SetupCMSSWPset.py",
    "frontier": "frontier client, keys of the connect string",
    "siteconf": "CMS SITECONF rules (TWiki SiteConfInGitlab), cms-sw/siteconf",
    "ours": "limits of this project",
}


@dataclass(frozen=True)
class Rule:
    """What one code stands for.

    Attributes:
        number: the code's number.
        severity: `error`: a reader refuses it, or a job cannot do its work; `warning`: something is lost or differs.
        readers: who is hit, of READERS.
        what: what is found and what comes of it, as a sentence without its stop.
        remedy: what to do.
        source: key of SOURCES.
    """

    number: int
    severity: str
    readers: tuple[str, ...]
    what: str
    remedy: str
    source: str

    @property
    def code(self) -> str:
        """`BOSCO-SITECONF-07`."""
        return f"{PREFIX}{self.number:02d}"


_ROWS = (
    # Files.
    (
        1,
        "error",
        _ALL,
        "A file cannot be read as what it should be",
        "correct the file",
        "config",
    ),
    (
        2,
        "error",
        _ALL,
        "There is no JobConfig/site-local-config.xml where readers look",
        "point SITECONFIG_PATH at the folder that has JobConfig",
        "config",
    ),
    (
        3,
        "error",
        _ALL,
        "Symbolic links lead in a circle, or to nothing",
        "make the link point at a folder that exists; readers follow it physically",
        "config",
    ),
    (
        4,
        "error",
        _BOTH,
        "The site has no storage.json of its own where readers look, and refers to it",
        "put it into the site's folder; a subsite uses that of its site, one level up",
        "config",
    ),
    # site-local-config.xml.
    (
        5,
        "error",
        _BOTH,
        "There are several <site>: CMSSW adds them up, WMCore takes the last",
        "leave one",
        "wmconfig",
    ),
    (
        6,
        "error",
        _ALL,
        "<site> has no name",
        'write <site name="T2_XX_Name">',
        "wmconfig",
    ),
    (
        7,
        "error",
        (CMSSW,),
        "<subsite> is not empty; CMSSW refuses the file",
        'write <subsite name="..."/> and put all else behind it',
        "config",
    ),
    (
        8,
        "error",
        (WMCORE,),
        "<subsite> stands behind <stage-out>, which WMCore then looks up as the site's",
        "put it first in <site>",
        "wmconfig",
    ),
    (
        9,
        "error",
        _BOTH,
        "<subsite> has no name, or an empty one, which CMSSW takes for none and WMCore for one",
        "give it a name, or remove it",
        "config",
    ),
    (
        10,
        "error",
        (CMSSW,),
        "There is neither <frontier-connect> nor <local-connect>: no conditions",
        "add one of them to <calib-data>",
        "config",
    ),
    (
        11,
        "error",
        (CMSSW,),
        "There are both <frontier-connect> and <local-connect>; CMSSW refuses the file",
        "leave one of them",
        "config",
    ),
    (
        12,
        "error",
        (WMCORE, VALIDATION),
        "<event-data> has no <catalog>; WMCore refuses the file",
        'add <catalog url="trivialcatalog_file:PATH?protocol=NAME"/>',
        "wmconfig",
    ),
    (
        13,
        "error",
        (WMCORE, VALIDATION),
        "The URL of a catalog is not trivialcatalog_file:PATH?protocol=NAME",
        "correct it",
        "wmtrivial",
    ),
    (
        14,
        "error",
        (WMCORE, VALIDATION),
        "There is no <local-stage-out>; WMCore refuses the file",
        "add it, with command, catalog and phedex-node, even if only <stage-out> is used",
        "wmconfig",
    ),
    (
        15,
        "warning",
        (WMCORE, VALIDATION),
        "<local-stage-out> lacks command, catalog or phedex-node",
        "add it; steps with pile-up look up phedex-node",
        "wmruntime",
    ),
    (
        16,
        "error",
        (WMCORE,),
        "There is no <stage-out> with a method; WMCore writes nothing",
        'add <method volume="..." protocol="..."/>',
        "wmconfig",
    ),
    (
        17,
        "error",
        _BOTH,
        "A catalog or method has no volume or no protocol",
        "name both; they stand in storage.json",
        "wmstageout",
    ),
    (
        18,
        "error",
        (WMCORE,),
        "<stage-out> has an element other than <method>; WMCore takes it for a method",
        "remove it",
        "wmconfig",
    ),
    (
        19,
        "error",
        (WMCORE,),
        "The command of a stage-out is none of WMCore's",
        "use gfal2, xrdcp, cp, awss3, srmv2, srmv2-lcg, stageout-xrdcp-fnal or vandy",
        "wmstageout",
    ),
    # Site, volume, protocol.
    (
        20,
        "error",
        _BOTH,
        "The storage.json of another site is not in the tree",
        "put a copy or link of it beside the own site's folder",
        "config",
    ),
    (
        21,
        "error",
        _BOTH,
        "The storage.json of another site is beside the link, not beside what the link points at",
        "copy or link it beside the target; readers resolve the link first (cms-sw/cmssw #42801)",
        "config",
    ),
    (
        22,
        "error",
        _BOTH,
        "The volume is not in the site's storage.json",
        "correct the volume, or add an item for it",
        "locator",
    ),
    (
        23,
        "error",
        _BOTH,
        "The protocol is not in the volume's item of storage.json",
        "correct the protocol, or add it to the item",
        "locator",
    ),
    (
        24,
        "error",
        (CMSSW,),
        "<data-access> has no <catalog>; CMSSW 12_6 and newer refuse to open an LFN",
        'add <catalog volume="..." protocol="..."/>',
        "config",
    ),
    (
        25,
        "warning",
        _BOTH,
        "The same place stands twice; a failure is only tried again",
        "remove one of the two",
        "input",
    ),
    (
        26,
        "warning",
        (WMCORE,),
        "The volume of a stage-out has no rse: WMCore skips this stage-out",
        "give the volume its rse, or use another volume",
        "wmstageout",
    ),
    (
        27,
        "error",
        (WMCORE,),
        "No volume of any stage-out has an rse: WMCore writes nothing",
        "give one of them its rse",
        "wmstageout",
    ),
    (
        28,
        "error",
        _BOTH,
        "The name of another site is none that a folder beside the own site could have",
        "write a name such as T1_US_FNAL",
        "config",
    ),
    # storage.json.
    (
        30,
        "error",
        (WMCORE,),
        "The volume of a stage-out lacks the key rse; WMCore refuses the whole configuration",
        "add it, null if the volume has none",
        "wmcatalog",
    ),
    (
        31,
        "warning",
        _BOTH,
        "Two items are of the same site and volume: CMSSW takes the first, WMCore both",
        "make them one item",
        "wmcatalog",
    ),
    (
        32,
        "warning",
        _BOTH,
        "A protocol stands twice in an item; the second is tried only when nothing in the first fits",
        "make them one",
        "locator",
    ),
    (
        33,
        "error",
        _BOTH,
        "A protocol has neither prefix nor rules: without the key readers crash, an empty list gives no PFN",
        "give it one of them",
        "locator",
    ),
    (
        34,
        "warning",
        _BOTH,
        "A protocol has prefix and rules; the rules are not read",
        "leave one of them",
        "wmcatalog",
    ),
    (
        35,
        "error",
        (CMSSW,),
        "A prefix is empty: CMSSW crashes over the whole item",
        "write the prefix, or rules",
        "locator",
    ),
    (
        36,
        "error",
        (CMSSW,),
        "CMSSW cannot compile a rule's regular expression (ECMAScript)",
        "use what ECMAScript and Python share: no (?P<..>), no (?i), no look-behind, no bare {",
        "locator",
    ),
    (
        37,
        "error",
        (WMCORE,),
        "WMCore cannot compile a rule's regular expression (Python)",
        "use what ECMAScript and Python share",
        "wmcatalog",
    ),
    (
        38,
        "warning",
        _BOTH,
        "A rule's regular expression means different things to CMSSW and WMCore",
        "write it without that construct",
        "locator",
    ),
    (
        39,
        "error",
        _BOTH,
        "A rule's regular expression can run for ever",
        "no repeats in repeats such as (a+)+; let branches in a repeat begin differently",
        "locator",
    ),
    (
        40,
        "error",
        _BOTH,
        "A chain names a protocol that is not there: the rule never gives a PFN",
        "name a protocol of the same item, or remove the chain",
        "locator",
    ),
    (
        41,
        "error",
        _BOTH,
        "Chains lead in a circle: readers crash",
        "let one of the protocols stand without a chain",
        "locator",
    ),
    (
        43,
        "warning",
        _BOTH,
        "A result has a $number that its regular expression has no group for; it stays as it is",
        "correct the number, or add the group",
        "locator",
    ),
    (
        44,
        "warning",
        (VALIDATION,),
        "The access of a protocol is none that CMS knows",
        "use global-rw, global-ro, site-rw, site-ro or virtual",
        "siteconf",
    ),
    (
        45,
        "warning",
        (WMCORE,),
        "A stage-out goes through a protocol that is read-only or virtual",
        "use a protocol with access global-rw or site-rw",
        "siteconf",
    ),
    (
        46,
        "warning",
        (VALIDATION,),
        "The type of a volume is neither DISK nor TAPE",
        "use DISK or TAPE",
        "siteconf",
    ),
    (
        47,
        "warning",
        (WMCORE,),
        "A group before the last may be empty: WMCore leaves it out and counts the rest anew",
        "move optional text out of groups, or write two rules",
        "wmcatalog",
    ),
    (
        48,
        "warning",
        (CMSSW,),
        "A catalog of <data-access> goes through a virtual protocol, which serves only chains",
        "use a protocol that files can be opened through",
        "siteconf",
    ),
    (
        49,
        "error",
        _BOTH,
        "There is more in the tree than a check can look through",
        "shorten it; production sites have some dozen catalogs, methods and rules",
        "ours",
    ),
    # Conditions and source-config.
    (
        50,
        "error",
        (CMSSW,),
        "<frontier-connect> has no <server>",
        "add the Frontier servers, such as http://cmsfrontier.cern.ch:8000/FrontierInt",
        "frontier",
    ),
    (
        51,
        "warning",
        (CMSSW,),
        "Clients ask the Frontier servers directly when all proxies fail, as nothing forbids it",
        'add <failover toserver="no"/> and name backup proxies',
        "frontier",
    ),
    (
        52,
        "warning",
        (CMSSW,),
        "There is no proxy, backup proxy or proxyconfig: every job asks the Frontier servers directly",
        "name the site's squid",
        "frontier",
    ),
    (
        53,
        "warning",
        (CMSSW,),
        "A proxy or server stands twice in its list",
        "remove one of the two",
        "frontier",
    ),
    (
        54,
        "error",
        (CMSSW,),
        "A URL of <frontier-connect> is none that the connect string can hold",
        "write http://HOST:PORT, servers with their servlet; no blanks, no ( or )",
        "config",
    ),
    (
        55,
        "warning",
        (CMSSW,),
        "A setting of <frontier-connect> has a value that the Frontier client does not know",
        'use balance="proxies" or "servers", ipfamily="0", "4" or "6"',
        "frontier",
    ),
    (
        57,
        "warning",
        (CMSSW,),
        "<local-connect> has neither prefix nor suffix: connect strings stay as they are",
        'write <connectString prefix="..." suffix="..."/>',
        "config",
    ),
    (
        58,
        "warning",
        (CMSSW,),
        "A number or boolean of <source-config> is none: CMSSW silently takes 0 or false",
        "correct it",
        "config",
    ),
    # PhEDEx/storage.xml.
    (
        60,
        "warning",
        _BOTH,
        "A catalog URL names a protocol without rules in the site's own PhEDEx/storage.xml",
        "correct the protocol; old releases and file operations of WMCore use it",
        "wmtrivial",
    ),
    # Names.
    (
        70,
        "error",
        (VALIDATION,),
        "The name of the site is no name of a CMS site",
        "write it as T2_XX_Name",
        "siteconf",
    ),
    (
        71,
        "warning",
        (VALIDATION,),
        "The site's folder has another name than the site",
        "rename one of the two; other sites find its storage.json by the site's name",
        "siteconf",
    ),
)

RULES = {row[0]: Rule(*row) for row in _ROWS}


@dataclass(frozen=True)
class Finding:
    """One finding; `line` 0 where no line can be named.

    Names stand in it as the files have them, so a terminal must not get it as it is.
    """

    file: str
    line: int
    number: int
    message: str

    @property
    def rule(self) -> Rule:
        """The row of the table."""
        return RULES[self.number]

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        hit = ", ".join(self.rule.readers)
        return f"{where}: {self.rule.severity}: [{self.rule.code}] {self.message} ({hit}); {self.rule.remedy}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        rule = self.rule
        return {
            "file": self.file,
            "line": self.line,
            "severity": rule.severity,
            "code": rule.code,
            "readers": list(rule.readers),
            "message": self.message,
            "remedy": rule.remedy,
        }


def codes_page() -> str:
    """The page that documents all codes, in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "<!-- SPDX-License-Identifier: Apache-2.0 -->"
    yield "<!-- Written by `gwms-bosco siteconf check --codes`; change glideinwms_bosco/siteconf/codes.py instead. -->"
    yield "# Findings of `gwms-bosco siteconf check`"
    yield ""
    yield "*error*: a reader refuses it, or a job cannot do its work. *warning*: something is lost, or readers differ."
    yield ""
    yield "| Code | Severity | Hits | Cause | Remedy | Source |"
    yield "|---|---|---|---|---|---|"
    for rule in RULES.values():
        cells = (rule.code, rule.severity, ", ".join(rule.readers), rule.what, rule.remedy, SOURCES[rule.source])
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
