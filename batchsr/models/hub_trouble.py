"""What is said when the hub cannot be asked or its answer cannot be used: a sentence and a remedy for each trouble.

Nothing of what the other side or a library said is repeated, since that may hold a token or a proxy's password.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

_TOKEN: Final = re.compile(r"[!-~]+")
log = logging.getLogger(__name__)


class HubError(Exception):
    """The hub could not be asked, or its answer cannot be used. `why` and `remedy` are sentences for people."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


class WrongBytes(HubError):
    """What was sent, or kept, is not what the hub promised: its checksum says so."""


@contextlib.contextmanager
def errors(url: str) -> Iterator[None]:
    """Turn what the library, and the HTTP library below it, raise into a HubError."""
    try:
        yield
    except HubError:
        raise
    except Exception as e:  # noqa: BLE001 - the library below was changed twice, and each has a tree of its own
        raise told(e, url) from None


def told(error: BaseException, url: str) -> HubError:
    """Return the sentence for what was raised, by its class's name and those above it."""
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", 0) >= 400:
        return of_status(response, url)
    at = host(url)
    if isinstance(error, ValueError) and (wrong := _wrong_numbers()):
        return HubError(f"{wrong[0]} is not a whole number of seconds", f"correct {wrong[0]}, or unset it")
    if isinstance(error, ValueError):  # the library's own, of the variables that it reads when it is imported
        return HubError("the hub's address is not valid", "check HF_ENDPOINT and HTTPS_PROXY")
    names = {cls.__name__ for cls in type(error).__mro__}
    chain = " ".join(str(e) for e in _causes(error)).lower()
    if "TooManyRedirects" in names:
        return HubError(f"{at} sends us round in redirects", "check HF_ENDPOINT and the proxy")
    if names & {"TimeoutException", "TimeoutError"}:
        return HubError(f"{at} does not answer in time", "look at the network, then try again")
    if "certificate" in chain or "ssl" in chain:
        return HubError(
            f"the certificate of {at} is not trusted", "check the clock, or SSL_CERT_FILE behind an inspecting proxy"
        )
    if "ProxyError" in names:
        return HubError("the proxy refuses the connection", "check HTTPS_PROXY and its password")
    if names & {"ConnectError", "NetworkError", "ConnectionRefusedError", "gaierror"}:
        return HubError(f"there is no connection to {at}", "look at the network, or check HF_ENDPOINT and HTTPS_PROXY")
    if names & {"RemoteProtocolError", "ProtocolError", "ConnectionError", "ReadError"}:
        return HubError(f"the connection to {at} broke off", "try again: what was fetched is kept")
    if names & {"InvalidURL", "UnsupportedProtocol", "LocalProtocolError", "HFValidationError"}:
        return HubError("the hub's address or a header of ours is not valid", "check HF_ENDPOINT and HTTPS_PROXY")
    return HubError(f"{at} could not be asked ({type(error).__name__})", "check HF_ENDPOINT and the network")


def _wrong_numbers() -> list[str]:
    """Return the library's variables that must be whole numbers, and are not."""
    names = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
    found = []
    for name in names:
        try:
            int(os.environ.get(name) or 0)
        except ValueError:
            found.append(name)
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def of_status(response: Any, url: str) -> HubError:
    """Return the sentence for an answer that is an HTTP error."""
    status, at = int(response.status_code), host(url)
    if status == 401:
        return HubError(
            f"{at} does not accept the token (401)" if token(quiet=True) else f"{at} wants a token (401)",
            "set HF_TOKEN to a valid token, or unset it where the bundle is public",
        )
    if status == 403:
        return HubError(
            f"{at} refuses access (403)", "ask for access on the bundle's page, or check the token's rights"
        )
    if status == 404:
        return HubError(f"{at} has no such repository or file (404)", "check HF_ENDPOINT; the bundle may have moved")
    if status == 407:
        return HubError("the proxy wants a password (407)", "put it into HTTPS_PROXY")
    if status == 429:
        wait = str(response.headers.get("Retry-After", ""))
        seconds = f" {int(wait)} s" if re.fullmatch(r"[0-9]{1,6}", wait) else " a while"
        return HubError(f"{at} has had too many requests (429)", f"wait{seconds}, then try again")
    if status >= 500:
        return HubError(f"{at} has trouble of its own ({status})", "try again later")
    return HubError(f"{at} answers {status}", "check HF_ENDPOINT and the proxy")


def token(*, quiet: bool = False) -> str | None:
    """Return the user's token, if it can be one; else it is left out, which is enough for bundles that are public."""
    from huggingface_hub import get_token

    try:
        token = get_token()
    except (OSError, ValueError):
        token = "\n"
    if token and not _TOKEN.fullmatch(token):
        if not quiet:
            log.warning(
                "the hub's token is left out: it holds characters that none has; set HF_TOKEN anew, or unset it"
            )
        return None
    return token


def host(url: str) -> str:
    """Return the host and port of a URL: all of it that a message may repeat."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2][:100] or "the hub"
    except ValueError:
        return "the hub"
