"""Keys and certificates of the test cluster, and the kubeconfig files that carry them.

One authority signs everything: the API server's certificate, and one for each client, whose common name and
organization are its user and group.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster import layout

VALID = timedelta(days=365)


class Authority:
    """A certificate authority that exists in memory only: the cluster lives no longer than its state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("gpt-run-test-authority", None)
        self.certificate = self._sign(self._name, self._key, authority=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ca.crt").write_bytes(_pem(self.certificate))

    def server(self, name: str, addresses: list[str], hosts: list[str]) -> None:
        """Write NAME.crt and NAME.key for a server."""
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(address)) for address in addresses]
        names += [x509.DNSName(host) for host in hosts]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(name, None), key, names=names)
        self._write(name, certificate, key)

    def client(self, name: str, user: str, group: str | None = None) -> None:
        """Write NAME.crt and NAME.key for a client, and NAME.kubeconfig with both in it."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(user, group), key)
        self._write(name, certificate, key)
        (self.folder / f"{name}.kubeconfig").write_text(self._kubeconfig(certificate, key))

    def signing_key(self, name: str) -> None:
        """Write NAME.key and NAME.pub, with which tokens are signed and checked."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / f"{name}.key").write_bytes(_key_pem(key))
        (self.folder / f"{name}.pub").write_bytes(public)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        names: list[x509.GeneralName] | None = None,
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            # Machines of a cluster share one clock here, but a clock may be set back by a moment.
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + VALID)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (self.folder / f"{name}.crt").write_bytes(_pem(certificate))
        (self.folder / f"{name}.key").write_bytes(_key_pem(key))

    def _kubeconfig(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> str:
        server = f"https://{layout.CONTROL}:{layout.API_PORT}"
        cluster = {"server": server, "certificate-authority-data": _base64(_pem(self.certificate))}
        user = {"client-certificate-data": _base64(_pem(certificate)), "client-key-data": _base64(_key_pem(key))}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        return json.dumps(config, indent=1)  # JSON is YAML


def _name(common: str, organization: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
