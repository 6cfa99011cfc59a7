"""Certificates made on the fly, for servers and clients that speak TLS in tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> Path:
    """Fill *folder* with authorities (``ca``, ``other``), and by ``ca`` a certificate of 127.0.0.1 (``server``).

    Each is a ``.crt`` and a ``.key``. The server's may be shown by a client as well.
    """

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # Python 3.13 and later want it said
    for name in ("ca", "other"):
        subject = ["-subj", f"/CN=samovar test {name}", "-days", "2", *usage]
        openssl("req", "-x509", *key, *subject, "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl("req", *key, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"]
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
    return folder
