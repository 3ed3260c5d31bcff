"""One question to an HTTP server and its JSON answer, within limits; every failure is a clause for people."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

_MAX_ANSWER: Final = 16 * 2**20
_PIECE: Final = 2**16
_WORTH_A_RETRY: Final = (408, 425, 429, 500, 502, 503, 504)


class NoAnswerError(RuntimeError):
    """There is no usable answer; the text is a clause that follows "the reward"."""

    def __init__(self, clause: str, *, is_passing: bool) -> None:
        super().__init__(clause)
        self.is_passing = is_passing
        """Whether the same question may be answered a moment later."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Images go where the person said and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Follows none."""


@dataclass(frozen=True)
class Server:
    """Where to ask, and how long.

    Args:
        url: http or https, without query.
        timeout: Seconds in which an answer begins, and within twice of which it is complete.

    Raises:
        ValueError: The address is none that could be asked.
    """

    url: str
    timeout: float = 30.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(
                f'expected an address such as "http://127.0.0.1:8765", without user and query; '
                f'got "{self.url}"'
            )

    def ask(self, path: str, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers to GET, or to POST where there is a question.

        Raises:
            NoAnswerError: There is none.
        """
        self._refuse_no_server()
        data = None if question is None else json.dumps(question, allow_nan=False).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", data, headers)
        try:
            said = self._read(request)
        except urllib.error.HTTPError as error:
            with error:
                raise self._status(error) from error
        except TimeoutError as error:
            raise self._silent() from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._silent() from error
            raise NoAnswerError(f"cannot reach {self.url}: {error.reason}", is_passing=True) from error
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
            raise NoAnswerError(f"lost the connection to {self.url}: {why}", is_passing=True) from error
        return self._parsed(said)

    def _refuse_no_server(self) -> None:
        """A machine's own services, such as the keys of a cloud at 169.254.169.254, answer to whoever asks
        from it: whoever may start a run may not have them asked.
        """
        host = urlsplit(self.url).hostname or ""
        try:
            found = {str(one[4][0]).partition("%")[0] for one in socket.getaddrinfo(host, None)}
        except OSError:
            return  # the question itself tells
        for named in map(ipaddress.ip_address, sorted(found)):
            address = getattr(named, "ipv4_mapped", None) or named
            if address.is_link_local or address.is_unspecified or address.is_multicast:
                clause = f"is not asked at {self.url}: {address} is an address of no server of rewards"
                raise NoAnswerError(clause, is_passing=False)

    def _read(self, request: urllib.request.Request) -> bytes:
        deadline = time.monotonic() + 2 * self.timeout
        said = bytearray()
        with self._opener().open(request, timeout=self.timeout) as answer:
            while part := answer.read1(_PIECE):
                said += part
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(said) > _MAX_ANSWER:
                    raise NoAnswerError(
                        f"got more than {_MAX_ANSWER >> 20} MB from {self.url}", is_passing=False
                    )
        return bytes(said)

    def _opener(self) -> urllib.request.OpenerDirector:
        """What is on this machine is never asked through a proxy."""
        proxies = [urllib.request.ProxyHandler({})] if _is_loopback(urlsplit(self.url)) else []
        return urllib.request.build_opener(_NoRedirects, *proxies)

    def _silent(self) -> NoAnswerError:
        return NoAnswerError(f"got no answer from {self.url} within {self.timeout:g} s", is_passing=True)

    def _status(self, error: urllib.error.HTTPError) -> NoAnswerError:
        try:
            words = " ".join(error.read(300).decode(errors="replace").split())
        except (OSError, http.client.HTTPException):
            words = ""
        clause = f"got status {error.code} from {self.url}" + (f": {words}" if words else "")
        return NoAnswerError(clause, is_passing=error.code in _WORTH_A_RETRY)

    def _parsed(self, said: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(said)
        except ValueError as error:
            raise NoAnswerError(f"got no JSON from {self.url}: {error}", is_passing=False) from error
        if not isinstance(parsed, dict):
            raise NoAnswerError(f"got no JSON object from {self.url}", is_passing=False)
        return parsed


def _is_loopback(parts: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
