"""Each rule of the pool, broken on purpose, fails a test of the suite."""

import pytest

from cachify_tasks import cachepool
from tests.cachepool import killers, test_beyond, test_defects, test_documented
from tests.cachepool.things import Things
from tests.support.mutants import Mutant, mutated

MUTANTS = [
    Mutant(
        "one thread alone takes an idle element",
        "threads",
        "            record = self._idle.pop()\n",
        "            record = self._idle[-1]\n            __import__('time').sleep(0)\n            self._idle.pop()\n",
        killers.storm,
    ),
    Mutant(
        "an element that is lent is not idle",
        "threads",
        "            record = self._idle.pop()\n",
        "            record = self._idle[-1]\n",
        test_documented.test_nobody_else_gets_an_element_that_is_lent,
    ),
    Mutant(
        "an element that a coroutine has is not idle",
        "coroutines",
        "record = self._pop()",
        "record = self._idle[-1] if self._idle else None",
        test_documented.test_nobody_else_gets_an_element_that_is_lent,
    ),
    Mutant(
        "what a full pool refuses is closed for coroutines",
        "coroutines",
        "            return\n        await self._ended(record, element)\n",
        "            return\n",
        test_documented.test_a_full_pool_closes_what_is_put_and_does_not_count_it,
    ),
    Mutant(
        "a new life begins without the elements of the old one",
        "records",
        "        self._idle.clear()\n",
        "",
        killers.begin_anew,
    ),
    Mutant(
        "a shared object is returned as often as it was lent",
        "base",
        "        record = self._twin(element)\n",
        "        record = None\n",
        killers.share,
    ),
    Mutant(
        "the oldest is lent first",
        "records",
        "self._end = LAST if lifo else 0",
        "self._end = LAST",
        test_documented.test_what_was_put_first_is_lent_first,
    ),
    Mutant(
        "lifo lends the newest first",
        "records",
        "self._end = LAST if lifo else 0",
        "self._end = 0",
        test_beyond.test_what_was_put_last_is_lent_first_when_lifo,
    ),
    Mutant(
        "pool_size bounds the idle ones",
        "records",
        "maxlen=size if 0 < size <= LAST else None",
        "maxlen=None",
        test_documented.test_a_full_pool_closes_what_is_put_and_does_not_count_it,
    ),
    Mutant(
        "put claims what is lent",
        "threads",
        "            del record.lent\n",
        "",
        test_defects.test_what_is_put_twice_is_not_lent_twice,
    ),
    Mutant(
        "one thread alone claims what is lent",
        "threads",
        "            del record.lent\n",
        "            record.lent\n            __import__('time').sleep(0.001)\n"
        "            record.lent = True\n            del record.lent\n",
        killers.scramble,
    ),
    Mutant(
        "close claims what is lent",
        "base",
        "            del record.lent\n",
        "",
        test_defects.test_what_is_idle_cannot_be_closed_by_who_gave_it_back,
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
        "an idle element is not lent while its user has it",
        "threads",
        "                record.element = None\n",
        "",
        killers.forget,
    ),
    Mutant(
        "what is closed is forgotten",
        "base",
        "        self._retire(record, puts)\n",
        "",
        killers.forget,
    ),
    Mutant(
        "what a full pool refuses is closed",
        "threads",
        "            return\n        self._dispose(record, element, record.gets - 1)\n",
        "            return\n",
        test_documented.test_a_full_pool_closes_what_is_put_and_does_not_count_it,
    ),
    Mutant(
        "what a full pool refuses is not counted",
        "threads",
        "            return\n        self._dispose(record, element, record.gets - 1)\n",
        "            return\n        self._dispose(record, element, record.gets)\n",
        test_documented.test_a_full_pool_closes_what_is_put_and_does_not_count_it,
    ),
    Mutant(
        "the generator is called outside of any handler",
        "threads",
        "        except IndexError:\n            pass\n        else:\n            if not self._vetted:  #",
        "        except IndexError:\n            return self._generator(*self._args, **self._argkw)\n"
        "        else:\n            if not self._vetted:  #",
        test_documented.test_an_error_of_the_generator_is_the_caller_s_and_counts_nothing,
    ),
    Mutant(
        "a decider that raises does not keep the element",
        "flows",
        '        error[1].add_note(f"reuse_decider failed, so the element was closed: {raised!r}")\n    finally:\n',
        "        return\n    if True:\n",
        test_defects.test_a_decider_that_raises_does_not_leak_the_element,
    ),
    Mutant(
        "a decider that is interrupted does not keep the element",
        "flows",
        "    finally:\n        try:\n            yield partial(pool.put",
        "    if True:\n        try:\n            yield partial(pool.put",
        test_defects.test_a_decider_that_is_interrupted_does_not_leak_the_element,
    ),
    Mutant(
        "a wrapper keeps the outer element",
        "wrappers",
        "self._inside.setdefault(who, []).append(element)",
        "self._inside[who] = [element]",
        test_defects.test_a_wrapper_that_is_entered_twice_returns_both_elements,
    ),
    Mutant(
        "what is put is old from then on",
        "threads",
        "            record.since = monotonic()\n",
        "            pass\n",
        killers.age,
    ),
    Mutant(
        "put closes what a closed pool must not keep",
        "threads",
        "                drive(emptying(self._stale, self._ending))\n            return\n",
        "                pass\n            return\n",
        test_beyond.test_close_all_closes_idle_ones_now_and_lent_ones_as_they_come_back,
    ),
    Mutant(
        "a closed pool lends nothing",
        "threads",
        "        self._check_open()\n",
        "",
        test_beyond.test_a_closed_pool_lends_nothing,
    ),
    Mutant(
        "a validator that fails refuses",
        "base",
        "                    fit = False\n",
        "                    fit = True\n",
        test_beyond.test_a_validator_that_fails_refuses,
    ),
    Mutant(
        "a validator that is interrupted closes",
        "base",
        "                    yield self._ending(found)\n                    raise\n",
        "                    raise\n",
        test_beyond.test_a_validator_that_is_interrupted_does_not_leak_the_element,
    ),
    Mutant(
        "all are closed though one fails",
        "flows",
        "            errors.append(error)\n",
        "            raise\n",
        test_beyond.test_clear_closes_all_though_closing_fails,
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
