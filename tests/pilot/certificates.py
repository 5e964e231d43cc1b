# SPDX-License-Identifier: Apache-2.0
"""A test CA, its folder as grid tools want it, and an HTTPS server on a node that asks for a client certificate."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.pilot.node import Node

_SERVER = """\
import http.server, ssl, sys
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        subject = self.connection.getpeercert()["subject"]
        name = [pair[1] for group in subject for pair in group if pair[0] == "commonName"][0]
        body = f"hello CN={name}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.load_verify_locations(sys.argv[2])
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def _openssl(*words: str, text: str = "") -> str:
    return subprocess.run(["openssl", *words], input=text, check=True, capture_output=True, text=True).stdout


class Authority:
    """A CA made for one test."""

    def __init__(self, folder: Path) -> None:
        """Make key and certificate."""
        folder.mkdir()
        self.folder = folder
        self.key, self.certificate = folder / "ca.key", folder / "ca.pem"
        subject = ("-subj", "/O=stand-in/CN=test CA", "-days", "2", "-nodes")
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", *subject, "-keyout", str(self.key), "-out", str(self.certificate)
        )

    def write_ca_folder(self, folder: Path, crl_days: int = 7) -> None:
        """Write the certificate and a revocation list under their hash. A list of -1 days has expired."""
        folder.mkdir()
        name = _openssl("x509", "-in", str(self.certificate), "-noout", "-hash").strip()
        (folder / f"{name}.0").write_bytes(self.certificate.read_bytes())
        (self.folder / "index").write_text("")
        (self.folder / "config").write_text(
            f"[ca]\ndefault_ca=one\n[one]\ndatabase={self.folder}/index\ndefault_md=sha256\n"
        )
        how = ["-crlhours", str(24 * crl_days)]
        if crl_days < 0:
            how = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"]
        signing = ["-keyfile", str(self.key), "-cert", str(self.certificate), "-config", str(self.folder / "config")]
        _openssl("ca", "-gencrl", *signing, *how, "-out", str(folder / f"{name}.r0"))

    def write_credential(self, path: Path, name: str, days: int = 1, address: str = "127.0.0.1") -> None:
        """Write certificate and key of a common name into one file of its owner's; `address` is a server's."""
        request, key, extensions = (self.folder / f"{name}.{kind}" for kind in ("csr", "key", "ext"))
        extensions.write_text(f"subjectAltName=IP:{address}\n")
        asking = ["-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        _openssl("req", "-new", *asking, "-keyout", str(key), "-out", str(request))
        signing = ["-CA", str(self.certificate), "-CAkey", str(self.key), "-CAcreateserial", "-days", str(days)]
        certificate = _openssl("x509", "-req", "-in", str(request), *signing, "-extfile", str(extensions))
        path.touch(mode=0o600)
        path.write_text(certificate + key.read_text())


@contextlib.contextmanager
def server(node: Node, authority: Authority, folder: Path) -> Iterator[str]:
    """Run the server on a node, and give its address; `folder` is seen by the node."""
    credential, certificate = folder / "server.pem", folder / "server-ca.pem"
    authority.write_credential(credential, "localhost")
    certificate.write_bytes(authority.certificate.read_bytes())
    # As root, which reads the key: the server stands for another machine's.
    with node.start(["python3", "-c", _SERVER, str(credential), str(certificate)], user=0) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield f"https://127.0.0.1:{port}/"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
