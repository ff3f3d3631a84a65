"""What a sweep makes of a template, and which ranges and templates are refused."""

from __future__ import annotations

import itertools

import pytest

from desktopgrid.client.sweep import MOST_WORKS, Axis, BadSweep, axis_of, expand


@pytest.mark.parametrize(
    "text, values",
    [
        ("N=1..3", [1, 2, 3]),
        ("N=1..10:4", [1, 5, 9]),
        ("N=3..1:-1", [3, 2, 1]),
        ("N=-2..2:2", [-2, 0, 2]),
        ("N=7..7", [7]),
        ("N=0..+2", [0, 1, 2]),
    ],
)
def test_a_range_holds_its_last_value(text: str, values: list[int]) -> None:
    assert axis_of(text).name == "N"
    assert list(axis_of(text).values) == values


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("1..3", "is no range"),
        ("N=1-3", "is no range"),
        ("N=1..", "is no range"),
        ("N=a..b", "is no range"),
        ("2N=1..3", "is no range"),
        ("N=3..1", "is empty"),
        ("N=1..3:-1", "is empty"),
        ("N=1..3:0", "step 0"),
        ("N=1..99999999999999999999", "more than"),
    ],
)
def test_a_bad_range_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(BadSweep, match=complaint) as refused:
        axis_of(text)
    assert repr(text) in str(refused.value)


N, M = Axis("N", [1, 2]), Axis("M", ["a", "b"])


@pytest.mark.parametrize(
    "template, axes, works",
    [
        pytest.param(["x", "{N}"], [], [("x", "{N}")], id="nothing swept: taken as it is"),
        pytest.param(["{N}"], [N], [("1",), ("2",)], id="one axis"),
        pytest.param(
            ["{N}{M}"], [N, M], [("1a",), ("1b",), ("2a",), ("2b",)], id="the last runs fastest"
        ),
        pytest.param(
            ["-o", "t{N:03}.png"], [N], [("-o", "t001.png"), ("-o", "t002.png")], id="zeros"
        ),
        pytest.param(["{{N}}", "{N}"], [N], [("{N}", "1"), ("{N}", "2")], id="braces"),
        pytest.param(["{index}"], [M], [("0",), ("1",)], id="the number of the work"),
        pytest.param(["x"], [N], [("x",), ("x",)], id="the same work twice"),
        pytest.param([], [N], [(), ()], id="no arguments"),
        pytest.param(["{line}"], [Axis("line", ["{N} $x"])], [("{N} $x",)], id="values are values"),
    ],
)
def test_expand(template: list[str], axes: list[Axis], works: list[tuple[str, ...]]) -> None:
    assert list(expand(template, axes)) == works


@pytest.mark.parametrize(
    "template, axes, complaint",
    [
        pytest.param(["{X}"], [N], "swept by nothing; known are {N}, {index}", id="unknown name"),
        pytest.param(["{"], [N], "a lone '{'", id="open brace"),
        pytest.param(["}"], [N], "a lone '}'", id="closed brace"),
        pytest.param(["{N!r}"], [N], "a lone '{'", id="no python formats"),
        pytest.param(["{N}"], [N, N], "taken", id="a name twice"),
        pytest.param(["x"], [Axis("index", [1])], "taken", id="our own name"),
        pytest.param(
            ["{N}{K}"],
            [Axis("N", range(10_000)), Axis("K", range(10_000))],
            f"at most {MOST_WORKS}",
            id="too many",
        ),
    ],
)
def test_a_bad_sweep_is_refused_before_the_first_work(
    template: list[str], axes: list[Axis], complaint: str
) -> None:
    with pytest.raises(BadSweep) as refused:
        expand(template, axes)
    assert complaint in str(refused.value)


def test_a_long_sweep_is_made_as_it_is_read() -> None:
    works = expand(["{N}"], [Axis("N", range(MOST_WORKS))])
    assert list(itertools.islice(works, 2)) == [("0",), ("1",)]
