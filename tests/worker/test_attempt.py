"""Which attempt a delivery belongs to, and the header that travels with its message."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachify_tasks._worker.attempt import Attempt, Header, Hint, hint_of, task_id_of

COUNTS = st.integers(0, 10**6)
SENDINGS = st.text("0123456789abcdef")
ATTEMPTS = st.builds(Attempt, st.text(), COUNTS, COUNTS, COUNTS, SENDINGS)
HINTS = st.builds(Hint, pool=st.text(), starter=st.text(), waited_ms=COUNTS, token=COUNTS)
HEADERS = st.builds(
    Header, deferrals=COUNTS, handovers=COUNTS, sending=SENDINGS, is_copy=st.booleans(), hint=st.none() | HINTS
)  # fmt: skip
FIRST = Attempt("t")


@given(HEADERS, ATTEMPTS)
def test_a_header_is_read_as_it_was_written(header, attempt):
    text = header.encode(attempt)

    assert Header.decode(text, attempt) == header
    assert Header.decode(text.encode(), attempt) == header
    assert hint_of(text) == header.hint


@given(ATTEMPTS, ATTEMPTS)
def test_two_attempts_share_a_holder_only_if_they_are_the_same(one, other):
    assert (one.holder == other.holder) == (one == other)


@given(HEADERS, ATTEMPTS, ATTEMPTS)
def test_a_header_counts_for_its_own_attempt_alone(header, one, other):
    read = Header.decode(header.encode(one), other)

    assert read == (header if one.name == other.name else Header())


@pytest.mark.parametrize(
    ("attempt", "holder"),
    [
        (Attempt("t"), "t:0"),
        (Attempt("t", 2), "t:2"),
        (Attempt("t", 2, 1), "t:2.1"),
        (Attempt("t", 2, 1, 3), "t:2.1~3"),
        (Attempt("t", handovers=1), "t:0~1"),
        (Attempt("t", sending="3f"), "t:0#3f"),
        (Attempt("t", 2, 1, 3, "3f"), "t:2.1#3f~3"),
    ],
)
def test_a_holder_names_what_tells_attempts_apart(attempt, holder):
    assert attempt.holder == holder


def test_a_retry_that_inherits_the_header_of_its_attempt_begins_anew():
    inherited = Header(deferrals=3, handovers=2, is_copy=True, hint=Hint(pool="p")).encode(Attempt("t", 0))

    assert Header.decode(inherited, Attempt("t", 1)) == Header()
    assert Header.decode(inherited, Attempt("t", 0, nesting=1)) == Header()


def test_the_header_of_a_new_message_counts_though_its_attempt_was_handed_over_meanwhile():
    text = Header(deferrals=1, handovers=4).encode(Attempt("t", handovers=3))

    assert Header.decode(text, Attempt("t")) == Header(deferrals=1, handovers=4)


@given(st.text() | st.binary() | st.integers() | st.none() | st.lists(st.text()))
def test_what_is_no_header_counts_as_an_empty_one(text):
    assert Header.decode(text, FIRST) == Header()
    assert not hint_of(text)


@given(HEADERS, st.data())
def test_a_truncated_header_counts_as_an_empty_one(header, data):
    text = header.encode(FIRST)
    part = text[: data.draw(st.integers(0, len(text) - 1))]

    assert Header.decode(part, FIRST) == Header()
    assert not hint_of(part)


GOOD = {"attempt": "t:0", "deferrals": 1, "handovers": 1}


@pytest.mark.parametrize(
    "forged",
    [
        [], "t:0", 7, None, True,
        {"attempt": "t:0"}, {"attempt": "t:0", "deferrals": 1}, {"deferrals": 1, "handovers": 1},
        GOOD | {"attempt": None}, GOOD | {"attempt": ["t:0"]}, GOOD | {"attempt": "t:1"},
        GOOD | {"deferrals": "1"}, GOOD | {"deferrals": 1.5}, GOOD | {"handovers": None}, GOOD | {"handovers": [1]},
    ],
)  # fmt: skip
def test_a_forged_header_counts_as_an_empty_one(forged):
    assert Header.decode(json.dumps(forged), FIRST) == Header()
    assert not hint_of(json.dumps(forged))


@pytest.mark.parametrize(
    "hint",
    [
        None,
        [],
        "p",
        ["p"],
        ["p", "", 5],
        ["p", "", "5", 6],
        ["p", "", 5, None],
        [1, "", 5, 6],
        ["p", None, 5, 6],
        {"pool": "p"},
    ],
)
def test_a_forged_hint_is_none(hint: Any):
    text = json.dumps(GOOD | {"hint": hint})

    assert Header.decode(text, FIRST) == Header(deferrals=1, handovers=1)
    assert not hint_of(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"attempt":' * 100_000, "9" * 10_000, b"\xff\xfe", "\ud800"])
def test_a_header_that_cannot_be_read_costs_nobody(text):
    assert Header.decode(text, FIRST) == Header()
    assert not hint_of(text)


def test_a_field_of_another_version_is_passed_over():
    text = json.dumps(GOOD | {"new": {"deep": [1]}})

    assert Header.decode(text, FIRST) == Header(deferrals=1, handovers=1)


@given(ATTEMPTS)
def test_a_holder_tells_the_id_of_its_task(attempt):
    assert task_id_of(attempt.holder) == attempt.task_id


def test_a_holder_of_another_form_is_its_own_name():
    assert task_id_of("no attempt") == "no attempt"
