"""Expressions that cannot be broken out of, and attributes with a type."""

import random
from datetime import UTC, datetime

import classad2
import pytest

from condor import ads
from condor.errors import AdError


def value_of(expression: str, **attributes: object) -> object:
    return classad2.ExprTree(expression).eval(classad2.ClassAd(attributes))


@pytest.mark.parametrize(
    "text",
    ["", "alice", 'o"brien', "back\\slash", "a\nb", "\x01", "é", "x; y = 1", '" || true || "'],
)
def test_a_quoted_text_is_that_text_to_the_classad_library(text: str) -> None:
    assert value_of(ads.quote(text)) == text


def test_random_text_survives_quoting() -> None:
    randomness = random.Random(20261120)  # noqa: S311 (no secret)
    for _ in range(500):
        text = "".join(chr(randomness.randrange(1, 0x2FF)) for _ in range(12))
        assert value_of(ads.quote(text)) == text


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "half a character"])
def test_what_would_crash_the_library_is_refused(text: str) -> None:
    with pytest.raises(AdError, match="without NUL"):
        ads.quote(text)


@pytest.mark.parametrize(
    "value, written",
    [
        ("a", '"a"'),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (-(2**63), str(-(2**63))),
        (2.5, "2.5"),
    ],
)
def test_literals(value: ads.Scalar, written: str) -> None:
    assert ads.literal(value) == written


@pytest.mark.parametrize("value", [2**63, float("nan"), float("inf")])
def test_numbers_that_no_ad_can_hold_are_refused(value: ads.Scalar) -> None:
    with pytest.raises(AdError):
        ads.literal(value)


@pytest.mark.parametrize("owner, answer", [("alice", True), ("Alice", False), ("bob", False)])
def test_equals_minds_the_case(owner: str, answer: bool) -> None:
    assert value_of(ads.equals("Owner", "alice"), Owner=owner) is answer


def test_equals_is_false_where_the_attribute_is_absent() -> None:
    assert value_of(ads.equals("Owner", "alice")) is False


@pytest.mark.parametrize("name", ["", "1st", "a b", "A.B", "Owner == 1 ||", "Ä", "a\n"])
def test_what_is_no_attribute_name_is_refused(name: str) -> None:
    with pytest.raises(AdError):
        ads.equals(name, 1)


def test_a_list_of_thousands_can_be_evaluated() -> None:
    expression = ads.is_among("ClusterId", range(5000))
    assert value_of(expression, ClusterId=4999) is True
    assert value_of(expression, ClusterId=5000) is False


@pytest.mark.parametrize("cluster, answer", [(1, False), (2, True), (3, True), (4, False)])
def test_between_includes_both_ends(cluster: int, answer: bool) -> None:
    assert value_of(ads.is_between("ClusterId", 2, 3), ClusterId=cluster) is answer


def test_joined_expressions_keep_their_own_meaning() -> None:
    assert value_of(ads.all_of(["true || true", "false"])) is False
    assert value_of(ads.any_of(["false && false", "true"])) is True
    assert value_of(ads.all_of([])) is True
    assert value_of(ads.any_of([])) is False


AN_AD = classad2.ClassAd(
    '[ Cmd = strcat("/bin/", "sh"); Cores = 1 + 1; Idle = true; Void = undefined; '
    'Broken = 1 / 0; QDate = 1795176000; Text = "x" ]'
)


def test_attributes_are_evaluated() -> None:
    assert ads.string(AN_AD, "Cmd") == "/bin/sh"
    assert ads.integer(AN_AD, "cores") == 2
    assert ads.boolean(AN_AD, "Idle") is True
    assert ads.moment(AN_AD, "QDate") == datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_optional_attributes_are_none_where_absent_or_undefined() -> None:
    for name in ("Void", "Nothing"):
        assert not ads.has(AN_AD, name)
        assert ads.optional_string(AN_AD, name) is None
        assert ads.optional_integer(AN_AD, name) is None
        assert ads.optional_moment(AN_AD, name) is None


@pytest.mark.parametrize("name", ["Text", "Idle", "Void", "Nothing", "Broken"])
def test_an_error_names_the_attribute_and_what_was_expected(name: str) -> None:
    with pytest.raises(AdError, match=f"attribute {name} is .*, expected an integer") as raised:
        ads.integer(AN_AD, name)
    assert raised.value.attribute == name


@pytest.mark.parametrize("read", [ads.string, ads.boolean, ads.optional_string])
def test_other_kinds_are_refused_as_well(read: object) -> None:
    with pytest.raises(AdError):
        read(AN_AD, "Cores")  # type: ignore[operator]
