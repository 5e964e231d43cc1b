# SPDX-License-Identifier: Apache-2.0
"""The three configuration files of a bundle: blah.config, condor_config.ft-gahp and our own bosco.conf."""

from __future__ import annotations

import re

from glideinwms_bosco.bundle.layout import LAYOUTS
from glideinwms_bosco.bundle.request import BundleRequest
from glideinwms_bosco.errors import SourceError

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_./:,+=@%${}-]*")


def blah_config(shipped: bytes, request: BundleRequest) -> bytes:
    """Return HTCondor's blah.config with the settings of the bundle put in the place of its own.

    A key that the file assigns is replaced where it stands and any repetition of it dropped: sh takes the last line,
    but nothing says which one blahpd's own C reader takes. Unknown keys are appended.

    Raises:
        SourceError: the shipped file is not text.
    """
    try:
        lines = shipped.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError("blah.config of the HTCondor source is not text", "reinstall the package") from error
    wanted = _wanted(request)
    seen = set()
    result: list[str] = []
    for line in lines:
        match = _ASSIGNMENT.match(line)
        key = match.group(1) if match else ""
        if key not in wanted:
            result.append(line)
        elif key not in seen:
            seen.add(key)
            result.append(wanted[key])
    result += ["", "# Set by the site's description"]
    result += [line for key, line in wanted.items() if key not in seen]
    return ("\n".join(result) + "\n").encode("utf-8")


def _wanted(request: BundleRequest) -> dict[str, str]:
    layout = LAYOUTS[request.batch_system]
    values = dict((*layout.settings, *request.own_settings))
    values.update({setting.key: setting.value for setting in request.settings})
    if request.bin_path is not None and layout.bin_path_key:
        # The sge scripts call qsub, qstat, qdel and qacct by PATH; blah.config is sourced by each of them.
        search = layout.bin_path_key == "PATH"
        values[layout.bin_path_key] = f"{request.bin_path}:$PATH" if search else request.bin_path
    return {
        key: f"{key}={value}" if _NEEDS_NO_QUOTES.fullmatch(value) else f'{key}="{value}"'
        for key, value in sorted(values.items())
    }


def ft_gahp_config(request: BundleRequest) -> bytes:
    """Return condor_config.ft-gahp: sandbox/ and log/ lie beside versions/, so a switch of the link moves neither.

    Source: the settings condor_remote_cluster writes, without the password file: the gridmanager hands the ft-gahp a
    session (CREATE_CONDOR_SECURITY_SESSION).
    """
    home = f"$ENV(HOME)/{request.bosco_dir}"
    return (
        f"BOSCO_SANDBOX_DIR = {home}/sandbox\n"
        f"LOG = {home}/log\n"
        "FT_GAHP_LOG = $(LOG)/FTGahpLog\n"
        "SEC_CLIENT_AUTHENTICATION_METHODS = FS, PASSWORD\n"
        "USE_SHARED_PORT = False\n"
        "ENABLE_URL_TRANSFERS = False\n"
    ).encode("ascii")


def bosco_conf(request: BundleRequest) -> bytes:
    """Return etc/bosco.conf, which our own files on the login node read line by line, unexpanded."""
    lines = [f"batch_system={request.batch_system}", f"bosco_dir={request.bosco_dir}"]
    if request.bin_path is not None:
        lines.append(f"bin_path={request.bin_path}")
    return ("\n".join(lines) + "\n").encode("ascii")
