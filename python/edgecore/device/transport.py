"""The Transport seam and its HTTP/1.1 form.

A transport moves bytes and counts them. It follows no redirect and believes no status: what an
answer means is decided by whoever can check its signature.
"""

from __future__ import annotations

from edgecore.errors import Unavailable
from edgecore.wire.invite import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    Answer = tuple[int, dict[str, str], bytes]

    class Transport(Protocol):
        sent: int
        received: int

        def request(
            self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
        ) -> Answer: ...


TIMEOUT_S = 15.0
ANSWER_BYTES_MAX = 8 << 20


class HttpTransport:
    """Requests to one hub over one kept connection. `sent` and `received` count bytes, request
    and status lines and headers included. Raises ``Unavailable`` for anything that fails."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._secure, self._host, self._base = parts(url)
        self._timeout_s = timeout_s
        self._connection: Any = None
        self.sent = 0
        self.received = 0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """From another thread: ends a request that waits for its answer."""
        from contextlib import suppress
        from socket import SHUT_RDWR

        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(SHUT_RDWR)

    def _connect(self) -> Any:
        from http.client import HTTPConnection, HTTPSConnection

        kind = HTTPSConnection if self._secure else HTTPConnection
        return kind(self._host, timeout=self._timeout_s)

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """(status, headers in lower case, body) of one request."""
        from http.client import HTTPException

        sending = {"Host": self._host, **(headers or {})}
        if body or method == "POST":
            sending["Content-Length"] = str(len(body))
        path = self._base + path
        for attempt in (0, 1):
            kept = self._connection is not None
            try:
                return self._exchange(method, path, sending, body)
            except (OSError, HTTPException) as error:
                self.close()
                if not kept or attempt:  # a kept connection may have been closed meanwhile
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise Unavailable(f"hub {self._host}: {reason}") from None
        raise AssertionError

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        self.sent += len(method) + len(path) + 14 + len(body)
        self.sent += sum(len(name) + len(value) + 4 for name, value in headers.items())
        with connection.getresponse() as response:
            content = response.read(ANSWER_BYTES_MAX + 1)
            if len(content) > ANSWER_BYTES_MAX:
                self.close()
                raise Unavailable(f"hub {self._host}: an answer over {ANSWER_BYTES_MAX} bytes")
            if response.length:  # the link ended first: of a range its receiver can go on
                self.close()
                whole = len(content) + response.length
                if response.status != 206:
                    cut = f"an answer cut short after {len(content)} of {whole} bytes"
                    raise Unavailable(f"hub {self._host}: {cut}")
            got = {name.lower(): value for name, value in response.getheaders()}
            self.received += len(content) + 17 + len(response.reason)
            self.received += sum(len(name) + len(value) + 4 for name, value in got.items())
            return response.status, got, content


__all__ = ["ANSWER_BYTES_MAX", "HttpTransport"]
