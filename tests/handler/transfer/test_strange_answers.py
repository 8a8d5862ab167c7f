"""Whatever a server answers and wherever it redirects, a download gives the file or a coded error."""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from handler.errors import InputError, JobError, SourceError
from handler.source.download import download
from handler.transfer import download as downloading
from handler.transfer.http import whole_number
from tests.handler.transfer.failures import DATA, failed, settings
from tests.http_source import Fault
from tests.raw_server import RawServer, raw_server

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
ONCE = settings(download_attempts=1)
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used: the certificates would be read for each example
S3_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>secret words</Message>{more}'
    "<RequestId>1</RequestId></Error>"
)


@pytest.fixture(scope="module")
def raw():
    """A server that answers with bytes."""
    with raw_server() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder for all examples: each of them leaves it empty."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture
def _no_waits(monkeypatch):
    monkeypatch.setattr(downloading, "pause", lambda *_, **__: None)


def redirect(location: bytes, status: bytes = b"302") -> bytes:
    """A redirect with a body, as it goes over the wire."""
    return b"HTTP/1.1 %b x\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)


def asked(raw: RawServer, tmp_path, *answers: bytes, path: str = "") -> list[bytes]:
    """The request targets of a download that ends well."""
    raw.answers, raw.requests = list(answers), []
    assert download(raw.url + path, tmp_path, ONCE).path.read_bytes() == b"abc"
    return [head.split(b" ")[1] for head in raw.requests]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/vidéo.mp4?név=ő".encode(), b"/vid%C3%A9o.mp4?n%C3%A9v=%C5%91"),
        ("/voilà".encode(), b"/voil%C3%A0"),  # ends with a byte that is a space in Latin-1
        (b"/vid%C3%A9o.mp4?x=%2F%7E", b"/vid%C3%A9o.mp4?x=%2F%7E"),
        ("/é%C3%A9".encode(), b"/%C3%A9%C3%A9"),
        ("vidéo.mp4".encode("latin-1"), b"/vid%E9o.mp4"),
        (b"/\xe9%C3%A9\xff?q=\xe9", b"/%E9%C3%A9%FF?q=%E9"),
        (b"/a clip (1).mp4", b"/a%20clip%20(1).mp4"),
        (b"?X-Amz-Signature=ab", b"/?X-Amz-Signature=ab"),
        (b"/v#t=10", b"/v"),
        (b"/a\\b", b"/a\\b"),
        (b"/100%", b"/100%"),
    ],
)
def test_redirect_keeps_the_bytes_it_names(raw, tmp_path, location, target):
    """A raw byte of Location is requested as its one escape; an escape stays as it is."""
    assert asked(raw, tmp_path, redirect(location), WHOLE) == [b"/", target]


def test_redirect_to_another_host_in_utf_8(raw, tmp_path, hosts):
    """A host name is not percent-encoded but translated, and the Host header is the new one."""
    hosts["xn--bcher-kva.example"] = ["127.0.0.1"]
    asked(raw, tmp_path, redirect(f"http://bücher.example:{raw.port}/é".encode()), WHOLE)
    assert f"Host: xn--bcher-kva.example:{raw.port}".encode() in raw.requests[1]


def test_given_url_is_encoded_once(raw, tmp_path):
    """A caller's own URL with raw characters or spaces, in the path and in the query."""
    given = "é ü%20.mp4?X-Amz-Credential=a/b c&sig=é%C3%A9"
    target = b"/%C3%A9%20%C3%BC%20.mp4?X-Amz-Credential=a/b%20c&sig=%C3%A9%C3%A9"
    assert asked(raw, tmp_path, WHOLE, path=given) == [target]


