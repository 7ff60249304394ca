"""The import brings the pool alone: no store, no client of it, no framework, no event loop."""

from tests.support.programs import run


def test_the_import_brings_no_store_no_framework_and_no_event_loop():
    printed = run("""
        import sys
        import cachify_tasks.cachepool
        heavy = {"redis", "celery", "kombu", "taskiq", "asyncio", "inspect", "logging", "socket"}
        heavy |= {"cachify_tasks._runtime", "cachify_tasks._store"}
        print(sorted(heavy & set(sys.modules)))
        cachify_tasks.cachepool.AsyncCachePool
        print("asyncio" in sys.modules, "redis" in sys.modules)
    """)

    assert printed.splitlines() == ["[]", "True False"]


def test_the_package_has_its_names_without_being_asked_before():
    printed = run("""
        import cachify_tasks
        print(set(cachify_tasks.__all__) <= set(dir(cachify_tasks)))
        from cachify_tasks import *
        print(pool.__module__, cachify_tasks.strategies.Drop is Drop)
        from cachify_tasks import cachepool
        from cachify_tasks.cachepool import *
        print(AsyncCachePool.__module__)
        for package in (cachify_tasks, cachepool):
            try:
                package.nothing
            except AttributeError as error:
                print(error)
    """)

    assert printed.splitlines() == [
        "True",
        "cachify_tasks.pooling True",
        "cachify_tasks.cachepool.coroutines",
        "module 'cachify_tasks' has no attribute 'nothing'",
        "module 'cachify_tasks.cachepool' has no attribute 'nothing'",
    ]
