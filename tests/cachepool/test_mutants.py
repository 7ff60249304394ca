"""Each rule of the pool is broken on purpose; a test of the suite must fail."""

import pytest

from cachify_tasks import cachepool
from tests.cachepool import killers, test_beyond, test_defects, test_documented
from tests.cachepool.things import Things
from tests.support.mutants import Mutant, mutated

MUTANTS = [
    Mutant(
        "only one thread takes an idle element",
        "threads",
        "            record = self._idle.pop()\n",
        "            record = self._idle[-1]\n            __import__('time').sleep(0)\n            self._idle.pop()\n",
        killers.storm,
    ),
    Mutant(
        "a lent element is not idle",
        "threads",
        "            record = self._idle.pop()\n",
        "            record = self._idle[-1]\n",
        test_documented.test_no_other_caller_gets_a_lent_element,
    ),
    Mutant(
        "an element lent to a coroutine is not idle",
        "coroutines",
        "record = self._pop_idle()",
        "record = self._idle[-1] if self._idle else None",
        test_documented.test_no_other_caller_gets_a_lent_element,
    ),
    Mutant(
        "put to a full pool closes the element for coroutines",
        "coroutines",
        "            return\n        await self._result(self._dispose(record, element, record.gets - 1))\n",
        "            return\n",
        test_documented.test_put_to_a_full_pool_closes_the_element_and_is_not_counted,
    ),
    Mutant(
        "a pool that begins anew drops the elements of the closed loop",
        "records",
        "        self.idle.clear()\n",
        "",
        killers.begin_anew,
    ),
    Mutant(
        "a shared object is returned as often as it was lent",
        "base",
        "        record = self._records.claim_duplicate(element)\n",
        "        record = None\n",
        killers.share,
    ),
    Mutant(
        "the oldest is lent first",
        "records",
        "self.end = LAST if lifo else 0",
        "self.end = LAST",
        test_documented.test_the_element_that_was_put_first_is_lent_first,
    ),
    Mutant(
        "lifo lends the newest first",
        "records",
        "self.end = LAST if lifo else 0",
        "self.end = 0",
        test_beyond.test_a_lifo_pool_lends_first_what_was_put_last,
    ),
    Mutant(
        "pool_size bounds the idle ones",
        "records",
        "maxlen=size if 0 < size <= LAST else None",
        "maxlen=None",
        test_documented.test_put_to_a_full_pool_closes_the_element_and_is_not_counted,
    ),
    Mutant(
        "put claims a lent element",
        "threads",
        "            del record.lent\n",
        "",
        test_defects.test_an_element_that_is_put_twice_is_not_lent_twice,
    ),
    Mutant(
        "only one thread claims a lent element",
        "threads",
        "            del record.lent\n",
        "            record.lent\n            __import__('time').sleep(0.001)\n"
        "            record.lent = True\n            del record.lent\n",
        killers.scramble,
    ),
    Mutant(
        "close claims a lent element",
        "base",
        "            del record.lent\n",
        "",
        test_defects.test_an_idle_element_cannot_be_closed_by_the_caller_that_returned_it,
    ),
    Mutant(
        "each lending is counted",
        "threads",
        "                record.gets += 1\n",
        "",
        test_documented.test_stat_is_live_and_has_three_numbers,
    ),
    Mutant(
        "each lending lasts until the return",
        "threads",
        "                record.lent = True\n",
        "",
        test_documented.test_stat_is_live_and_has_three_numbers,
    ),
    Mutant(
        "the pool does not keep a lent element alive",
        "threads",
        "                record.element = None\n",
        "",
        killers.forget,
    ),
    Mutant(
        "a closed element is forgotten",
        "base",
        "        self._records.remove(record, puts)\n",
        "",
        killers.forget,
    ),
    Mutant(
        "put to a full pool closes the element",
        "threads",
        "            return\n        self._dispose(record, element, record.gets - 1)\n",
        "            return\n",
        test_documented.test_put_to_a_full_pool_closes_the_element_and_is_not_counted,
    ),
    Mutant(
        "put to a full pool is not counted",
        "threads",
        "            return\n        self._dispose(record, element, record.gets - 1)\n",
        "            return\n        self._dispose(record, element, record.gets)\n",
        test_documented.test_put_to_a_full_pool_closes_the_element_and_is_not_counted,
    ),
    Mutant(
        "the generator is called outside of any handler",
        "threads",
        "        except IndexError:\n            pass\n        else:\n            if not self._checks_idle:  #",
        "        except IndexError:\n            return self._generator(*self._args, **self._argkw)\n"
        "        else:\n            if not self._checks_idle:  #",
        test_documented.test_an_error_of_the_generator_reaches_the_caller_and_nothing_is_counted,
    ),
    Mutant(
        "a decider that raises does not leak the element",
        "wrappers",
        'so the element was closed: {raised!r}")\n        finally:\n',
        'so the element was closed: {raised!r}")\n            return\n        if True:\n',
        test_defects.test_a_decider_that_raises_does_not_leak_the_element,
    ),
    Mutant(
        "an interrupted decider does not leak the element",
        "wrappers",
        "        finally:\n            try:\n                await self._pool",
        "        if True:\n            try:\n                await self._pool",
        test_defects.test_an_interrupted_decider_does_not_leak_the_element,
    ),
    Mutant(
        "a wrapper keeps the outer element",
        "wrappers",
        "self._inside.setdefault(user, []).append(element)",
        "self._inside[user] = [element]",
        test_defects.test_a_wrapper_that_is_entered_twice_returns_both_elements,
    ),
    Mutant(
        "an element is idle from its put on",
        "threads",
        "            record.since = monotonic()\n",
        "            pass\n",
        killers.age,
    ),
    Mutant(
        "put to a closed pool closes the element",
        "threads",
        "                run(self._close_each(self._pop_stale))\n            return\n",
        "                pass\n            return\n",
        test_beyond.test_close_all_closes_idle_elements_now_and_lent_ones_as_they_come_back,
    ),
    Mutant(
        "a closed pool lends nothing",
        "threads",
        "        self._check_open()\n",
        "",
        test_beyond.test_a_closed_pool_lends_nothing,
    ),
    Mutant(
        "a validator that raises refuses",
        "base",
        "a validator may refuse by raising\n            return False\n",
        "a validator may refuse by raising\n            return True\n",
        test_beyond.test_a_validator_that_raises_refuses,
    ),
    Mutant(
        "an interrupted validator closes the element",
        "base",
        "            await self._close_idle(record)\n            raise\n",
        "            raise\n",
        test_beyond.test_an_interrupted_validator_does_not_leak_the_element,
    ),
    Mutant(
        "every element is closed even if closing one fails",
        "base",
        "                errors.append(error)\n",
        "                raise\n",
        test_beyond.test_clear_closes_every_element_even_if_closing_one_fails,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_fails_a_test(mutant, tmp_path):
    judge(mutant, Things())
    kind = "coroutines" if mutant.file == "coroutines" else "threads"

    with mutated(cachepool, mutant, tmp_path) as broken, pytest.raises((Exception, pytest.fail.Exception)):
        judge(mutant, Things(kind, broken))


def judge(mutant: Mutant, things: Things) -> None:
    try:
        mutant.killer(things)
    finally:
        things.end()
