"""One tree of errors; they survive pickling, as results of tasks do."""

import copy
import pickle

import pytest

from cachify_tasks import errors
from cachify_tasks.errors import CachifyError, CachifyPoolFullError, LeaseLost

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("cls", ALL)
def test_every_error_is_of_one_root(cls):
    assert issubclass(cls, CachifyError)
    assert issubclass(cls, Exception)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_a_full_error_survives(again):
    error = again(CachifyPoolFullError("my words", "p", 3, 2))

    assert (str(error), error.key, error.limit, error.held) == ("my words", "p", 3, 2)


def test_a_full_error_made_by_hand_needs_nothing():
    assert str(CachifyPoolFullError("mine")) == "mine"
    assert str(CachifyPoolFullError(key="p", limit=3, held=3)) == "pool 'p' is full: 3 of 3 slots are taken"
    assert CachifyPoolFullError().limit is None


@pytest.mark.parametrize("cls", [cls for cls in ALL if cls is not CachifyPoolFullError])
def test_the_others_survive_too(cls):
    error = pickle.loads(pickle.dumps(cls("words")))

    assert type(error) is cls
    assert error.args == ("words",)


def test_a_lost_lease_is_no_error_of_the_store():
    assert not issubclass(LeaseLost, errors.CachifyStoreError)
