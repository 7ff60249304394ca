"""Greenlets are told apart, whenever the package was imported: each gets back the element that it has entered with."""

import pytest

from tests.support.programs import run

PATCHES = {
    "imported before": "import cachify_tasks.cachepool; from gevent import monkey; monkey.patch_all()",
    "imported after": "from gevent import monkey; monkey.patch_all(); import cachify_tasks.cachepool",
    "without threads": "import cachify_tasks.cachepool; from gevent import monkey; monkey.patch_all(thread=False)",
    "not patched": "import cachify_tasks.cachepool, gevent",
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_greenlets_in_one_wrapper_leave_with_their_own_elements(patch):
    printed = run(
        patch
        + """
import gevent
from gevent.event import Event
from cachify_tasks.cachepool import CachePool, CacheWrapper

pool = CachePool(object, lifo=True)
wrapper = CacheWrapper(pool)
entered, leave, elements = {}, {}, {}

def use(name):
    with wrapper as element:
        elements[name] = element
        entered[name].set()
        leave[name].wait()
        print(name, "has its own" if wrapper.element is element else "has another's")

def start(name):
    entered[name], leave[name] = Event(), Event()
    greenlet = gevent.spawn(use, name)
    entered[name].wait()
    return greenlet

def end(name, greenlet):
    leave[name].set()
    greenlet.join()

a, b = start("a"), start("b")
end("a", a)
c = start("c")
print("c was lent what b uses" if elements["c"] is elements["b"] else "c was lent what a gave back")
end("b", b)
end("c", c)
print(wrapper.element, pool.stat)
"""
    )

    assert printed.splitlines() == [
        "a has its own",
        "c was lent what a gave back",
        "b has its own",
        "c has its own",
        "None {'new': 2, 'get': 3, 'put': 3}",
    ]


def test_a_block_that_began_before_greenlets_were_loaded_ends_with_its_own_element():
    printed = run("""
        import threading
        from cachify_tasks.cachepool import CachePool, CacheWrapper

        pool = CachePool(list)
        wrapper = CacheWrapper(pool)
        entered, leave = threading.Event(), threading.Event()

        def other():
            with wrapper as element:
                element.append("other")
                entered.set()
                leave.wait()

        with wrapper as element:
            thread = threading.Thread(target=other)
            thread.start()
            entered.wait()
            import greenlet
            print(wrapper.element is element)
        print(pool.get() is element)
        leave.set()
        thread.join()
        print(pool.get())
    """)

    assert printed.splitlines() == ["True", "True", "['other']"]
