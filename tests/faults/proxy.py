"""Stand between the engine and its database, and be a bad network: cut, hang, drop, slow."""

import contextlib
import socket
import threading
import time

CHUNK = 65_536


class Proxy:
    """Forward TCP on 127.0.0.1 to a port, as the mode says.

    `open` forwards; `cut` resets every connection and refuses new ones; `hang` accepts and lets
    nothing through; `drop_replies` lets questions through and no answer; `slow` delays each chunk.
    """

    def __init__(self, *, target_port: int) -> None:
        self.mode = "open"
        self.delay_seconds = 0.05
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def set_mode(self, mode: str) -> None:
        """Behave so from now on; `cut` ends what is open."""
        self.mode = mode
        if mode == "cut":
            self._end_all()

    def close(self) -> None:
        """End everything."""
        self._is_closed = True
        self._listener.close()
        self._end_all()

    def _end_all(self) -> None:
        with self._lock:
            ending, self._sockets = self._sockets, set()
        for each in ending:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "cut":
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            for source, sink, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump,
                    args=(source, sink),
                    kwargs={"is_reply": is_reply},
                    daemon=True,
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: object) -> None:
        try:
            while data := source.recv(CHUNK):
                while self.mode == "hang":
                    time.sleep(0.02)
                if is_reply and self.mode == "drop_replies":
                    continue
                if self.mode == "slow":
                    time.sleep(self.delay_seconds)
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
