"""A way to a server that can be cut, silenced and mended, with or without TLS."""

import contextlib
import socket
import ssl
import threading
from urllib.parse import urlsplit, urlunsplit


class Relay:
    """Passes bytes between whoever connects to `port` and the server at `url`.

    `cut` refuses and breaks connections, `silence` takes them and never answers, `mend` ends both.
    `connections` counts those that were passed on.
    """

    def __init__(self, url, tls=None):
        self.target = urlsplit(url)
        self.tls = tls
        self.silent = False
        self.connections = 0
        self.open = []
        self.listener = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self):
        scheme = "https" if self.tls else "http"
        return urlunsplit((scheme, f"127.0.0.1:{self.port}", self.target.path, "", ""))

    def mend(self):
        self.silent = False
        self._break()
        if self.listener is None:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def silence(self):
        self.mend()
        self.silent = True

    def cut(self):
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        self._break()

    def _break(self):
        broken, self.open = self.open, []
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.open.append(client)
            if not self.silent:
                threading.Thread(target=self._pass, args=[client], daemon=True).start()

    def _pass(self, client):
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            server = socket.create_connection((self.target.hostname, self.target.port))
            self.open.append(server)
            self.connections += 1
            back = threading.Thread(target=self._copy, args=[server, client], daemon=True)
            back.start()
            self._copy(client, server)
            back.join()

    def _copy(self, source, sink):
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(url, tls=None):
    """A mended relay to `url`, cut on leaving."""
    one = Relay(url, tls)
    one.mend()
    try:
        yield one
    finally:
        one.cut()
