"""Names of keys: apart for each pool and prefix, and of stable spelling."""

from cachify_tasks._core.keys import BUCKETS, Indexes, Schema


def test_the_schema_is_what_programs_of_other_versions_expect():
    schema = Schema("PYC-")
    keys = schema.pool("tenant-a")

    assert keys.slots == "{PYC-}:1:pool:tenant-a:slots"
    assert keys.tombstone == "{PYC-}:1:pool:tenant-a:tombstone:"
    assert (keys.waiting, keys.leased) == ("{PYC-}:1:waiting", "{PYC-}:1:leased")
    assert schema.cache("k") == "{PYC-}:1:cache:k"
    assert schema.claim("reaper") == "{PYC-}:1:claim:reaper"
    assert schema.marker == "{PYC-}:schema"


def test_the_schema_of_a_cluster_is_what_programs_of_other_versions_expect():
    schema = Schema("PYC-", "cluster")
    keys = schema.pool("tenant-a")

    assert keys.slots == "{PYC-:b11}:1:pool:tenant-a:slots"
    assert (keys.waiting, keys.leased) == ("{PYC-:b11}:1:waiting", "{PYC-:b11}:1:leased")
    assert schema.cache("k") == "PYC-:1:cache:k"
    assert schema.claim("reaper") == "PYC-:1:claim:reaper"
    assert schema.marker == "{PYC-}:schema"  # the same key in both layouts: there each finds out about the other


def test_no_two_pools_share_a_key():
    schema = Schema("p")
    names = ["a", "b", "a:slots", "a:", ":a", "tombstone:", "a:tombstone:x"]
    keys = [key for name in names for key in schema.pool(name)[:4]]

    assert len(set(keys)) == len(keys)


def test_prefixes_are_apart():
    mine, other = Schema("mine"), Schema("other")

    assert not set(mine.pool("a")) & set(other.pool("a"))
    assert not set(mine.indexes()[0]) & set(other.indexes()[0])
    assert mine.cache("k") != other.cache("k")


def test_a_single_server_has_one_index_of_pools():
    schema = Schema("p")

    assert len(schema.indexes()) == 1
    assert {Indexes(*schema.pool(name)[4:7]) for name in ("a", "b::c", "")} == {*schema.indexes()}


def test_a_cluster_spreads_pools_over_all_tags():
    schema = Schema("p", "cluster")

    used = {schema.pool(f"tenant-{number}").leased for number in range(4000)}

    assert len(used) == BUCKETS
    assert used == {index.leased for index in schema.indexes()}


def test_pools_of_one_group_share_a_tag_on_a_cluster():
    schema = Schema("p", "cluster")
    tags = {name: schema.base(name) for name in ("shop::a", "shop::b", "shop::b::c", "shop", "shop:a", "::x", "")}

    assert tags["shop::a"] == tags["shop::b"] == tags["shop::b::c"] == tags["shop"]
    assert tags["shop:a"] != tags["shop"]
    assert tags["::x"] == tags[""]
