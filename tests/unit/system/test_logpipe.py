"""Chunks of records: cut, mixed with other writers, put together again."""

import os

import pytest

from pgpool.system.logpipe import CHUNK, RECORD_MOST, Assembler, PipeWriter, chunks, open_pipe


@pytest.mark.parametrize("size", [1, 4086, 4087, 4088, 20000])
def test_a_record_of_any_length_comes_back(size):
    record = bytes(65 + n % 26 for n in range(size))
    pieces = chunks(77, record)
    assert all(len(piece) <= CHUNK for piece in pieces)
    assert Assembler().feed(b"".join(pieces)) == [(True, record)]


def test_records_of_many_processes_do_not_mix_wherever_the_reads_end():
    one, two = chunks(1, b"a" * 5000), chunks(2, b"b" * 5000)
    stream = one[0] + two[0] + b"plain text\n" + two[1] + one[1] + b"Traceback ...\n"
    want = [(False, b"plain text\n"), (True, b"b" * 5000), (True, b"a" * 5000), (False, b"Traceback ...\n")]
    for cut in [*range(0, 40), *range(4080, 4110), *range(8180, 8230), len(stream) - 20]:
        assembler = Assembler()
        got = assembler.feed(stream[:cut]) + assembler.feed(stream[cut:])
        joined = []
        for is_record, text in got:  # plain text may come in pieces
            if joined and not is_record and not joined[-1][0]:
                joined[-1] = (False, joined[-1][1] + text)
            else:
                joined.append((is_record, text))
        assert joined == want, cut


def test_byte_by_byte():
    assembler = Assembler()
    stream = b"x\n" + b"".join(chunks(9, b"record\n")) + b"y\n"
    got = [piece for n in range(len(stream)) for piece in assembler.feed(stream[n : n + 1])]
    assert b"".join(text for _, text in got) == b"x\nrecord\ny\n"
    assert (True, b"record\n") in got


def test_what_looks_like_a_header_and_is_none_is_text():
    assembler = Assembler()
    got = assembler.feed(b"\0\0\xff\xff\1\0\0\0\1abc") + assembler.flush()
    assert b"".join(text for _, text in got) == b"\xff\xff\1\1abc" and not any(is_record for is_record, _ in got)


def test_the_end_of_the_pipe_loses_nothing():
    assembler = Assembler()
    assert assembler.feed(chunks(5, b"z" * 5000)[0] + b"\0") == []
    assert assembler.flush() == [(True, b"z" * (CHUNK - 9))]
    assert assembler.flush() == []


def test_a_record_without_end_is_bounded():
    assembler = Assembler()
    piece = chunks(5, b"z" * 5000)[0]
    got = [x for _ in range(RECORD_MOST // 4000 + 2) for x in assembler.feed(piece)]
    assert got


def test_the_owner_never_waits_and_loses_nothing():
    read_fd, writer, write_fd, impatient_fd = open_pipe()
    try:
        for number in range(100):
            writer(b"%03d" % number + b"x" * 4000)
        assembler, seen = Assembler(), []
        while len(seen) < 100:
            writer.flush()
            seen += assembler.feed(os.read(read_fd, 1 << 16))
        assert [text[:3] for _, text in seen] == [b"%03d" % n for n in range(100)]
    finally:
        for fd in (read_fd, write_fd, impatient_fd):
            os.close(fd)


def test_nobody_reads():
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    writer = PipeWriter(write_fd, write_fd)
    writer(b"into the void")
    writer._owner = -1
    writer(b"into the void")
    os.close(write_fd)
