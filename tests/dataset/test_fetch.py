import io
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pictures import picture

from imgclean.dataset import fetch as module
from imgclean.dataset.fetch import NotFetched, fetch, is_public

asked = []


def image(fmt="PNG"):
    data = io.BytesIO()
    picture(3).save(data, fmt)
    return data.getvalue()


IMAGE = image()


class Handler(BaseHTTPRequestHandler):
    "A server with a page for each thing that can go wrong"

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        asked.append((self.path, dict(self.headers)))
        page = self.path.split("?")[0]
        if page.startswith("/hops/"):
            left = int(page.rsplit("/", 1)[1])
            self.send(302, Location=f"/hops/{left - 1}" if left else "/cat.png")
        elif page == "/to":
            self.send(301, Location=self.path.partition("?")[2])
        elif page == "/text":
            self.send(200, b"<html>no image</html>", Content_Type="image/png")
        elif page == "/nothing":
            self.send(200)
        elif page == "/half":
            self.send(200, IMAGE[:-300], Content_Length=len(IMAGE) - 300)
        elif page == "/cut":
            self.send(200, IMAGE[:-300], Content_Length=len(IMAGE))
            self.close_connection = True
        elif page == "/huge":
            self.send(200, Content_Length=10**12)
        elif page == "/endless":
            self.send(200, Content_Length=None, Transfer_Encoding="chunked")
            self.drip(b"10000\r\n" + bytes(2**16) + b"\r\n", 0)
        elif page == "/slow-body":
            self.send(200, Content_Length=len(IMAGE))
            self.drip(b"x", 0.05)
        elif page == "/slow-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self.drip(b"x", 0.05)
        elif page == "/silent":
            time.sleep(2)
        elif page == "/chunked":
            self.send(200, Content_Length=None, Transfer_Encoding="chunked")
            for part in (IMAGE[:100], IMAGE[100:]):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif page.endswith(".png"):
            self.send(200, IMAGE, Content_Type="image/png")
        else:
            self.send(404)

    def drip(self, data, pause):
        try:
            for _ in range(100):
                self.wfile.write(data)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:  # the other side has had enough
            self.close_connection = True


@contextmanager
def serving(wrap=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    if wrap:
        server.socket = wrap(server.socket)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    asked.clear()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def site():
    with serving() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "page", ["/cat.png", "/a%20cat%C3%A9.png?x=1&y=[2]", "/a caté.png", "/chunked", "/hops/4"]
)
def test_an_image_is_fetched_byte_by_byte(site, page):
    assert fetch(site + page, allow_private=True) == IMAGE


def test_the_path_cannot_smuggle_a_header(site):
    asked.clear()
    fetch(site + "/x%0d%0aEvil:1\r\nEvil: 2.png", allow_private=True)
    (path, headers), *_ = asked
    assert "Evil" not in headers and path == "/x%0d%0aEvil:1Evil:%202.png"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/text", "is no image: not an image that Pillow can read"),
        ("/nothing", "is no image: the file is empty"),
        ("/half", "is no image"),
        ("/cut", "IncompleteRead|is no image"),
        ("/nowhere", "answered 404"),
        ("/hops/9", "redirects more than 5 times"),
        ("/to?file:///etc/passwd", "'file:///etc/passwd' is not fetched"),
        ("/to?ftp://example.org/a.png", "is not fetched; give an http or https URL"),
        ("/to?http://[oops", "is no URL"),
        ("/huge", "larger than 33554432 bytes"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(site, page, message):
    with pytest.raises(NotFetched, match=message):
        fetch(site + page, allow_private=True)


@pytest.mark.parametrize("page", ["/cat.png", "/endless"])
def test_a_file_larger_than_the_limit_is_refused(site, page):
    with pytest.raises(NotFetched, match="larger than 300 bytes"):
        fetch(site + page, max_bytes=300, allow_private=True)
    assert fetch(site + "/cat.png", max_bytes=len(IMAGE), allow_private=True) == IMAGE


@pytest.mark.parametrize("page", ["/slow-body", "/slow-head", "/silent"])
def test_a_slow_server_is_left_in_time_however_it_dawdles(site, page):
    start = time.monotonic()
    with pytest.raises(NotFetched, match=r"gave no image within 0\.4 s"):
        fetch(site + page, seconds=0.4, allow_private=True)
    assert time.monotonic() - start < 1.9


def test_a_handshake_that_never_ends_is_left_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(NotFetched, match="no image within"):
        fetch(f"https://127.0.0.1:{server.getsockname()[1]}/a.png", seconds=0.3, allow_private=True)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/cat.png", "cat.png", "http://", "data:image/png;base64,AA", "//example.org/a", ""],
)  # fmt: skip
def test_only_http_and_https_are_fetched(url):
    with pytest.raises(NotFetched, match="is not fetched; give an http or https URL"):
        fetch(url)


