# SPDX-License-Identifier: MIT
from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmjcd import protocol
from slurmjcd.protocol import Limits, Request, RequestParser
from tests.slurmjcd.jobs import job

RECORDS = [job(1), job(2, name="a" * 300), job(3, comment="\r\n*5\r\n$3\r\n")]
STREAM = b"".join([
    protocol.command("PING"),
    protocol.command("SLURMJC.HELLO", 1, "test/1"),
    protocol.command("SLURMJC.PUT", "SPOOL", "src", 17, "RECORDS", *RECORDS),
    protocol.command("slurmjc.put", "spool", "src", 20, "records", RECORDS[0]),
    protocol.command("PING", b""),
])  # fmt: skip


def parse_all(parser: RequestParser, *pieces: bytes) -> list[Request]:
    return [request for piece in pieces for request in parser.feed(piece)]


def expected() -> list[Request]:
    return [
        Request([b"PING"]),
        Request([b"SLURMJC.HELLO", b"1", b"test/1"]),
        Request([b"SLURMJC.PUT", b"SPOOL", b"src", b"17", b"RECORDS"], protocol.join_frames(RECORDS), 3),
        Request([b"slurmjc.put", b"spool", b"src", b"20", b"records"], protocol.join_frames(RECORDS[:1]), 1),
        Request([b"PING", b""]),
    ]


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_feed_yields_same_requests_wherever_the_stream_is_cut(cut: int) -> None:
    parser = RequestParser(takes_records=True)
    assert parse_all(parser, STREAM[:cut], STREAM[cut:]) == expected()
    assert parser.error is None
    assert parser.buffered == 0


def test_feed_takes_the_stream_byte_by_byte() -> None:
    parser = RequestParser(takes_records=True)
    assert parse_all(parser, *(STREAM[i : i + 1] for i in range(len(STREAM)))) == expected()


def test_a_put_is_an_ordinary_request_where_records_are_not_taken() -> None:
    (request,) = RequestParser().feed(protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", b"\xdcx"))
    assert request.args == [b"SLURMJC.PUT", b"SPOOL", b"s", b"1", b"RECORDS", b"\xdcx"]
    assert request.frames == b""


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=6), st.data())
def test_parser_reads_what_command_writes(commands: list[list[bytes]], data: st.DataObject) -> None:
    stream = b"".join(protocol.command(*args) for args in commands)
    cut = data.draw(st.integers(0, len(stream)))
    parser = RequestParser()
    assert [request.args for request in parse_all(parser, stream[:cut], stream[cut:])] == commands


@given(st.binary(max_size=200))
def test_any_bytes_end_in_requests_or_an_error_but_never_in_an_exception(data: bytes) -> None:
    parser = RequestParser(Limits(request_bytes=100, bulk_bytes=50, arguments=8), takes_records=True)
    parser.feed(data)
    assert parser.buffered <= 100 or parser.error is None
    if parser.error is not None:
        assert parser.feed(STREAM) == []


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"PING\r\n", "ERR", "inline commands are not taken"),
        (b"*0\r\n", "ERR", "a request has 1 to 65536 arguments, not 0"),
        (b"*65537\r\n", "ERR", "a request has 1 to 65536 arguments, not 65537"),
        (b"*4294967295\r\n", "ERR", "a request has 1 to 65536 arguments, not 4294967295"),
        (b"*99999999999\r\n", "ERR", "a length line of more than 10 digits"),
        (b"*-1\r\n", "ERR", "a length must be a decimal number"),
        (b"*1234567890123456", "ERR", "a length line of more than 10 digits"),
        (b"*1\r\n*1000000000\r\n", "ERR", "each argument must be a bulk string"),
        (b"*1\r\n:1\r\n", "ERR", "each argument must be a bulk string"),
        (b"*1\r\n$1048577\r\n", "TOOBIG", "an argument may have 1048576 bytes, this one has 1048577"),
        (b"*1\r\n$4294967295\r\n", "TOOBIG", "this one has 4294967295"),
        (b"*1\r\n$1\r\nabc", "ERR", "a bulk string must end with CR LF"),
        (b"*1\r\n$\r\n", "ERR", "a length must be a decimal number"),
        (b"*1\r\n$+1\r\na\r\n", "ERR", "a length must be a decimal number"),
        (b"*01\r\n$1\r\na\r\n", "ERR", "a length must not begin with 0"),
        (b"*1\r\n$01\r\na\r\n", "ERR", "a length must not begin with 0"),
    ],
)
def test_parser_refuses_a_broken_frame(data: bytes, code: str, text: str) -> None:
    parser = RequestParser(takes_records=True)
    assert parser.feed(data) == []
    assert parser.error is not None
    assert parser.error.code == code
    assert text in str(parser.error)


