"""What several workers do together, and what is left of one that stalls or dies, is the same in every framework."""

import time

from tests.support.waiting import PATIENCE_S, wait_until


def test_an_heir_starts_in_the_worker_that_released(make_driver):
    driver = make_driver()
    with driver.worker() as first:
        _, gate = driver.hold("heirs")
        sent = [driver.park("heirs") for _ in range(5)]
        with driver.worker():
            driver.open(gate)

            assert [driver.result(one) for one in sent] == ["ok done"] * 5
            assert all(first.owns(run) for run in driver.runs.begun("heirs"))
            driver.wait_quiet("heirs")


def test_the_tasks_parked_behind_a_worker_that_died_run_elsewhere_once_its_lease_is_over(make_driver):
    driver = make_driver(short=True)
    with driver.worker() as first:
        held, gate = driver.hold("dies")
        sent = [driver.park("dies") for _ in range(3)]
        with driver.worker() as second:
            first.kill()
            driver.open(gate)  # its message may come again

            assert [driver.result(one) for one in sent] == ["ok done"] * 3
            runs = [run for run in driver.runs.begun("dies") if run["id"] != held]
            assert [run["id"] for run in runs] == sent
            assert all(second.owns(run) for run in runs)


def test_a_stalled_run_learns_that_it_has_lost_its_lease(make_driver):
    driver = make_driver(short=True)
    with driver.worker() as first, driver.worker() as second:
        stalled, gate = driver.hold("stalls", "check")
        (run,) = driver.runs.begun("stalls")
        holder = first if first.owns(run) else second
        following = driver.park("stalls")

        holder.stall()
        wait_until(lambda: driver.state(following) == "SUCCESS", PATIENCE_S)
        holder.resume()
        driver.open(gate)

        assert driver.result(stalled) == "LeaseLost"
        token, later = (run["token"] for run in driver.runs.begun("stalls"))
        assert token < later
        driver.wait_quiet("stalls")


def test_a_run_that_takes_longer_than_its_lease_keeps_it(make_driver):
    driver = make_driver(short=True)
    with driver.worker():
        held, gate = driver.hold("keeps", "check")
        following = driver.park("keeps")
        (run,) = driver.runs.begun("keeps")
        wait_until(lambda: time.monotonic() > run["t"] + 1.5 * driver.lease_s)

        assert driver.ids("keeps") == [held]
        driver.open(gate)

        assert driver.result(held) == "check done"
        assert driver.result(following) == "ok done"
        driver.wait_quiet("keeps")


def test_another_worker_goes_on_when_one_is_shut_down(make_driver):
    driver = make_driver()
    with driver.worker() as first:
        held, gate = driver.hold("shutdown")
        sent = [driver.park("shutdown") for _ in range(4)]
        with driver.worker() as second:
            first.shut_down()
            driver.open(gate)

            assert driver.result(held) == "ok done"
            assert [driver.result(one) for one in sent] == ["ok done"] * 4
            assert driver.ids("shutdown") == [held, *sent]
            assert any(second.owns(run) for run in driver.runs.begun("shutdown"))
            driver.wait_quiet("shutdown")