@pytest.mark.parametrize(
    "target",
    [
        "http://-\xad-.example/",
        "http://xn--\xe9/",
        "http://127.0.0.1\\@8.8.8.8/",
        "http://[fe80::1%25eth0]/",
        "https:v.mp4",
        "javascript:alert(1)",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
        "http://[::1/",
    ],
)
def test_redirect_to_a_strange_place_is_refused(raw, tmp_path, target):
    """URL_NOT_ALLOWED, whatever is wrong with the place; nothing is asked for."""
    for encoding in ("utf-8", "latin-1"):
        raw.answers, raw.requests = [redirect(target.encode(encoding, "replace"))], []
        with pytest.raises(InputError, match="URL_NOT_ALLOWED"):
            download(raw.url, tmp_path, ONCE)
        assert len(raw.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "headers", [{}, {"Location": ""}, {"Location": "  "}], ids=["none", "empty", "blank"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_without_a_place_is_denied(server, tmp_path, status, headers):
    """The same request is not made again, and the link is not called forbidden."""
    url = server.add("v", DATA, always=Fault(status=status, headers=headers))
    error = failed(SourceError, url, tmp_path, settings())
    assert (error.code, error.code.retryable) == ("DOWNLOAD_DENIED", False)
    assert "without saying where" in error.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [300, 304, 305, 399])
def test_other_3xx_answers_are_denied(server, tmp_path, status):
    """They are no redirects to follow, even with a Location."""
    url = server.add("v", DATA, always=Fault(status=status, headers={"Location": "/v"}))
    assert failed(SourceError, url, tmp_path, settings()).code == "DOWNLOAD_DENIED"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "headers", "more", "region"),
    [
        (301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1\r\n", "<Endpoint>b.s3.x</Endpoint>", True),
        (301, "", "X-Amz-Bucket-Region: eu-west-1\r\n", "", True),
        (301, "PermanentRedirect", "", "<Endpoint>b.s3.x</Endpoint>", False),
        (307, "TemporaryRedirect", "", "", False),
        (400, "AuthorizationHeaderMalformed", "", "<Region>eu-west-1</Region>", True),
        (400, "AuthorizationQueryParametersError", "", "<Region>eu-west-1</Region>", True),
        (400, "IllegalLocationConstraintException", "", "", False),
        (301, "PermanentRedirect", "x-amz-bucket-region: <script>\r\n", "", False),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_link_for_another_region_is_told(raw, tmp_path, status, code, headers, more, region, chunked):
    """DOWNLOAD_DENIED with what to do, and the region if the store names it; S3's own words stay out."""
    body = S3_ERROR.format(code=code, more=more).encode()
    if chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:60], body[60:])) + b"0\r\n\r\n"
        headers += "Transfer-Encoding: chunked\r\n"
    else:
        headers += f"Content-Length: {len(body)}\r\n"
    raw.answers, raw.requests = [f"HTTP/1.1 {status} x\r\n{headers}\r\n".encode() + body], []

    error = failed(SourceError, raw.url, tmp_path, settings())

    assert (error.code, error.code.retryable) == ("DOWNLOAD_DENIED", False)
    assert "another region" in error.message
    assert "new link" in error.message
    assert ("eu-west-1" in error.message) is region
    assert "secret" not in error.message
    assert "script" not in error.message
    assert len(raw.requests) == 1


def test_other_400_answers_are_expired_links(raw, tmp_path):
    """A 400 without a region, even one that breaks off, is what it was."""
    for body in (S3_ERROR.format(code="ExpiredToken", more="").encode(), b"", b"x"):
        raw.answers = [b"HTTP/1.1 400 x\r\nContent-Length: 999\r\n\r\n" + body]
        assert "expired or is not valid" in failed(SourceError, raw.url, tmp_path, settings()).message


@pytest.mark.parametrize("wish", ["²", "٣", "9" * 5000, "Fri, 31 Feb 99999 99:99:99 GMT", "-1", "1e999"])
@pytest.mark.usefixtures("_no_waits")
def test_strange_retry_after_is_not_heeded(raw, tmp_path, wish):
    """The answer counts as the 503 that it is."""
    raw.answers = [f"HTTP/1.1 503 x\r\nRetry-After: {wish}\r\nContent-Length: 0\r\n\r\n".encode()]
    error = failed(SourceError, raw.url, tmp_path, settings())
    assert (error.code, error.code.retryable) == ("DOWNLOAD_FAILED", True)
    assert "HTTP 503" in error.message


