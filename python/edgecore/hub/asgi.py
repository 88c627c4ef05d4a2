"""The hub behind uvicorn: raw ASGI, one worker thread, envelopes committed in groups."""

from __future__ import annotations

import socket
from errno import EADDRINUSE

from edgecore.errors import Invalid, Unavailable
from edgecore.wire.envelope import BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.hub.files import FilePart, Reply
    from edgecore.hub.server import Hub

GROUP_MAX = 64


class App:
    """An ASGI application over one hub."""

    def __init__(self, hub: Hub) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._hub = hub
        self._thread = ThreadPoolExecutor(1, "hub")
        self._waiting: list[tuple[bytes, Any]] = []
        self._committer: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            body = await self._body(receive)
        except ConnectionError:
            return
        if body is None:
            reply: Reply = (413, {}, b"Exhausted: the request is too large\n")
        elif scope["method"] == "POST" and scope["path"] == "/v1/ingest":
            reply = await self._ingest(body)
        else:
            headers = {name.decode(): value.decode("latin1") for name, value in scope["headers"]}
            reply = await self._call(
                self._hub.answer, scope["method"], scope["path"], headers, body
            )
        status, extra, content = reply
        headers_out = [(b"content-length", str(len(content)).encode())]
        headers_out += [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers_out})
        if isinstance(content, bytes):
            await send({"type": "http.response.body", "body": content})
        else:
            await self._send_part(content, send)

    async def _send_part(self, part: FilePart, send: Any) -> None:
        """A file piece by piece, each when the one before has gone."""
        try:
            left = len(part)
            while True:
                piece = await self._call(part.piece)
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
                if left <= 0:
                    return
        finally:
            part.close()

    async def _call(self, function: Any, *arguments: Any) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    async def _body(self, receive: Any) -> bytes | None:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the request was cut short")
            part = message.get("body", b"")
            size += len(part)
            if size > BYTES_MAX:
                return None
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _ingest(self, body: bytes) -> Reply:
        import asyncio

        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, answer))
        if self._committer is None:
            self._committer = asyncio.ensure_future(self._drain())
        return await answer

    async def _drain(self) -> None:
        """Groups form while the one before is being synced."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
                try:
                    replies = await self._call(
                        self._hub.ingest_group, [message for message, _ in group]
                    )
                except Exception as error:
                    replies = [(500, {}, f"Unavailable: {error}\n".encode())] * len(group)
                for (_, answer), reply in zip(group, replies, strict=True):
                    if not answer.done():
                        answer.set_result(reply)
        finally:
            self._committer = None


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ``Unavailable`` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio does not switch Nagle off: 40 ms per answer.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except OverflowError:
        bound.close()
        raise Invalid(f"--port {port}: 0 to 65535, 0 for a free one") from None
    except OSError as error:
        bound.close()
        taken = error.errno == EADDRINUSE
        reason = "is in use" if taken else f"cannot be bound: {error.strerror}"
        raise Unavailable(f"port {port} {reason} on {host}; choose another with --port") from None
    return bound


def serve(hub: Hub, bound: socket.socket) -> None:
    """Answers on a listening socket until SIGINT or SIGTERM; requests under way are finished."""
    import signal

    import uvicorn

    config = uvicorn.Config(
        App(hub), log_level="warning", access_log=False, lifespan="off", server_header=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    # The server raises a signal again when it has ended; then it has said all that it had to say.
    kept = {number: signal.signal(number, _ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[bound])
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _ended(number: int, frame: object) -> None:
    """A signal that was acted on."""


__all__ = ["App", "listen", "serve"]
