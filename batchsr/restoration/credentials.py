"""Content credentials (C2PA 2): a signed statement inside an output of what made it from what.

The statement says that the recording, named by its hash, was opened, and that a trained model added to it (or that it
was resampled, where nothing is made up). It is signed by a key of the archive's own; without one nothing changes.
Signing makes other bytes each time: a signed file proves itself by its signature and its hash, not by being made anew.

Source: C2PA Technical Specification 2; the work is done by c2pa-python.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import tempfile
import urllib.parse
import wave
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from batchsr import __version__, storage
from batchsr.audio.formats import FORMATS
from batchsr.audio.treatment import NOTHING_SYNTHETIC, Synthetic
from batchsr.display import printable, shown
from batchsr.errors import ConfigError, OutputError, TransientError

MIME: Final = MappingProxyType(
    {form.written.key: form.mime for form in FORMATS if form.written is not None and form.written.signable}
)
"""Formats that can hold a statement. Ogg, Opus, AIFF, CAF and W64 cannot."""
_NO_TIME: Final = "check the address and the network, or leave out --time-authority"
_COPY_BYTES: Final = 1 << 20
_MOST_PEM_BYTES: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Signing:
    """Who signs, and with what."""

    algorithm: str
    chain: bytes
    key: bytes = dataclasses.field(repr=False)
    time_authority: str | None = None

    @classmethod
    def load(cls, key: Path, chain: Path, time_authority: str | None = None) -> Signing:
        """Read a key and its chain of certificates (PEM, the signer's first), and try them on a moment of silence.

        Raises ConfigError for what is no key, needs a password, does not fit, or is not accepted by the library, as a
        self-signed certificate is not; and where the authority that is asked for the time is no URL, or gives none.
        """
        _library()
        if time_authority is not None:
            _check_address(time_authority)
        signing = cls(_algorithm(key), _read(chain), _read(key), time_authority)
        try:
            dataclasses.replace(signing, time_authority=None)._try()
        except _failures() as e:
            raise ConfigError(
                f"{shown(key)} with {shown(chain)} cannot sign: {printable(e)[:300]}",
                remedy="the chain begins with the key's own certificate, made for signing by an authority, and goes up",
            ) from e
        if time_authority is not None:
            try:
                signing._try()
            except _failures() as e:
                message = f"the authority {printable(time_authority)} gives no time: {printable(e)[:300]}"
                raise ConfigError(message, remedy=_NO_TIME) from e
        return signing

    def _try(self) -> None:
        """Sign a moment of silence."""
        silence, nothing = io.BytesIO(), _statement("trial", {"name": "none", "sha256": "0"}, NOTHING_SYNTHETIC)
        with wave.open(silence, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(48_000)
            file.writeframes(bytes(9_600))
        self._sign(silence, io.BytesIO(), "wav", nothing)

    def check(self, forms: list[str]) -> None:
        """Raise OutputError, before any work, for a format that cannot hold a statement."""
        for form in forms:
            if form not in MIME:
                raise OutputError(
                    f"{form} cannot hold content credentials",
                    remedy="sign outputs and copies in " + ", ".join(MIME) + ", or leave out --sign",
                )

    def sign(self, fd: int, path: Path, form: str, source: Mapping[str, Any], synthetic: Synthetic) -> None:
        """Put the statement into an open file, in place. `path` names it in messages, `source` has name and sha256.

        Raises OutputError where it cannot be, TransientError where the authority gives no time, ResourceError.
        """
        with (
            storage.output_errors(path, "sign"),
            os.fdopen(os.dup(fd), "r+b") as file,
            tempfile.TemporaryFile(dir=path.parent) as signed,
            tempfile.TemporaryFile(dir=path.parent) as unused,
        ):
            file.seek(0)
            statement = _statement(path.name, source, synthetic)
            try:
                self._sign(file, signed, form, statement)
            except _failures() as e:
                message = f"{shown(path)} cannot be signed: {printable(e)[:300]}"
                if self.time_authority is None:
                    raise OutputError(message) from e
                file.seek(0)
                try:  # without a time it can be, where it is the authority that fails
                    dataclasses.replace(self, time_authority=None)._sign(file, unused, form, statement)
                except _failures():
                    raise OutputError(message) from e
                message += f"; the authority {printable(self.time_authority)} gives no time"
                raise TransientError(message, remedy=_NO_TIME) from e
            signed.seek(0)
            file.seek(0)
            file.truncate()
            while block := signed.read(_COPY_BYTES):
                file.write(block)

    def _sign(self, file: BinaryIO | io.BytesIO, into: Any, form: str, statement: Mapping[str, Any]) -> None:
        c2pa = _library()
        info = c2pa.C2paSignerInfo(
            alg=self.algorithm.encode(),
            sign_cert=self.chain,
            private_key=self.key,
            ta_url=self.time_authority.encode() if self.time_authority else None,
        )
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(dict(statement)) as builder:
            builder.sign(signer, MIME[form], file, into)


def state(path: Path, form: str) -> str:
    """Return what the statement in a file is: `trusted` or `valid` (its authority is not on this machine), `broken`,
    `missing`; `unchecked` where the library is not installed."""
    try:
        c2pa = _library()
    except ConfigError:
        return "unchecked"
    try:
        with path.open("rb") as file, c2pa.Reader(MIME[form], file) as reader:
            found = str(reader.get_validation_state()).lower()
    except _failures() as e:
        return "missing" if "ManifestNotFound" in str(e) else "broken"
    except (OSError, KeyError):
        return "broken"
    return found if found in ("valid", "trusted") else "broken"


def _statement(title: str, source: Mapping[str, Any], synthetic: Synthetic) -> dict[str, Any]:
    """Return what is signed, in the words of C2PA."""
    made: dict[str, Any] = {
        "action": "c2pa.edited",
        "softwareAgent": {"name": "batchsr", "version": __version__},
        "description": synthetic.sentence or "Resampled; nothing in it is synthetic.",
    }
    if synthetic.source_type is not None:
        made["digitalSourceType"] = synthetic.source_type
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["source"]}}
    return {
        "title": printable(title),
        "claim_generator_info": [{"name": "batchsr", "version": __version__}],
        "ingredients": [
            {
                "label": "source",
                "title": printable(source["name"]),
                "relationship": "parentOf",
                "instance_id": f"urn:sha256:{source['sha256']}",
            }
        ],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [opened, made]}}],
    }


def _check_address(url: str) -> None:
    """Raise ConfigError for what is no address of a server."""
    try:
        parts = urllib.parse.urlsplit(url.encode("ascii").decode())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"{shown(url)} is no address of an authority for the time",
            remedy="--time-authority takes http://... or https://...",
        )


def _library() -> Any:
    try:
        import c2pa
    except ImportError as e:
        raise ConfigError("content credentials need c2pa-python", remedy="pip install 'batchsr[c2pa]'") from e
    return c2pa


def _failures() -> tuple[type[Exception], ...]:
    return (_library().C2paError, ValueError)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ConfigError(f"{shown(path)} cannot be read: {e.strerror}", remedy="check its name and permissions") from e
    if b"-----BEGIN" not in data or len(data) > _MOST_PEM_BYTES:
        raise ConfigError(f"{shown(path)} holds nothing in PEM", remedy="convert it with `openssl`")
    return data


def _algorithm(path: Path) -> str:
    """Return the name that C2PA has for signatures by a key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except TypeError as e:
        raise ConfigError(f"{shown(path)} needs a password", remedy="name a key without one") from e
    except ValueError as e:
        raise ConfigError(f"{shown(path)} is no private key", remedy="name a key in PEM (PKCS 8)") from e
    if isinstance(key, ec.EllipticCurvePrivateKey):
        found = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(key.curve.name)
    else:
        found = "ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else None
        found = "ps256" if isinstance(key, rsa.RSAPrivateKey) else found
    if found is None:
        raise ConfigError(f"{shown(path)} is a key of a kind that signs nothing here", remedy="use EC P-256 or Ed25519")
    return found
