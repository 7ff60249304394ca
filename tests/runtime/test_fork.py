"""What a forked child resets, in which order."""

from tests.support.programs import run


def test_callbacks_run_in_the_child_in_the_order_of_their_registration_and_one_that_fails_stops_no_other():
    said = run(
        """
        import os, sys
        from cachify_tasks import _fork
        from cachify_tasks._fork import after_in_child
        ran = []
        after_in_child(lambda: ran.append("first"))
        after_in_child(lambda: 1 / 0)
        after_in_child(lambda: ran.append("last"))
        if (child := os.fork()) == 0:
            os.write(1, " ".join(ran).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert not ran
        """
    )

    assert said == "first last"


def test_what_others_rely_on_is_reset_before_them():
    said = run(
        """
        import cachify_tasks
        from cachify_tasks import _fork, init_cachify, pool
        print(*[c.__module__ if not hasattr(c, "__self__") else type(c.__self__).__module__ for c in _fork._callbacks])
        """
    )

    order = [name.removeprefix("cachify_tasks._runtime.") for name in said.split()]
    assert sorted(order) == ["direct_calls", "entries", "event_log", "events", "lease_renewer", "runtime"]
    for module, user in [
        ("events", "lease_renewer"),
        ("event_log", "lease_renewer"),
        ("lease_renewer", "runtime"),
    ]:
        assert order.index(module) < order.index(user)
