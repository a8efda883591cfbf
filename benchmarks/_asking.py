"""Ask a server over so many kept connections of one process, as cheaply as Python can.

Every connection has one request under way; an answer that is not the one expected ends the run.
"""

import selectors
import socket
import time
from collections.abc import Callable


def rate(
    *, port: int, connections: int, seconds: float, request: Callable[[int], bytes], status: bytes
) -> float:
    """Return the answers a second.

    :raises SystemExit: with the answer that has another status.
    """
    chosen = selectors.DefaultSelector()
    sent = 0
    for _ in range(connections):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chosen.register(peer, selectors.EVENT_READ, bytearray())
        peer.sendall(request(sent))
        sent += 1
    began, done = time.monotonic(), 0
    ends_at = began + seconds
    expected = b"HTTP/1.1 " + status
    while time.monotonic() < ends_at:
        for key, _ in chosen.select(timeout=1.0):
            peer, received = key.fileobj, key.data
            received += peer.recv(65536)
            if not _is_whole(received):
                continue
            if not received.startswith(expected):
                raise SystemExit(received.decode(errors="replace")[:2000])
            received.clear()
            done += 1
            peer.sendall(request(sent))
            sent += 1
    elapsed = time.monotonic() - began
    for key in list(chosen.get_map().values()):
        key.fileobj.close()
    return done / elapsed


def _is_whole(received: bytearray) -> bool:
    """Tell whether an answer is there with its body, as long as its headers say."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    length = 0
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            length = int(line[15:])
    return len(body) >= length


def post(path: str, *, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the text of a POST up to its idempotency key, which `keyed` writes."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Idempotency-Key: "]
    return "\r\n".join(lines).encode()


def get(path: str, *, headers: dict[str, str]) -> bytes:
    """Return the text of a GET."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
