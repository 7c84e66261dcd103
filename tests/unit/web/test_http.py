"""HTTP as bytes in, bytes out: what is answered, and what hostile bytes do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.web.answers import Answer
from pgpool.web.http import HEAD_MOST, Exchange

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"


def exchange() -> Exchange:
    return Exchange({"/page": lambda accept: Answer(200, f"accept {accept}".encode())})


def ask(data: bytes) -> tuple[bytes, Exchange]:
    one = exchange()
    one.receive(data)
    return one.answer(), one


def test_get_and_keep_alive():
    out, one = ask(GET)
    assert out.startswith(b"HTTP/1.1 200 ") and out.endswith(b"\r\n\r\naccept ") and not one.over
    one.receive(GET.replace(b"\r\n\r\n", b"\r\nAccept: text/plain\r\n\r\n"))
    assert one.answer().endswith(b"accept text/plain")


def test_one_request_is_answered_at_a_time():
    out, one = ask(GET + GET)
    assert out.count(b"HTTP/1.1 200 ") == 1
    assert one.answer().count(b"HTTP/1.1 200 ") == 1
    assert one.answer() == b""


def test_split_at_every_byte():
    one = exchange()
    for byte in GET[:-1]:
        one.receive(bytes([byte]))
        assert one.answer() == b""
    one.receive(GET[-1:])
    assert one.answer().startswith(b"HTTP/1.1 200 ")


def test_head_has_the_length_and_no_body():
    out, one = ask(GET.replace(b"GET", b"HEAD"))
    assert b"content-length: 7" in out.lower() and out.endswith(b"\r\n\r\n") and not one.over


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"/page", b"/other"), b"404"),
        (GET.replace(b"GET", b"DELETE"), b"405"),
        (b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", b"413"),
        (b"GET /page HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET /" + b"a" * HEAD_MOST + b" HTTP/1.1\r\n", b"431"),
    ],
)
def test_refusals(request_, status):
    out, one = ask(request_)
    assert out.split()[1] == status
    assert one.over or status in (b"404", b"405")


def test_connection_close_and_http_1_0():
    assert ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))[1].over
    assert ask(b"GET /page HTTP/1.0\r\n\r\n")[1].over


def test_end_of_stream():
    out, one = ask(b"")
    assert out == b"" and one.over


@given(st.lists(st.binary(max_size=60) | st.just(GET), max_size=6))
def test_any_bytes_are_harmless(parts):
    one = exchange()
    for part in parts:
        if one.over or not part:
            break
        one.receive(part)
        while one.answer():
            pass
