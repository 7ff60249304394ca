"""Settings are checked where they are given; what is wrong is named, and no password is shown."""

import dataclasses
from datetime import timedelta

import pytest

from cachify_tasks import CachifyError, CachifySettingError, init_cachify
from cachify_tasks._checks import milliseconds
from cachify_tasks.settings import UNSET, Settings, hide_password

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1000), (0.5, 500), (timedelta(minutes=1), 60_000), (0.0014, 1), (315_360_000, 3.1536e11)],
)
def test_a_duration_is_turned_into_milliseconds(value, expected):
    assert milliseconds("ttl", value) == expected


@pytest.mark.parametrize("value", ["1", None, True, [1], 1j])
def test_what_is_no_duration_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"ttl must be seconds \(a number or a timedelta\), not "):
        milliseconds("ttl", value)


@pytest.mark.parametrize("value", [0, -1, 0.0001, float("nan"), float("inf"), timedelta(0)])
def test_a_duration_that_is_too_short_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"ttl must be at least 0.001 seconds, not "):
        milliseconds("ttl", value)


@pytest.mark.parametrize("value", [315_360_001, 1e300, timedelta.max])
def test_a_duration_that_no_clock_can_carry_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"ttl must be at most 315,360,000 seconds \(ten years\), not "):
        milliseconds("ttl", value)


def test_a_slot_may_live_for_ten_years(cachify):
    with cachify.pool("p", 1, slot_exp=315_360_000) as slot:
        slot.check()
        assert cachify.pool("p", 1).size() == 1


def test_unset_is_not_none():
    assert UNSET is not None
    assert not UNSET
    assert repr(UNSET) == "UNSET"


def test_an_unknown_setting_is_refused_and_the_valid_ones_are_listed():
    with pytest.raises(CachifySettingError) as caught:
        init_cachify(lease_tll=5, urll="x", is_global=False)  # type: ignore[call-arg]

    assert "unknown setting 'lease_tll', 'urll'; valid settings are: url, prefix, lease_ttl" in str(caught.value)
    assert isinstance(caught.value, CachifyError)
    assert isinstance(caught.value, ValueError)


def test_the_names_are_told_as_they_are_given():
    with pytest.raises(
        CachifySettingError, match="unknown setting 'cachify_x'; valid settings are: cachify_url, cachify"
    ):
        Settings.checked({"x": 1}, called="cachify_")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lease_ttl", 0, "lease_ttl must be at least 0.1 seconds"),
        ("lease_ttl", 0.05, "lease_ttl must be at least 0.1 seconds"),
        ("lease_ttl", None, "lease_ttl must be seconds"),
        ("start_timeout", -1, "start_timeout must be at least"),
        ("start_timeout", "10", "start_timeout must be seconds"),
        ("on_store_error", "ignore", "on_store_error must be one of raise, retry, run, not 'ignore'"),
        ("on_store_error", None, "on_store_error must be one of raise, retry, run, not None"),
        ("prefix", "a{b}", "prefix must be text without braces"),
        ("prefix", None, "prefix must be text without braces"),
        ("default_on_full", "park!", "default_on_full must be .* one of the names raise, drop, reschedule"),
        ("default_on_full", 7, "default_on_full must be a strategy"),
        ("url", 7, "url must be one URL"),
    ],
)
def test_a_value_that_a_setting_cannot_take_is_refused_by_name(name, value, message):
    with pytest.raises(CachifySettingError, match=message):
        init_cachify(is_global=False, **{name: value})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://host:6379/abc", "the database, which is a number"),
        ("redis://host/0?socket_timout=1", "redis-py knows no option 'socket_timout'"),
        ("redis://host/0?socket_timeout=soon", "Invalid value for 'socket_timeout'"),
        ("rediss://host/0?ssl_cert_reqs=CERT_SOME", "CERT_SOME"),
    ],
)
def test_a_url_with_a_part_that_redis_py_cannot_take_is_refused_at_once(url, reason):
    with pytest.raises(CachifySettingError, match=reason):
        init_cachify(url=url, is_global=False)


@pytest.mark.parametrize(
    "url", ["redis://host", "redis://host/", "redis://host/3", "redis://host?db=3", "unix:///tmp/r.sock?db=1"]
)
def test_a_url_may_name_its_database_or_not(url):
    assert url.partition("?")[0] in repr(init_cachify(url=url, is_global=False))


def test_settings_are_told_in_milliseconds():
    settings = Settings(lease_ttl=1.5, start_timeout=timedelta(seconds=2))

    assert (settings.lease_ms, settings.start_ms) == (1500, 2000)
    assert dataclasses.replace(settings, lease_ttl=3).lease_ms == 3000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        (f"redis://:{SECRET}@host/1", "redis://***@host/1"),
        (f"rediss://user:{SECRET}@host:1/1?password={SECRET}", "rediss://***@host:1/1?***"),
        (f"unix://user:{SECRET}@/tmp/r.sock", "unix://***@/tmp/r.sock"),
        (f"redis://:{SECRET}/x@host", "redis://***@host"),
        (f"redis://:{SECRET}#x@host", "redis://***@host"),
        (f"redis://:{SECRET}?x@host", "redis://***@host"),
        (f"redis://:x@{SECRET}@host", "redis://***@host"),
        (f"redis://:{SECRET}@a;redis://:{SECRET}@b", "redis://***@b"),
        ("no url at all", "no url at all"),
        (f"user:{SECRET}@host", "***@host"),
        ("redis://[::1", "redis://[::1"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert hide_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"sentinel://:{SECRET}@host:26379/0",
        f"redis+socket://:{SECRET}@/tmp/redis.sock",
        f"redis://:{SECRET}@a;redis://:{SECRET}@b",
        f"amqp://guest:{SECRET}@host//",
        f"redis://:{SECRET}/x@host",
        f"redis://user/{SECRET}@host",
        f"redis://user?{SECRET}=1@host",
        f"redis://:{SECRET}#x@host",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host/0?socket_timeout={SECRET}",
        f"{SECRET}",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url):
    with pytest.raises(CachifySettingError, match="url") as caught:
        init_cachify(url=url, is_global=False)

    if url != SECRET:
        assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_is_shown_nowhere(caplog):
    url = f"redis://user:{SECRET}@127.0.0.1:1/0"
    cachify = init_cachify(url=url, is_global=False)
    settings = Settings(url=url)

    with pytest.raises(CachifyError) as caught, cachify.pool("p", max_size=1):
        pass
    for shown in (repr(cachify), repr(cachify._runtime.store), repr(settings), str(settings), str(caught.value)):
        assert SECRET not in shown
    assert "***@127.0.0.1:1" in repr(cachify)
    assert SECRET not in caplog.text


async def test_a_wrong_password_is_told_as_such_and_not_shown(private_server):
    server = private_server(extra_args=["--requirepass", "the right one"])
    url = server.url.replace("redis://", f"redis://:{SECRET}@")
    cachify = init_cachify(url=url, is_global=False)

    with pytest.raises(CachifyError, match="refused the credentials") as caught, cachify.pool("p", max_size=1):
        pass
    assert SECRET not in str(caught.value)
    with pytest.raises(CachifyError, match="refused the credentials") as caught:
        async with cachify.pool("p", max_size=1):
            pass
    assert SECRET not in str(caught.value)
    await cachify.aclose()
    cachify.close()
