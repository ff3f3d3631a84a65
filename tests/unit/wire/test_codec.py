"""Messages to bytes and back: one corpus for the standard library's codec and the server's."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.server.codec import CODEC
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import STDLIB, Codec, frame_of
from desktopgrid.wire.exchange import RULES

CODECS = {"standard library": STDLIB, "msgspec": CODEC}
both = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES: dict[object, st.SearchStrategy[object]] = {
    str: TEXTS,
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    typing.Any: st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXTS),
}


def values(hint: object) -> st.SearchStrategy[object]:
    """Values that a field of type ``hint`` may have."""
    if hint in LEAVES:
        return LEAVES[hint]
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Union:
        return st.one_of(st.none(), values(arguments[0]))
    if origin is dict:
        return st.dictionaries(TEXTS, values(arguments[1]), max_size=3)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    return messages_of(hint)


def messages_of(kind: object) -> st.SearchStrategy[object]:
    """Messages of one kind, each field anything that its type allows."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: values(hints[f.name]) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return st.builds(kind, **fields)  # type: ignore[arg-type]


ANY_MESSAGE = st.one_of([messages_of(rule.kind) for rule in RULES.values()])


@pytest.mark.parametrize("reader", CODECS.values(), ids=CODECS.keys())
@pytest.mark.parametrize("writer", CODECS.values(), ids=CODECS.keys())
@given(message=ANY_MESSAGE, number=st.integers(0, 2**53 - 1))
def test_what_one_codec_writes_any_codec_reads(
    writer: Codec, reader: Codec, message: m.Message, number: int
) -> None:
    acknowledged, raws = reader.split(frame_of(7, (writer.encode(message, number),)))
    assert acknowledged == 7
    [(verb, sequence, raw)] = raws
    assert (verb, sequence) == (message.verb, number)
    assert reader.body(type(message), raw) == message


@both
def test_a_field_at_its_default_is_left_out(codec: Codec) -> None:
    message = m.Finished(task="w:1", epoch=5, exit_code=0)
    body = b'{"task":"w:1","epoch":5,"exit_code":0}'
    assert codec.encode(message, 9) == b'["finished",9,' + body + b"]"


@both
def test_a_field_that_nobody_knows_is_ignored(codec: Codec) -> None:
    _, [(_, _, raw)] = codec.split(b'[0,["bye",1,{"reason":"done","mood":"fine"}]]')
    assert codec.body(m.Bye, raw) == m.Bye("done")


@both
def test_bytes_travel_as_base64(codec: Codec) -> None:
    encoded = codec.encode(m.Finished("w:1", 5, stdout=b"\xff\x00"), 1)
    assert b'"stdout":"/wA="' in encoded


@both
def test_a_status_travels_as_its_word(codec: Codec) -> None:
    encoded = codec.encode(m.Reply(1, {"status": WorkStatus.RUNNING}), 2)
    assert encoded == b'["reply",2,{"to":1,"body":{"status":"RUNNING"}}]'


@both
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"nonsense",
        b"\xff\xfe[0]",
        b"{}",
        b"[]",
        b"7",
        b'["1"]',
        b"[-1]",
        b"[1.5]",
        b"[true]",
        b"[null]",
        b"[0,1]",
        b"[0,{}]",
        b"[0,[]]",
        b'[0,["bye"]]',
        b'[0,["bye",1]]',
        b'[0,["bye",-1,{}]]',
        b'[0,["bye","1",{}]]',
        b'[0,["bye",true,{}]]',
        b'[0,["bye",1,{},2]]',
        b"[0,[1,1,{}]]",
        b'[0,["bye",1,{}],3]',
        b'[0,["bye",1,NaN]]',
        b"[0] [1]",
        b"[" * 100_000,
        b"[" + b"9" * 5_000 + b"]",
    ],
    ids=lambda frame: repr(frame[:20]),
)
def test_what_is_no_frame_is_the_peers_fault(codec: Codec, frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        codec.split(frame)


@both
@pytest.mark.parametrize(
    "kind, body",
    [
        (m.Bye, b"[]"),
        (m.Bye, b"null"),
        (m.Bye, b'{"reason":1}'),
        (m.Started, b'{"task":"w:1"}'),
        (m.Started, b'{"task":"w:1","epoch":"5"}'),
        (m.Started, b'{"task":"w:1","epoch":5.5}'),
        (m.Started, b'{"task":"w:1","epoch":true}'),
        (m.Started, b'{"task":null,"epoch":5}'),
        (m.Finished, b'{"task":"w:1","epoch":5,"stdout":"no base 64!"}'),
        (m.Finished, b'{"task":"w:1","epoch":5,"stdout":[1]}'),
        (m.Finished, b'{"task":"w:1","epoch":5,"usage":[1,2,3]}'),
        (m.Finished, b'{"task":"w:1","epoch":5,"usage":[1,2,"3",4]}'),
        (m.Finished, b'{"task":"w:1","epoch":5,"outputs":{"name":"n"}}'),
        (m.Finished, b'{"task":"w:1","epoch":5,"outputs":[{"name":"n"}]}'),
        (m.Alive, b'{"load":"high"}'),
        (m.Alive, b'{"load":1e999}'),
        (m.Alive, b'{"load":' + b"9" * 400 + b"}"),
        (m.Hello, b'{"version":1,"kind":"worker","identity":"i","proof":"p","session":2}'),
        (m.SubmitPilots, b'{"site":"s","pilots":["a"]}'),
        (m.SubmitPilots, b'{"site":"s","pilots":{"a":1}}'),
    ],
    ids=lambda value: value.verb if isinstance(value, type) else repr(value[:60]),
)
def test_a_wrong_body_is_the_peers_fault(codec: Codec, kind: type[m.Message], body: bytes) -> None:
    _, [(_, _, raw)] = codec.split(b'[0,["x",1,' + body + b"]]")
    with pytest.raises(RemoteProtocolError):
        codec.body(kind, raw)


@both
def test_an_integer_is_a_number_too(codec: Codec) -> None:
    _, [(_, _, raw)] = codec.split(b'[0,["alive",0,{"load":2}]]')
    message = codec.body(m.Alive, raw)
    assert isinstance(message, m.Alive)
    assert isinstance(message.load, float)


@given(noise=st.binary(max_size=60))
def test_noise_never_breaks_the_codec(noise: bytes) -> None:
    for codec in CODECS.values():
        try:
            codec.split(noise)
        except RemoteProtocolError:
            continue
