"""Makes the certificates."""

import subprocess
import tempfile
from pathlib import Path

from . import CA, CLIENT, OTHER, SELF_SIGNED, SERVER

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"]
DAYS = "36500"


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ca_key, key, request, certificate = (Path(folder, name) for name in ("ca", "key", "request", "certificate"))
        openssl("req", "-x509", *CURVE, "-keyout", ca_key, "-out", CA, "-days", DAYS, "-subj", "/CN=aioxide tests",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
        for path, name, names, usage in [
            (SERVER, "localhost", "DNS:localhost,IP:127.0.0.1,IP:::1", "serverAuth"),
            (OTHER, "other.example", "DNS:other.example", "serverAuth"),
            (CLIENT, "a client", "DNS:client.example", "clientAuth"),
        ]:
            extensions = Path(folder, "extensions")
            extensions.write_text(
                f"subjectAltName={names}\nextendedKeyUsage={usage}\nkeyUsage=digitalSignature\n"
                "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            )
            openssl("req", *CURVE, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
            openssl("x509", "-req", "-in", request, "-CA", CA, "-CAkey", ca_key, "-days", DAYS, "-sha256",
                    "-extfile", extensions, "-out", certificate)  # fmt: skip
            path.write_text(key.read_text() + certificate.read_text())
        openssl("req", "-x509", *CURVE, "-keyout", key, "-out", certificate, "-days", DAYS, "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost")  # fmt: skip
        SELF_SIGNED.write_text(key.read_text() + certificate.read_text())


main()
