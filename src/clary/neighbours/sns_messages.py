"""What SNS sends: the JSON around a message, and the signature that receivers may check.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html and
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html have the form.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

PUBLIC_PATH = "/_clary/sns"
"""Where links in messages lead: requests there need no signature."""

_VALID_FOR = timedelta(days=3650)
_SIGNED = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn")
"""Members that a signature covers, where a message has them, in this order; then ``Type``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is the same for all subscribers of a message."""

    id: str
    topic_arn: str
    at: datetime
    text: str
    subject: str | None = None
    attributes: Mapping[str, Any] | None = None
    """As SNS shows them: ``{"name": {"Type": ..., "Value": ...}}``."""


class Signer:
    """Signs messages with a key of this server, made when it is first needed.

    Args:
        directory: Keeps the key (0600) and its certificate.
    """

    def __init__(self, directory: Path) -> None:
        self._key_file = directory / "sns-key.pem"
        self._certificate_file = directory / "sns-certificate.pem"
        self._key: rsa.RSAPrivateKey | None = None

    def certificate(self) -> bytes:
        """Return the certificate, PEM."""
        self._load()
        return self._certificate_file.read_bytes()

    def certificate_name(self) -> str:
        """Return the name that the certificate has in links."""
        digest = hashlib.sha256(self.certificate()).hexdigest()[:32]
        return f"SimpleNotificationService-{digest}.pem"

    def sign(self, message: Mapping[str, Any], *, version: str) -> str:
        """Return the signature of a message's JSON; version "1" is SHA-1, "2" SHA-256."""
        algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303 - SNS's own
        signature = self._load().sign(text_to_sign(message), padding.PKCS1v15(), algorithm)
        return base64.b64encode(signature).decode()

    def _load(self) -> rsa.RSAPrivateKey:
        if self._key is None:
            if not (self._key_file.exists() and self._certificate_file.exists()):
                self._make()
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
            assert isinstance(key, rsa.RSAPrivateKey)
            self._key = key
        return self._key

    def _make(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + _VALID_FOR)
            .sign(key, hashes.SHA256())
        )
        self._key_file.touch(mode=0o600)
        self._key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self._certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def text_to_sign(message: Mapping[str, Any]) -> bytes:
    """Return what a signature covers: names and values, each on a line."""
    lines = [line for name in _SIGNED if name in message for line in (name, message[name])]
    return "".join(f"{line}\n" for line in (*lines, "Type", message["Type"])).encode()


def notification(
    message: Message, *, subscription_arn: str, base_url: str, signer: Signer, version: str
) -> dict[str, Any]:
    """Return the JSON of a message for one subscriber."""
    facts: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": message.id,
        "TopicArn": message.topic_arn,
        **({"Subject": message.subject} if message.subject else {}),
        "Message": message.text,
        "Timestamp": _timestamp(message.at),
    }
    unsubscribe = {"Action": "Unsubscribe", "SubscriptionArn": subscription_arn}
    return {
        **facts,
        "SignatureVersion": version,
        "Signature": signer.sign(facts, version=version),
        "SigningCertURL": f"{base_url}{PUBLIC_PATH}/{signer.certificate_name()}",
        "UnsubscribeURL": f"{base_url}{PUBLIC_PATH}?{urlencode(unsubscribe)}",
        **({"MessageAttributes": message.attributes} if message.attributes else {}),
    }


def confirmation(
    message_id: str,
    topic_arn: str,
    token: str,
    *,
    at: datetime,
    base_url: str,
    signer: Signer,
    version: str,
) -> dict[str, Any]:
    """Return the JSON that asks a new subscriber whether it wants to be one."""
    confirm = {"Action": "ConfirmSubscription", "TopicArn": topic_arn, "Token": token}
    facts = {
        "Type": "SubscriptionConfirmation",
        "MessageId": message_id,
        "Token": token,
        "TopicArn": topic_arn,
        "Message": (
            f"You have chosen to subscribe to the topic {topic_arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        ),
        "SubscribeURL": f"{base_url}{PUBLIC_PATH}?{urlencode(confirm)}",
        "Timestamp": _timestamp(at),
    }
    return {
        **facts,
        "SignatureVersion": version,
        "Signature": signer.sign(facts, version=version),
        "SigningCertURL": f"{base_url}{PUBLIC_PATH}/{signer.certificate_name()}",
    }


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
