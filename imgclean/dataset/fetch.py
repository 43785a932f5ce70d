"""An image from a URL, within limits: http and https only, public addresses only, so large and no larger, in time."""

from __future__ import annotations

import http.client
import io
import ipaddress
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import certifi
from PIL import Image, ImageOps

from .images import PNG_MODES, UnreadableImage, open_image

MAX_BYTES = 32 * 2**20
SECONDS = 20.0
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses as a gateway of IPv6 spells them


class NotFetched(OSError):
    "A URL that gave no image; its text is the reason"


def fetch(
    url: str,
    *,
    max_bytes: int = MAX_BYTES,  # a larger file is refused
    seconds: float = SECONDS,  # for everything: name, connections, redirects and download
    allow_private: bool = False,  # also addresses of this machine and of its own network
) -> bytes:
    """The bytes of the image behind `url`, an http or https URL, which is decoded once to be sure that it is one.

    Each redirect, at most 5, is checked as the first URL is. The address that was checked is the one that is
    connected to, so a name cannot change its mind in between. Proxies are not used. Raises `NotFetched`.
    """
    limit = _Limit(max_bytes, monotonic() + seconds, seconds)
    base, target = "", url
    for _ in range(MAX_REDIRECTS + 1):
        parts = _checked(base, target)
        data, target = _get(parts, limit, allow_private)
        if data is not None:
            _must_be_image(data, url)
            return data
        base = parts.geturl()
    raise NotFetched(f"{url!r} redirects more than {MAX_REDIRECTS} times; give the image's own URL")


class _Limit:
    "How much and how long; the clock runs over all hops"

    def __init__(self, max_bytes: int, end: float, seconds: float):
        self.max_bytes, self.end, self.seconds = max_bytes, end, seconds

    def left(self, host: str) -> float:
        left = self.end - monotonic()
        if left <= 0:
            raise self.late(host)
        return left

    def late(self, host: str) -> NotFetched:
        return NotFetched(
            f"{host!r} gave no image within {self.seconds:g} s; try again or download it yourself"
        )

    def large(self, host: str) -> NotFetched:
        return NotFetched(f"the file at {host!r} is larger than {self.max_bytes} bytes; download it yourself")


def _checked(base: str, url: str) -> SplitResult:
    "The parts of `url`, as a page at `base` means it."
    try:
        parts = urlsplit(urljoin(base, url))
        parts.port  # noqa: B018  # raises where it is no number
        name = parts.hostname and parts.hostname.encode("idna")
    except (ValueError, UnicodeError) as err:
        raise NotFetched(f"{url!r} is no URL ({err}); give one such as https://example.org/cat.jpg") from None
    if parts.scheme not in PORTS or not name:
        raise NotFetched(f"{url!r} is not fetched; give an http or https URL with a host")
    return parts


def _get(parts: SplitResult, limit: _Limit, allow_private: bool) -> tuple[bytes | None, str]:
    "The bytes behind the URL, or None and where it redirects to."
    host = parts.hostname
    try:
        with _connected(parts, limit, allow_private) as connection:
            connection.request("GET", _path(parts), headers=_headers())
            reply = connection.getresponse()
            if reply.status in REDIRECTS and reply.getheader("Location"):
                return None, reply.getheader("Location")
            if reply.status != 200:
                raise NotFetched(f"{host!r} answered {reply.status} {reply.reason}; check the URL")
            return _body(reply, host, limit), ""
    except NotFetched:
        raise
    except (OSError, http.client.HTTPException, ValueError) as err:
        if limit.end <= monotonic() or isinstance(err, TimeoutError):
            raise limit.late(host) from err
        reason = str(err) or type(err).__name__
        raise NotFetched(
            f"{host!r} could not be reached ({reason}); check the URL and the connection"
        ) from err


def _headers() -> dict[str, str]:
    # Unpacked, so that the limit on bytes is one on memory, too.
    return {
        "User-Agent": "imgclean",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def _path(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    return path + ("?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]") if parts.query else "")


def _body(reply: http.client.HTTPResponse, host: str, limit: _Limit) -> bytes:
    if (reply.length or 0) > limit.max_bytes:
        raise limit.large(host)
    data = bytearray()
    while chunk := reply.read1(2**16):
        data += chunk
        if len(data) > limit.max_bytes:
            raise limit.large(host)
        limit.left(host)
    limit.left(host)  # a connection that the clock has cut ends like one that is done
    return bytes(data)


@contextmanager
def _connected(
    parts: SplitResult, limit: _Limit, allow_private: bool
) -> Iterator[http.client.HTTPConnection]:
    "A connection to an address that was checked, cut when the time is over, whatever it is waiting for."
    host, port = parts.hostname, parts.port or PORTS[parts.scheme]
    raw = _open(host, port, limit, allow_private)
    # A timeout of the socket counts from each byte; a server that sends one a second would never be late.
    clock = threading.Timer(limit.left(host), _cut, [raw])
    clock.daemon = True
    clock.start()
    try:
        with closing(_secured(raw, host) if parts.scheme == "https" else raw) as sock:
            clock.args[0] = sock
            sock.settimeout(limit.left(host))
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = http.client.HTTPConnection(host.encode("idna").decode(), port)
            connection.sock = sock
            yield connection
    finally:
        clock.cancel()
        raw.close()


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of an SSL socket as well, beneath its own state


def _secured(raw: socket.socket, host: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # some Pythons come without certificates
    return context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)


def _open(host: str, port: int, limit: _Limit, allow_private: bool) -> socket.socket:
    "A socket connected to the first address of `host` that answers, none of which is private."
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not allow_private and not is_public(address[0]):
            raise NotFetched(
                f"{host!r} is at {address[0]}, which is no public address; allow_private (--allow-private) permits that"
            )
    error: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(limit.left(host))
            sock.connect(address)
            return sock
        except OSError as err:
            sock.close()
            error = err
    raise error or OSError("it has no address")


def is_public(address: str) -> bool:
    "Whether an IP address belongs to the public internet, also where it is an IPv4 address in IPv6's clothes."
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


@contextmanager
def as_file(image: str | os.PathLike | Image.Image, allow_private: bool = False) -> Iterator[Path]:
    "A file that holds `image`, a file, a URL or a picture; what had to be written is gone after the block."
    if isinstance(image, (str, os.PathLike)) and "://" not in os.fspath(image):
        yield Path(image)
        return
    with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        path = Path(folder, "query.png")  # Pillow goes by the content, not by the name
        if isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image)
            (image if image.mode in PNG_MODES else image.convert("RGB")).save(path, "PNG")
        elif isinstance(image, str):
            path.write_bytes(fetch(image, allow_private=allow_private))
        else:
            raise TypeError(f"got a {type(image).__name__}; give a file, a URL or a PIL image")
        yield path


def _must_be_image(data: bytes, url: str) -> None:
    try:
        open_image(io.BytesIO(data))
    except UnreadableImage as err:
        raise NotFetched(f"{url!r} is no image: {err}; give the URL of the image itself") from err