@pytest.mark.parametrize(
    "url", ["http://example.org:port/a", "http://[::1/a", "http://" + "a" * 64 + ".org/a"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(NotFetched, match="is no URL"):
        fetch(url)


def test_private_addresses_are_refused_before_anything_is_sent(site):
    asked.clear()
    port = site.rsplit(":", 1)[1]
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]", "0x7f.1"):
        with pytest.raises(NotFetched, match=r"is no public address|could not be reached"):
            fetch(f"http://{host}:{port}/cat.png")
    assert not asked


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
     "2002:7f00:1::", "64:ff9b::a00:1", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address):
    assert is_public(address)


def answers(monkeypatch, *addresses):
    "Names resolve to these addresses, one after the other; the last one from then on."
    left, real = list(addresses), socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        address = left.pop(0) if len(left) > 1 else left[0]
        return real(address, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_redirect_to_a_private_address_is_refused(site, monkeypatch):
    "The first hop is called public; the second is what it is."
    seen = []
    monkeypatch.setattr(module, "is_public", lambda address: not seen and not seen.append(address))
    with pytest.raises(NotFetched, match=r"'127\.0\.0\.1' is at 127\.0\.0\.1, which is no public address"):
        fetch(f"{site}/to?{site}/cat.png")
    assert seen == ["127.0.0.1"]


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(site, monkeypatch):
    "A name that is public when asked first and private when asked again: it is not asked again."
    answers(monkeypatch, "203.0.113.9", "127.0.0.1")
    tried = []
    monkeypatch.setattr(module, "is_public", lambda address: address != "127.0.0.1")
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: tried.append(address[0]) or self.close()
    )
    with pytest.raises(NotFetched):
        fetch("http://rebind.example:80/cat.png")
    assert tried == ["203.0.113.9"]


def test_a_name_with_one_private_address_among_others_is_refused(monkeypatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: both)
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("connected"))
    with pytest.raises(NotFetched, match=r"is at 10\.0\.0\.1"):
        fetch("http://both.example/cat.png")


def test_nobody_there_says_so():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotFetched, match="could not be reached"):
        fetch(f"http://127.0.0.1:{port}/a.png", allow_private=True)


def certificate(folder):
    "A certificate for 'localhost' that signs itself, made on the spot."
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
               "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as err:
        pytest.skip(f"openssl makes no certificate here: {err}")
    return folder / "cert.pem", folder / "key.pem"


def test_https_is_checked_against_the_name_and_the_trusted_certificates(tmp_path, monkeypatch):
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with serving(lambda s: context.wrap_socket(s, server_side=True)) as port:
        with pytest.raises(NotFetched, match="certificate verify failed"):
            fetch(f"https://localhost:{port}/cat.png", allow_private=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert fetch(f"https://localhost:{port}/cat.png", allow_private=True) == IMAGE
        with pytest.raises(NotFetched, match="certificate verify failed"):
            fetch(f"https://127.0.0.1:{port}/cat.png", allow_private=True)