def test_parser_refuses_a_request_over_the_limit_before_it_has_come() -> None:
    parser = RequestParser(Limits(request_bytes=1000, bulk_bytes=800))
    assert parser.feed(b"*3\r\n$700\r\n" + b"x" * 700 + b"\r\n$300\r\n") == []
    assert parser.error is not None
    assert str(parser.error) == "a request may have 1000 bytes, this one has more"


def test_parser_refuses_too_many_bytes_of_records_in_one_request() -> None:
    parser = RequestParser(Limits(request_bytes=2000), takes_records=True)
    parser.feed(protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", *[job(i) for i in range(20)]))
    assert parser.error is not None
    assert parser.error.code == "TOOBIG"


@pytest.mark.parametrize("end", [b"xx", b"\n\r", b"$1"])
def test_parser_refuses_a_record_without_its_end(end: bytes) -> None:
    stream = protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", job(1), job(2))
    at = stream.index(job(1)) + len(job(1))
    parser = RequestParser(takes_records=True)
    assert parser.feed(stream[:at] + end + stream[at + 2 :]) == []
    assert str(parser.error) == "a bulk string must end with CR LF"


@pytest.mark.parametrize("wrong", [b"", b"x", b"\x93\x01\x02\x03", b"\xdd\x00\x00\x00\x26"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_put_tells_which_record_has_no_records_shape(wrong: bytes, index: int) -> None:
    records = [job(1), job(2)]
    records.insert(index, wrong)
    (request,) = RequestParser(takes_records=True).feed(
        protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", *records)
    )
    assert (request.bad_index, request.count) == (index, 3)
    assert protocol.split_frames(request.frames) == records


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(0, 8))
def test_frames_split_and_skip_as_they_were_joined(records: list[bytes], skip: int) -> None:
    frames = protocol.join_frames(records)
    assert protocol.split_frames(frames) == records
    skip = min(skip, len(records))
    assert protocol.skip_frames(frames, skip) == protocol.join_frames(records[skip:])
    assert protocol.first_frames(frames, skip) == protocol.join_frames(records[:skip])


@pytest.mark.parametrize("value", [None, 0, -7, 2**62, b"", b"a\r\nb", "text", [], [1, [b"x", None], "y"], True])
def test_reply_reads_back_with_hiredis(value: object) -> None:
    def plain(item: object) -> object:
        if isinstance(item, list):
            return [plain(part) for part in item]
        if isinstance(item, str):
            return item.encode()
        return int(item) if isinstance(item, bool) else item

    reader = hiredis.Reader()
    reader.feed(protocol.reply(value))
    assert reader.gets() == plain(value)


def test_reply_refuses_a_type_that_resp_lacks() -> None:
    with pytest.raises(TypeError, match="no RESP form for float"):
        protocol.reply(1.5)


def test_error_is_one_line_whatever_is_in_it() -> None:
    assert protocol.error("ERR", "a\r\n+OK\r\nb\x1b[2J\0") == b"-ERR a  +OK  b [2J \r\n"
    assert len(protocol.error("ERR", "x" * 5000)) < 1100


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"a", True),
        (b"Aa0_.:-", True),
        (b"x" * 64, True),
        (b"x" * 65, False),
        (b"", False),
        (b"a b", False),
        (b"\xff", False),
    ],
)
def test_ids_are_checked(value: bytes, good: bool) -> None:
    assert protocol.is_id(value) is good


def outcome(stream: bytes, cut: int) -> tuple[list[Request], str]:
    parser = RequestParser(takes_records=True)
    requests = parse_all(parser, stream[:cut], stream[cut:])
    return requests, str(parser.error)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=20), st.data())
def test_heads_that_were_met_before_change_nothing_but_the_time(tails: list[bytes], data: st.DataObject) -> None:
    records = [b"\xdc" + tail if data.draw(st.integers(0, 9)) else tail for tail in tails]
    good = protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", *(b"\xdc" + tail for tail in tails))
    stream = bytearray(protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", *records) + protocol.command("PING"))
    if data.draw(st.booleans()):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.sampled_from(b"\r\n$*09\xdcx"))
    cut = data.draw(st.integers(0, len(stream)))
    protocol._STEPS.clear()
    first = outcome(bytes(stream), cut)
    outcome(good, 0)
    assert protocol._STEPS or all(len(tail) + 1 > 9999 for tail in tails)
    assert outcome(bytes(stream), cut) == first


def test_a_limit_on_records_holds_for_heads_that_were_met_before() -> None:
    put = protocol.command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", *[b"\xdc" + b"x" * 200] * 2)
    assert len(RequestParser(takes_records=True).feed(put)) == 1
    parser = RequestParser(Limits(bulk_bytes=100), takes_records=True)
    assert parser.feed(put) == []
    assert parser.error is not None
    assert parser.error.code == "TOOBIG"
