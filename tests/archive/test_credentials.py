"""A signed output says inside itself what made it from what; a file that was changed since does not."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rig
import soundfile
from click.testing import CliRunner, Result

pytest.importorskip("c2pa", reason="content credentials need batchsr[c2pa]")

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batchsr.archive import explain
from batchsr.audio.files import probe
from batchsr.cli import cli
from batchsr.errors import ConfigError, OutputError, TransientError
from batchsr.models.resample import Resample
from batchsr.restoration import credentials
from batchsr.restoration.credentials import MIME, Signing
from batchsr.restoration.single import restore_one
from batchsr.settings.profile import Settings

PEM = serialization.Encoding.PEM
NOW = datetime.datetime.now(datetime.UTC)


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, authority: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """One that is good for signing content, or, of its own making, for certifying others."""
    own = name == issuer
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(own, None), True)
        .add_extension(x509.KeyUsage(digital_signature=not own, key_cert_sign=own, crl_sign=own, **usage), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if not own:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False
        )
    return builder.sign(authority, hashes.SHA256())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key, and its chain of certificates, by a small authority."""
    folder = tmp_path_factory.mktemp("authority")
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    own = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(own)
    chain = [certificate("signer", key, "root", authority), certificate("root", authority, "root", authority)]
    (folder / "chain.pem").write_bytes(b"".join(one.public_bytes(PEM) for one in chain))
    (folder / "self.pem").write_bytes(certificate("signer", key, "signer", key).public_bytes(PEM))
    return folder / "key.pem", folder / "chain.pem"


def noise(path: Path) -> Path:
    soundfile.write(path, np.random.default_rng(1).uniform(-0.3, 0.3, 4_000), 8_000)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def restored(source: Path, output: Path, form: str, signing: Signing | None) -> Any:
    settings = Settings(format=form, subtype={"mp3": "MPEG_LAYER_III"}.get(form, "PCM_24"))
    return restore_one(source, output, settings, Model, overwrite=True, on_windows=lambda *_: None, signing=signing)


class Model(Resample):
    """Plain resampling under the name of a model that makes things up."""

    def __init__(self) -> None:
        super().__init__()
        self.about = dataclasses.replace(self.about, label="FlashSR", synthesises=True)
        self.identity = dataclasses.replace(self.identity, variant="tiny")


def manifest(path: Path, form: str) -> dict[str, Any]:
    with path.open("rb") as file, c2pa.Reader(MIME[form], file) as reader:
        document = json.loads(reader.json())
    found: dict[str, Any] = document["manifests"][document["active_manifest"]]
    return found


