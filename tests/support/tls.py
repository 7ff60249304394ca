"""TLS in front of a server that speaks none."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme


class TlsFront:
    """Forwards what it decrypts to a port of this machine.

    Attributes:
        port: where it listens.
        ca: the certificate that its clients have to trust, a PEM file.
    """

    def __init__(self, target_port: int, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, options: str = "") -> str:
        return f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={self.ca}{options}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                try:
                    client = self._context.wrap_socket(plain, server_side=True)
                except OSError:  # who does not trust us hangs up
                    plain.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._pump, args=(source, sink))
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        _shut(sink)

    def close(self) -> None:
        _shut(self._listener)
        self._listener.close()
        for one in self._sockets:
            _shut(one)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tls_front(target_port: int, folder: Path) -> Iterator[TlsFront]:
    front = TlsFront(target_port, folder)
    try:
        yield front
    finally:
        front.close()
