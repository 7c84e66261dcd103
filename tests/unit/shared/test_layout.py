"""Where cells lie, and that C and Python mean the same bytes."""

import ctypes
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool._fastpath import cell_sizes
from pgpool.model import Counter, Reason
from pgpool.shared import layout as lay
from pgpool.shared.layout import Layout

FASTPATH = Path(lay.__file__).parents[1] / "_fastpath"

sizes = st.tuples(st.integers(1, 128), st.integers(1, 5), st.integers(1, 4))


@given(sizes)
def test_cells_do_not_overlap_and_lie_inside(numbers):
    layout = Layout(*numbers, verdict_entries=16)
    end = 0
    for name, at, size in sorted(layout.cells(), key=lambda cell: cell[1]):
        assert at >= end, name
        assert at % lay.ALIGN == 0, name
        end = at + size
    assert end <= layout.size < end + lay.ALIGN


@given(sizes)
def test_every_cell_is_listed_once(numbers):
    nodes, children, pools = numbers
    names = [name for name, _, _ in Layout(*numbers, verdict_entries=16).cells()]
    assert len(set(names)) == len(names)
    per_child = 3 + pools * (1 + nodes)
    assert len(names) == 4 + lay.QUEUE_ENTRIES + 3 * nodes + children * per_child + 3


def test_hot_cells_are_as_the_design_says():
    layout = Layout(10, 32, 4)
    assert layout.hot_size == 2048 + 10 * 512
    assert all(layout.hot(c) % 64 == 0 for c in range(32))
    assert layout.hot(1) - layout.hot(0) == layout.hot_size
    assert lay.HOT_COUNTERS + 8 * len(Counter) <= lay.HOT_COUNTERS + lay.HOT_NODE_SIZE
    assert 8 * len(Counter) <= lay.HOT_LATENCY
    assert lay.HOT_LATENCY + 2 * 8 * lay.HISTOGRAM_WORDS <= lay.HOT_NODE_SIZE
    assert lay.HISTOGRAM_WORDS == 1 + lay.BUCKETS
    assert lay.HOT_STATEMENT + lay.HOT_STATEMENT_SIZE <= lay.HOT_REASONS
    assert lay.HOT_REASONS + 8 * lay.HOT_REASON_COUNT <= lay.HOT_WAIT
    assert lay.HOT_WAIT + 8 * lay.HISTOGRAM_WORDS <= lay.HOT_COUNTERS
    assert len(Reason) <= lay.HOT_REASON_COUNT


def test_hot_cell_offsets_are_those_of_the_c_struct():
    """The struct in counts.pxi, laid out by the rules of C, has its fields where layout.py says."""
    source = (FASTPATH / "counts.pxi").read_text()
    body = re.search(r"cdef struct Hot:\n((?:    .*\n)+)", source)
    assert body is not None
    kinds = {"uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "char": ctypes.c_char}
    fields = []
    for kind, name, count in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?", body[1]):
        fields.append((name, kinds[kind] * int(count) if count else kinds[kind]))
    hot = type("Hot", (ctypes.Structure,), {"_fields_": fields})
    offsets = {name: getattr(hot, name).offset for name, _ in fields}
    assert [
        offsets[n] for n in ("status", "text_len", "activity_us", "queries", "hits", "misses", "text", "reasons")
    ] == [lay.HOT_STATUS, lay.HOT_STATEMENT_LEN, lay.HOT_LAST_ACTIVITY, lay.HOT_QUERIES, lay.HOT_VERDICT_HITS,
          lay.HOT_VERDICT_MISSES, lay.HOT_STATEMENT, lay.HOT_REASONS]  # fmt: skip
    for name, value in (("HOT_COUNTERS", lay.HOT_COUNTERS), ("HOT_NODE", lay.HOT_NODE_SIZE),
                        ("HOT_TEXT", lay.HOT_STATEMENT_SIZE), ("HOT_LATENCY", lay.HOT_LATENCY),
                        ("HOT_REASON_COUNT", lay.HOT_REASON_COUNT), ("BUCKETS", lay.BUCKETS),
                        ("HISTOGRAM_WORDS", lay.HISTOGRAM_WORDS), ("FIRST_BITS", lay.FIRST_BITS)):  # fmt: skip
        assert re.search(rf"\b{name} = {value}\b", source), name


def test_header_offsets_never_move():
    at = {name: offset for name, (offset, _, _) in lay.HEADER.fields.items()}
    assert at["magic"] == 0
    assert at["epoch"] == 8
    assert (at["seed0"], at["seed1"]) == (16, 24)
    assert (at["primary_id"], at["main_id"]) == (32, 36)
    assert (at["verdict_entries"], at["verdict_offset"]) == (52, 56)
    assert (at["hot_offset"], at["hot_size"]) == (64, 72)


CELLS = [value for value in vars(lay).values() if isinstance(value, lay.Cell)]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_fields_of_a_cell_are_aligned_and_apart(cell):
    end = 0
    for name, (at, code, size) in cell.fields.items():
        assert at >= end, name
        assert at % struct.calcsize("@" + code) == 0, name
        end = at + size
    assert end == cell.whole.size <= cell.size
    assert len(cell.row._fields) == len(cell.fields)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_whole_cell_and_single_fields_agree(cell):
    """What ``set`` writes word by word is what ``read`` takes out as a whole."""
    buf = memoryview(bytearray(cell.size))
    record = lay.Record(lay.Words(buf), 0, cell)
    wanted = {}
    for i, (name, (_, code, _)) in enumerate(cell.fields.items()):
        wanted[name] = bytes([65 + i]) * 3 if code == "s" else i * 2
        record.set(name, wanted[name])
    row = cell.row._make(cell.whole.unpack(bytes(buf[: cell.whole.size])))
    for name, value in wanted.items():
        got = getattr(row, name)
        assert (got.rstrip(b"\0") if isinstance(got, bytes) else got) == value, name


def test_each_cell_names_its_writer_in_the_table():
    table = lay.__doc__ or ""
    for name, cell in vars(lay).items():
        if isinstance(cell, lay.Cell):
            assert name in table, name
            assert cell.writer, name


@given(st.text(), st.integers(1, 70))
def test_text_is_cut_between_characters(text, limit):
    raw = lay.to_bytes(text, limit)
    whole = text.partition("\0")[0].encode("utf-8", "surrogateescape") if _encodable(text) else None
    assert len(raw) <= limit
    if whole is None:
        return
    assert whole.startswith(raw)
    back = lay.to_text(raw.ljust(limit + 1, b"\0"))
    if "\ufffd" not in text:
        assert "\ufffd" not in back
    assert text.startswith(back)
    assert len(raw) > limit - 4 or raw == whole


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def test_bytes_that_are_not_utf8_are_kept_short_and_shown_as_replacement():
    raw = lay.to_bytes(b"\x80" * 100, 63)
    assert 59 <= len(raw) <= 63
    assert lay.to_text(b"M\xfcller\0\0") == "M\ufffdller"


def test_c_knows_the_cells_it_writes():
    """_fastpath/guest.pxi writes them for sessions that begin without Python."""
    child, slot = cell_sizes()
    assert child == lay.CHILD.whole.size
    assert slot == lay.SLOT.fields["database"][0]