@pytest.mark.parametrize("form", list(MIME))
def test_a_signed_output_names_its_source_and_what_is_synthetic_and_its_sound_stays(
    tmp_path: Path, keys: tuple[Path, Path], form: str
) -> None:
    source = noise(tmp_path / "a.wav")
    plain, signed = tmp_path / f"plain.{form}", tmp_path / f"signed.{form}"
    restored(source, plain, form, None)
    done = restored(source, signed, form, Signing.load(*keys))
    assert credentials.state(signed, form) == "valid"
    assert credentials.state(plain, form) == "missing"
    said = manifest(signed, form)
    assert said["ingredients"][0]["instance_id"] == f"urn:sha256:{done.source_sha256}"
    assert said["ingredients"][0]["title"] == "a.wav"
    opened, made = said["assertions"][0]["data"]["actions"]
    assert (opened["action"], made["action"]) == ("c2pa.opened", "c2pa.edited")
    assert made["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert made["description"] == done.report["synthetic"]["sentence"]
    assert any("signed statement" in sentence for sentence in explain.sentences(done.report))
    assert done.report["credentials"] == {"format": "c2pa", "algorithm": "es256"}
    assert probe(signed).frames == probe(plain).frames == 24_000
    assert np.array_equal(soundfile.read(signed)[0], soundfile.read(plain)[0])


@pytest.mark.parametrize("form", list(MIME))
def test_one_changed_sample_breaks_the_statement(tmp_path: Path, keys: tuple[Path, Path], form: str) -> None:
    output = tmp_path / f"b.{form}"
    restored(noise(tmp_path / "a.wav"), output, form, Signing.load(*keys))
    data = bytearray(output.read_bytes())
    data[-500 if form != "wav" else data.index(b"data") + 600] ^= 1
    output.write_bytes(data)
    assert credentials.state(output, form) == "broken"


def test_a_batch_is_signed_with_its_copies_and_verified(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    db = tmp_path / "queue.db"
    rig.enqueue(db, [noise(tmp_path / "a.wav")], tmp_path / "out", settings={"also": "mp3,flac"})
    assert rig.work(db, options=dataclasses.replace(rig.OPTIONS, signing=Signing.load(*keys))).done == 1
    done = run("--db", db, "--json", "verify")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["credentials"] == "valid"
    for path in (tmp_path / "out").glob("a_upsampled.*"):
        if path.suffix != ".json":
            assert credentials.state(path, path.suffix[1:]) == "valid", path


def test_upsample_signs_and_without_a_key_nothing_changes(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    noise(tmp_path / "a.wav")
    common = ("upsample", tmp_path / "a.wav", "--model", "resample")
    done = run(*common, "-o", tmp_path / "s.wav", "--sign", keys[0], "--cert", keys[1])
    assert done.exit_code == 0, done.output
    assert credentials.state(tmp_path / "s.wav", "wav") == "valid"
    assert "digitalSourceType" not in json.dumps(manifest(tmp_path / "s.wav", "wav")), "nothing of it is made up"
    for name in ("x.wav", "y.wav"):
        assert run(*common, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "y.wav").read_bytes()
    assert "credentials" not in json.loads((tmp_path / "x.wav.json").read_text())


@pytest.mark.parametrize("form", ["ogg", "opus", "aiff", "caf", "w64"])
def test_a_format_that_holds_no_statement_is_refused_by_name_before_any_work(
    tmp_path: Path, keys: tuple[Path, Path], form: str
) -> None:
    noise(tmp_path / "a.wav")
    options = ("--model", "resample", "--sign", keys[0], "--cert", keys[1])
    done = run("upsample", tmp_path / "a.wav", "-o", tmp_path / f"b.{form}", *options)
    assert isinstance(done.exception, OutputError)
    assert form in str(done.exception)
    assert not (tmp_path / f"b.{form}").exists()


def test_keys_that_cannot_sign_are_refused_at_the_start_with_the_reason(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    key, chain = keys
    with pytest.raises(ConfigError, match="cannot sign"):
        Signing.load(key, chain.with_name("self.pem"))
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other.pem").write_bytes(
        other.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "locked.pem").write_bytes(
        other.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    )
    (tmp_path / "text.pem").write_text("no key")
    for bad, words in (
        ("other.pem", "cannot sign"),
        ("locked.pem", "password"),
        ("text.pem", "PEM"),
        ("none.pem", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            Signing.load(tmp_path / bad, chain)
    shutil.copy(chain, tmp_path / "chain-as-key.pem")
    with pytest.raises(ConfigError, match="no private key"):
        Signing.load(tmp_path / "chain-as-key.pem", chain)
    assert "go together" in str(run("work", "--sign", key).exception)


def test_the_key_is_nowhere_in_what_is_told(keys: tuple[Path, Path]) -> None:
    assert "PRIVATE" not in repr(Signing.load(*keys))


ADDRESSES = ("", "ftp://x/", "no url", "http://a b/", "http://[::1", "http://x:port/", "\ud800", "/etc/passwd")


@pytest.mark.parametrize("url", ADDRESSES, ids=ascii)
def test_what_is_no_address_of_an_authority_is_refused_by_name(keys: tuple[Path, Path], url: str) -> None:
    with pytest.raises(ConfigError, match="no address of an authority"):
        Signing.load(*keys, url)


def test_an_authority_that_gives_no_time_is_named_and_the_file_is_tried_again(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    nobody = "http://127.0.0.1:9/"
    with pytest.raises(ConfigError, match=f"the authority {nobody} gives no time.*leave out --time-authority"):
        Signing.load(*keys, nobody)
    signing = dataclasses.replace(Signing.load(*keys), time_authority=nobody)
    with pytest.raises(TransientError, match="gives no time"):
        restored(noise(tmp_path / "a.wav"), tmp_path / "a_up.wav", "wav", signing)
    assert not (tmp_path / "a_up.wav").exists()