NUMBERS = ["9" * 5000, "9" * 20, "9" * 19, "1" * 21, "-1", "+3", "3_0", "²", "٣", "0x3", "", " ", "3.0", "é"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "head",
    [
        "206 x\r\nContent-Range: bytes 0-2/{}",
        "206 x\r\nContent-Range: bytes {}-2/3",
        "206 x\r\nContent-Range: bytes 0-{}/3",
        "416 x\r\nContent-Range: bytes */{}",
        "200 x\r\nContent-Length: {}",
        "200 x\r\nContent-Length: 3\r\nContent-Range: {}",
    ],
)
@pytest.mark.usefixtures("_no_waits")
def test_strange_numbers_are_a_coded_answer(raw, tmp_path, head, number):
    """Lengths and places of thousands of digits, signs, other scripts: the file or a coded error."""
    raw.answers = [b"HTTP/1.1 " + head.format(number).encode() + b"\r\n\r\nabc"]
    coded(raw.url, tmp_path)


@pytest.mark.parametrize("etag", ['"é"', '"\x80"', "é", '"' + "x" * 9000 + '"', '"a"b"', '""', '"a b"'])
def test_strange_version_tag_does_not_break_a_resume(raw, tmp_path, etag):
    """A tag that cannot be sent back means a fresh start, not an error."""
    cut = f"HTTP/1.1 200 x\r\nContent-Length: 3\r\nETag: {etag}\r\n\r\na".encode()
    raw.answers, raw.requests = [cut, WHOLE], []
    assert download(raw.url, tmp_path, settings()).path.read_bytes() == b"abc"
    assert len(raw.requests) == 2


def coded(url: str, folder) -> None:
    """A download that gives the file or a JobError; any other exception fails the test."""
    with contextlib.suppress(JobError):
        download(url, folder, ONCE, ssl_context=TLS).path.unlink()
    assert list(folder.iterdir()) == []


KNOWN = "Content-Length Content-Range Content-Encoding Transfer-Encoding ETag Retry-After Location Connection"
HEADER_NAMES = st.sampled_from([*KNOWN.split(), "Upgrade", "x-amz-bucket-region", "X"])
HEADER_VALUES = st.one_of(
    st.sampled_from([number.encode() for number in NUMBERS]),
    st.sampled_from(b'bytes 0-2/3|chunked|gzip, chunked|identity|"a"|W/"a"|/|//|:|\xc3\xa9'.split(b"|")),
    st.sampled_from([b"", b"/x", b"a..b/", b"[::1", b"xn--/", b"\xc3\xa9\xad/"]).map(
        lambda end: b"http://" + end
    ),
    st.binary(max_size=12),
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4)
STATUSES = st.sampled_from([b"200", b"206", b"301", b"302", b"400", b"416", b"503"]) | st.binary(max_size=4)
CHUNKED = b"3\r\nabc\r\n0\r\n\r\n"
BODIES = st.sampled_from([b"abc", b"", CHUNKED, b"zz\r\n", b"<Region>"]) | st.binary(max_size=9)
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"X"])


@hypothesis_settings(max_examples=150, deadline=None)
@given(status=STATUSES, headers=HEADERS, body=BODIES, version=VERSIONS)
def test_any_answer_is_a_coded_answer(raw, folder, status, headers, body, version):
    """Any bytes as status, headers and body over a real connection: the file or a JobError."""
    lines = [version + b" " + status, *(name.encode() + b": " + value for name, value in headers)]
    raw.answers = [b"\r\n".join([*lines, b"", body])]
    coded(raw.url, folder)


@given(st.sampled_from([*NUMBERS, "0", "007", "1\n", " 1", "1.0"]) | st.text(max_size=25))
def test_only_ascii_digits_are_a_number(text):
    """Up to as many as a length can have; never an exception."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 20
    assert whole_number(text) == (int(text) if is_number else None)
