"""Log lines are JSON and hold no secret."""

import json
import logging
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from handler.job import JobInput
from handler.logs import HIDDEN, Redactor, configure, job_context, job_secrets, url_secrets

SECRET = "AbC123+/xyz99"
PRESIGNED = (
    "https://bucket.s3.example.com/clip.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20260101&X-Amz-Signature=0123abcdef0123"
)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], own_logging: None) -> Callable[[], str]:
    """Gives what went to stdout."""
    return lambda: capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"get {PRESIGNED} failed", f"get https://bucket.s3.example.com/clip.mp4?{HIDDEN} failed"),
        ("s3://key:pass@host/a b", "s3://host/a b"),
        ("http://a:b@h:80/p#frag", "http://h:80/p"),
        ('"GET /clip.mp4?X-Amz-Signature=ab&x=1 HTTP/1.1"', f'"GET /clip.mp4?{HIDDEN} HTTP/1.1"'),
        ("X-Amz-Security-Token: abc", f"X-Amz-Security-Token: {HIDDEN}"),
        ("{'Signature': 'abc', 'a': 1}", f"{{'Signature': '{HIDDEN}', 'a': 1}}"),
        ("authorization: Bearer abc.def", f"authorization: {HIDDEN}"),
        ("aws_secret_access_key=abc", f"aws_secret_access_key={HIDDEN}"),
        ("token=abc&next=1", f"token={HIDDEN}&next=1"),
        ("frame 12 of 30, 50 %", "frame 12 of 30, 50 %"),
        ("https://example.com/plain/path.mp4", "https://example.com/plain/path.mp4"),
    ],
)
def test_redactor_knows_what_looks_like_a_secret(text: str, clean: str) -> None:
    """Queries, userinfo, fragments and named secrets go; the rest stays readable."""
    assert Redactor()(text) == clean


def test_redactor_hides_what_it_was_told() -> None:
    """A known secret is hidden anywhere, as long as its context is open."""
    redactor = Redactor(["bucket-secret"])
    with redactor.hiding([SECRET]), redactor.hiding([SECRET]):
        assert redactor(f"a{SECRET}b bucket-secret") == f"a{HIDDEN}b {HIDDEN}"
    assert redactor(SECRET) == SECRET
    assert redactor("bucket-secret") == HIDDEN


@given(st.text(), st.text(alphabet=st.characters(blacklist_characters="[]hiden"), min_size=6))
def test_redactor_never_lets_a_known_secret_through(text: str, secret: str) -> None:
    """Whatever is around a known secret, it does not come out, and the text can be encoded."""
    if any(0xD800 <= ord(character) < 0xE000 for character in secret):
        return
    clean = Redactor([secret])(text + secret + text)

    assert secret not in clean
    clean.encode()


def test_secrets_of_a_job_are_those_of_all_its_urls() -> None:
    """Signatures of the video's and of every upload's URL, as written and decoded."""
    request = JobInput.model_validate(
        {
            "video_url": PRESIGNED,
            "output": {
                "put_urls": {
                    "result.json": "https://h/r?sig=upload-one%3D",
                    "frames.jsonl.gz": "https://me:passphrase@h/f?sig=upload-two",
                }
            },
        }
    )
    secrets = job_secrets(request)

    assert {"0123abcdef0123", "AKIDEXAMPLE/20260101", "upload-one=", "upload-two", "passphrase"} <= secrets
    assert "https" not in secrets


def test_secrets_of_what_is_no_url_are_all_of_it() -> None:
    """What cannot be taken apart is hidden whole."""
    assert url_secrets("http://[broken") == {"http://[broken"}


def test_lines_are_json_with_the_keys_of_the_platform(lines: Callable[[], str]) -> None:
    """Our own lines and the libraries' come out alike: requestId, message, level, one object a line."""
    configure("INFO", Redactor())
    with job_context("job-1"):
        structlog.get_logger("handler.x").warning("odd", frame=3)
        logging.getLogger("some.library").info("value %s", 7)
    structlog.get_logger("handler.x").info("between jobs")

    first, second, third = [json.loads(line) for line in lines().splitlines()]
    assert first == {"requestId": "job-1", "message": "odd", "level": "WARN", "frame": 3}
    assert second == {"requestId": "job-1", "message": "value 7", "level": "INFO"}
    assert third["requestId"] is None


def test_lines_hold_no_secret_of_an_exception(lines: Callable[[], str]) -> None:
    """Tracebacks, nested values and library lines are redacted too; chatty libraries are quiet."""
    configure("INFO", Redactor([SECRET]))
    try:
        raise RuntimeError(f"cannot open {PRESIGNED}")
    except RuntimeError as error:
        structlog.get_logger("x").error("failed", exc_info=error, where={"url": [PRESIGNED, SECRET]})
    logging.getLogger("library").warning("retry %s", PRESIGNED)
    logging.getLogger("botocore.endpoint").info("request to %s", PRESIGNED)

    text = lines()
    failed, retry = [json.loads(line) for line in text.splitlines()]
    assert "RuntimeError: cannot open https://bucket.s3.example.com/clip.mp4?" in failed["exception"]
    assert retry["message"] == f"retry https://bucket.s3.example.com/clip.mp4?{HIDDEN}"
    assert "0123abcdef0123" not in text
    assert SECRET not in text
