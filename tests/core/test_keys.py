"""Names of keys: apart for each pool and prefix, and of stable spelling."""

from cachify_tasks._core.keys import BUCKETS, Schema


def test_the_schema_is_what_programs_of_other_versions_expect():
    keys = Schema("PYC-").pool("tenant-a")

    assert keys.slots == "{PYC-:b11}:1:pool:tenant-a:slots"
    assert keys.done == "{PYC-:b11}:1:pool:tenant-a:done:"
    assert keys.leased == "{PYC-:b11}:1:leased"
    assert keys.waiting == "{PYC-:b11}:1:waiting"
    assert Schema("PYC-").cache("k") == "PYC-:1:cache:k"


def test_no_two_pools_share_a_key():
    schema = Schema("p")
    names = ["a", "b", "a:slots", "a:", ":a", "done:", "a:done:x"]
    keys = [key for name in names for key in schema.pool(name)[:4]]

    assert len(set(keys)) == len(keys)


def test_prefixes_are_apart():
    mine, other = Schema("mine"), Schema("other")

    assert not set(mine.pool("a")) & set(other.pool("a"))
    assert not set(mine.leased() + mine.waiting()) & set(other.leased() + other.waiting())
    assert mine.cache("k") != other.cache("k")


def test_pools_are_spread_over_all_buckets():
    schema = Schema("p")

    used = {schema.pool(f"tenant-{number}").leased for number in range(4000)}

    assert len(used) == BUCKETS
    assert used == set(schema.leased())
