"""A server on this machine that can be told to misbehave."""

import threading
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Handler(BaseHTTPRequestHandler):
    """Answers with ``server.files``, by address; asks ``server`` how."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.path, asked))
        body = server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        unless = self.headers.get("If-Unmodified-Since")
        if server.modified and unless and parsedate_to_datetime(unless).timestamp() < server.modified:
            return self.send_error(412)
        if start >= len(body) > 0:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.content_type)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{len(body) - 1}/{len(body)}")
        if server.modified:
            self.send_header("Last-Modified", formatdate(server.modified, usegmt=True))
        self.end_headers()
        self.wfile.write(body[start : server.ends_after])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    """A server whose ``files`` (address -> bytes) are empty, and whose ``asked`` lists (address, Range) of each request."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {}, []
        server.ranges, server.shift = True, 0
        server.content_type, server.ends_after, server.modified = "application/octet-stream", None, None
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
