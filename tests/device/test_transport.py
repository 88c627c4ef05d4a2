"""The HTTP transport against servers that are no hub, answer half, too much, or nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from edgecore.device import transport as under_test
from edgecore.device.enrol import enrol, fetch_desired
from edgecore.device.transport import HttpTransport
from edgecore.errors import Invalid, Unavailable
from edgecore.fs import MemoryFs
from edgecore.trust.keys import Ed25519Signer
from edgecore.wire.invite import Invite


class Portal:
    """A server that gives each connection one of the scripted answers, then closes."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.answers: list[bytes] = []
        self.requests = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self.socket.accept()
            except OSError:
                return
            with link:
                link.settimeout(5)
                data = link.recv(65536)
                if not data:
                    continue
                self.requests += 1
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                try:
                    link.sendall(answer)
                    link.shutdown(socket.SHUT_WR)
                    while link.recv(65536):
                        pass
                except OSError:
                    pass

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def portal() -> Iterator[Portal]:
    server = Portal()
    yield server
    server.close()


@pytest.fixture
def link(portal: Portal) -> Iterator[HttpTransport]:
    transport = HttpTransport(portal.url, timeout_s=5)
    yield transport
    transport.close()


def answer(status: int, body: bytes = b"", length: int | None = None, more: str = "") -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\n{more}\r\n".encode() + body


def test_transport_answer_cut_short_is_unavailable(portal: Portal, link: HttpTransport) -> None:
    portal.answers = [answer(200, b"half", 8)]
    with pytest.raises(Unavailable, match="cut short after 4 of 8 bytes"):
        link.request("GET", "/v1/desired")
    portal.answers = [answer(200, b"whole")]
    assert link.request("GET", "/v1/desired")[2] == b"whole"


def test_transport_part_of_a_range_is_given_for_its_receiver_to_go_on(
    portal: Portal, link: HttpTransport
) -> None:
    portal.answers = [answer(206, b"half", 8)]
    status, _, body = link.request("GET", "/v1/blob/b", {"Range": "bytes=0-7"})
    assert (status, body) == (206, b"half")


BROKEN = {
    "nothing": b"",
    "not HTTP": b"SSH-2.0-x\r\n",
    "half a status line": b"HTTP/1.1 2",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "chunk without size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "chunk cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nabc",
}


@pytest.mark.parametrize("name", BROKEN)
def test_transport_broken_answer_is_unavailable_in_one_line(
    portal: Portal, link: HttpTransport, name: str
) -> None:
    portal.answers = [BROKEN[name]]
    with pytest.raises(Unavailable) as caught:
        link.request("GET", "/v1/desired")
    assert "\n" not in str(caught.value)
    assert portal.url.removeprefix("http://") in str(caught.value)


def test_transport_answer_over_its_bound_is_unavailable(
    portal: Portal, link: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "ANSWER_BYTES_MAX", 1000)
    for data in (answer(200, b"x" * 1001), b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000):
        portal.answers = [data]
        with pytest.raises(Unavailable, match="over 1000 bytes"):
            link.request("GET", "/v1/desired")


def test_transport_odd_lengths_are_bounded(portal: Portal, link: HttpTransport) -> None:
    for length in ("-5", "9" * 30, "x", "0x10"):
        portal.answers = [f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nabc".encode()]
        try:
            assert link.request("GET", "/")[2] == b"abc"
        except Unavailable:
            link.close()


def test_transport_kept_connection_that_was_closed_is_tried_once_more(
    portal: Portal, link: HttpTransport
) -> None:
    portal.answers = [answer(200, b"one")]
    for _ in range(3):
        assert link.request("POST", "/x", body=b"data")[2] == b"one"
    assert portal.requests == 3


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "hub.local", "http://h:port", "http://a..b", "http://h x/", ""]
)
def test_transport_url_that_names_no_host_is_invalid(url: str) -> None:
    with pytest.raises(Invalid, match="hub URL"):
        HttpTransport(url).request("GET", "/")


def test_transport_nobody_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        HttpTransport(f"http://127.0.0.1:{port}").request("GET", "/")


PAGES = [
    answer(204),
    answer(200),
    answer(200, b"<html>Welcome to the hotel</html>"),
    answer(200, b"\x9a\x7f\xff\xff\xff" + bytes(64)),
    answer(302, b"", more="Location: http://portal/\r\n"),
    answer(304),
    answer(511, b"<html>Log in</html>"),
    answer(200, b"{}" * 3000),
]


@pytest.mark.parametrize("page", PAGES, ids=range(len(PAGES)))
def test_portal_is_neither_enrolment_nor_desired_state(
    portal: Portal, link: HttpTransport, page: bytes, deterministic: Callable[[int], bytes]
) -> None:
    portal.answers = [page]
    fs = MemoryFs()
    fs.make_directories("keys")
    key = Ed25519Signer(bytes(32)).public
    invitation = Invite(portal.url, bytes(16), key, bytes(32), bytes(32)).encode()
    with pytest.raises(Unavailable):
        enrol(fs, "keys", invitation, link, deterministic)
    assert fs.list("keys") == ["device.key"]
    kept = fs.read_file("keys/device.key", 1024)
    with pytest.raises(Unavailable):  # the same key is offered again
        enrol(fs, "keys", invitation, link, os.urandom)
    assert fs.read_file("keys/device.key", 1024) == kept

    from edgecore.device.enrol import Identity
    from edgecore.wire import invite

    identity = Identity(bytes(16), Ed25519Signer(bytes(32)), invite.decode(invitation))
    with pytest.raises(Unavailable):
        fetch_desired(identity, link)


@pytest.fixture
def deterministic() -> Callable[[int], bytes]:
    return lambda size: bytes(range(size))
