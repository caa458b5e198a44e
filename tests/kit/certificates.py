"""Certificates for tests of TLS."""

from __future__ import annotations

import datetime
from typing import NamedTuple, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = Union[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey]


class Pair(NamedTuple):
    """A private key and the certificate that goes with it, in PEM."""

    key: bytes
    chain: bytes


class Authority:
    """Vouches for the certificates that it issues, on P-256, which every TLS library knows."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.root = self._sign(self._name, self._key, None, (-24.0, 24.0))

    def issue(
        self,
        name: str,
        *hosts: str,
        valid: tuple[float, float] = (-24.0, 24.0),
        key: Key | None = None,
    ) -> Pair:
        """A certificate for the hosts, valid from and until so many hours from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        return Pair(_text(key), self._sign(subject, key, names, valid))

    def _sign(
        self,
        subject: x509.Name,
        key: Key,
        names: x509.SubjectAlternativeName | None,
        valid: tuple[float, float],
    ) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(hours=valid[0]))
            .not_valid_after(now + datetime.timedelta(hours=valid[1]))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), True)
        )
        if names is not None:
            builder = builder.add_extension(names, False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def self_signed(valid: tuple[float, float] = (-24.0, 24.0)) -> Pair:
    """A self-signed certificate for localhost, as AutoMTLS uses."""
    key = ec.generate_private_key(ec.SECP521R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "HashiCorp"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost"),
        ]
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(hours=valid[0]))
        .not_valid_after(now + datetime.timedelta(hours=valid[1]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA512())
    )
    return Pair(_text(key), signed.public_bytes(serialization.Encoding.PEM))


def field(pair: Pair) -> str:
    """The certificate as it stands in a handshake line."""
    import base64

    certificate = x509.load_pem_x509_certificate(pair.chain)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return base64.b64encode(der).rstrip(b"=").decode()


def _text(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
