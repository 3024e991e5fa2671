"""Certificates for tests: an authority of our own, and what it signs for 127.0.0.1."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
HOURS = datetime.timedelta(hours=12)
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8


class Authority:
    """Writes `NAME.ca.pem` into a folder, and certificates it signs beside it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, _named(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)
        self.ca = folder / f"{name}.ca.pem"
        self.ca.write_bytes(self.certificate.public_bytes(PEM))

    def issue(self, name: str, password: bytes | None = None) -> tuple[Path, Path]:
        """Files of a certificate and of its key (PKCS#8), for server or client use."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(name), key.public_key(), authority=False)
        chain, private = self.folder / f"{name}.crt.pem", self.folder / f"{name}.key.pem"
        chain.write_bytes(certificate.public_bytes(PEM))
        hidden = serialization.NoEncryption()
        if password:
            hidden = serialization.BestAvailableEncryption(password)
        private.write_bytes(key.private_bytes(PEM, PKCS8, hidden))
        return chain, private

    def _sign(self, subject, public_key, authority):
        local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - HOURS)
            .not_valid_after(NOW + HOURS)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([local]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
