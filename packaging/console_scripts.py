# SPDX-License-Identifier: Apache-2.0
"""Write the programs that setup.cfg names, each of two lines that load nothing but the program's own module.

Those of setuptools look the package up in its metadata first. gwms_remote_gahp and the ssh beside it are started for
every ssh connection of the factory.
"""

from __future__ import annotations

import argparse
import configparser
from pathlib import Path

_PROGRAM = """\
{shebang}
import sys

from {module} import {function}

sys.exit({function}())
"""


def console_scripts(setup_cfg: Path) -> dict[str, tuple[str, str]]:
    """Read the table of programs.

    Returns:
        dict name -> (module, function).
    """
    parser = configparser.ConfigParser()
    parser.read_string(setup_cfg.read_text(encoding="utf-8"))
    found: dict[str, tuple[str, str]] = {}
    for line in parser["options.entry_points"]["console_scripts"].split("\n"):
        name, given, target = line.partition("=")
        if given:
            module, _, function = target.strip().partition(":")
            found[name.strip()] = (module, function)
    return found


def main() -> None:
    """Write every program into a folder."""
    parser = argparse.ArgumentParser(description="Write the programs that setup.cfg names.")
    parser.add_argument("--shebang", required=True, metavar="LINE", help="first line, with its #!")
    parser.add_argument("--setup-cfg", type=Path, default=Path("setup.cfg"), metavar="FILE")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, (module, function) in console_scripts(args.setup_cfg).items():
        path = args.folder / name
        path.unlink(missing_ok=True)
        path.write_text(_PROGRAM.format(shebang=args.shebang, module=module, function=function), encoding="utf-8")
        path.chmod(0o755)


if __name__ == "__main__":
    main()
