"""Where the adapter's settings come from, and what is said about wrong ones."""

import gc
import socket
import warnings

import pytest
from celery import Celery

from cachify_tasks import CachifyInitError, Drop, init_cachify, pool
from cachify_tasks._runtime.instances import peek_global_runtime, set_global_runtime
from cachify_tasks._store.redis_store import RedisStore
from cachify_tasks.celery import setup
from cachify_tasks.celery.app import join_global, runtime_of
from cachify_tasks.errors import CachifySettingError

NAMES = ("url", "prefix", "lease_ttl", "start_timeout", "on_store_error", "default_on_full")
URL = "redis://localhost:1/3"
BROKER = "redis://:secret@localhost:1/0"


@pytest.fixture(autouse=True)
def fresh_program(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # apps of earlier tests, with what they have open
    set_global_runtime(None)
    monkeypatch.delenv("CACHIFY_URL", raising=False)
    yield
    set_global_runtime(None)


def new_app(broker: str | None = BROKER) -> Celery:
    return Celery("shop", broker=broker, set_as_current=False)  # the current one outlives its test


def shown(app: Celery) -> str:
    return str(runtime_of(app).store.shown)


def test_settings_are_keywords_of_setup():
    app = new_app()

    setup(app, url=URL, prefix="p", lease_ttl=7, start_timeout=2, on_store_error="run", default_on_full=Drop())

    runtime = runtime_of(app)
    assert shown(app) == URL
    assert (runtime.settings.prefix, runtime.lease_ms, runtime.start_ms) == ("p", 7000, 2000)
    assert (runtime.settings.on_store_error, runtime.settings.default_on_full) == ("run", Drop())


@pytest.mark.parametrize("before", [True, False])
def test_settings_are_read_from_the_configuration_late(before):
    app = new_app()
    if not before:
        setup(app)
    app.conf.cachify_url, app.conf.cachify_lease_ttl = URL, 9
    app.conf.update(cachify_prefix="late")
    if before:
        setup(app)

    assert (shown(app), runtime_of(app).lease_ms, runtime_of(app).settings.prefix) == (URL, 9000, "late")


def test_keywords_win_over_the_configuration():
    app = new_app()
    app.conf.cachify_lease_ttl = 9

    setup(app, url=URL, lease_ttl=4)

    assert runtime_of(app).lease_ms == 4000


def test_a_lower_case_configuration_module_works(tmp_path, monkeypatch):
    (tmp_path / "shopconfig.py").write_text(f"broker_url = {BROKER!r}\ncachify_url = {URL!r}\ncachify_lease_ttl = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = new_app(None)
    setup(app)

    app.config_from_object("shopconfig")

    assert (shown(app), runtime_of(app).lease_ms) == (URL, 5000)


def test_an_upper_case_namespace_works():
    class Configuration:
        CELERY_BROKER_URL = BROKER
        CELERY_CACHIFY_URL = URL
        CELERY_CACHIFY_PREFIX = "spaced"
        CACHIFY_OTHER = "somebody else's"

    app = new_app(None)
    setup(app)

    app.config_from_object(Configuration, namespace="CELERY")

    assert (shown(app), runtime_of(app).settings.prefix) == (URL, "spaced")


def test_the_environment_names_the_store_before_the_broker(monkeypatch):
    monkeypatch.setenv("CACHIFY_URL", URL)
    app = new_app()

    setup(app)

    assert shown(app) == URL


def test_the_store_is_the_broker_when_that_is_plain_redis():
    app = new_app()

    setup(app)

    assert shown(app) == "redis://***@localhost:1/0"


@pytest.mark.parametrize("given", ["NONE", "OPTIONAL", "REQUIRED"])
def test_the_certificate_requirement_of_the_broker_s_url_is_understood(given):
    app = new_app(f"rediss://localhost:1/0?ssl_cert_reqs=CERT_{given}")
    setup(app)

    store = runtime_of(app).store
    assert isinstance(store, RedisStore)

    assert store.client.connection_pool.connection_kwargs["ssl_cert_reqs"] == given.lower()


@pytest.mark.parametrize(
    "broker",
    ["amqp://guest:secret@localhost//", "sentinel://:secret@localhost:1/0", BROKER + ";" + BROKER, "memory://"],
)
def test_a_broker_that_is_no_plain_redis_is_an_error_that_tells_what_to_set(broker):
    app = new_app(broker)
    setup(app)

    with pytest.raises(CachifyInitError, match=r"cachify_url.*CACHIFY_URL") as raised:
        runtime_of(app)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["sentinel://:secret@h:1/0", "redis+socket:///tmp/s", f"{BROKER};{BROKER}", "http://h", "h:6379"]
)
@pytest.mark.parametrize("place", ["keyword", "conf", "environment"])
def test_a_url_that_redis_py_cannot_take_is_an_error_that_names_the_setting(url, place, monkeypatch):
    app = new_app()
    if place == "conf":
        app.conf.cachify_url = url
    elif place == "environment":
        monkeypatch.setenv("CACHIFY_URL", url)

    with pytest.raises(CachifySettingError, match="cachify_url must be one URL") as raised:  # noqa: PT012
        setup(app, **({"url": url} if place == "keyword" else {}))
        runtime_of(app)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"), [("url", "h:6379"), ("lease_ttl", 0), ("on_store_error", "explode"), ("default_on_full", "dorp")]
)
def test_a_keyword_that_cannot_be_taken_is_an_error_at_once(name, value):
    with pytest.raises(CachifySettingError, match=name):
        setup(new_app(), **{name: value})


def test_an_unknown_keyword_is_an_error_at_once_that_lists_the_valid_ones():
    with pytest.raises(CachifySettingError, match="lease_tll") as raised:
        setup(new_app(None), lease_tll=3)
    assert all(name in str(raised.value) for name in NAMES)


def test_an_unknown_configuration_is_an_error_that_lists_the_valid_ones():
    app = new_app()
    setup(app)
    app.conf.cachify_leese = 3

    with pytest.raises(CachifySettingError, match="cachify_leese") as raised:
        runtime_of(app)
    assert all(f"cachify_{name}" in str(raised.value) for name in NAMES)


@pytest.mark.parametrize(
    "wrong", [{"lease_ttl": 0}, {"lease_ttl": "3"}, {"on_store_error": "explode"}, {"default_on_full": "explode"}]
)
def test_a_wrong_value_is_an_error_that_names_the_setting(wrong):
    app = new_app()
    app.conf.update({f"cachify_{name}": value for name, value in wrong.items()})
    setup(app)

    with pytest.raises(CachifySettingError, match=next(iter(wrong))):
        runtime_of(app)


def test_setup_touches_no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("setup connects"))
    app = new_app()

    setup(app)
    setup(app)

    assert runtime_of(app) is runtime_of(app)


def test_setup_twice_adds_its_steps_once():
    app = new_app()

    setup(app)
    setup(app, lease_ttl=8)

    assert len(app.steps["worker"]) == len(app.steps["consumer"]) == 1
    assert runtime_of(app).lease_ms == 8000
    with pytest.raises(CachifySettingError, match="again with other settings"):
        setup(app, lease_ttl=9)


def test_only_a_celery_app_is_set_up():
    with pytest.raises(TypeError, match="takes a Celery app"):
        setup("shop")  # type: ignore[arg-type]


def test_an_app_becomes_the_store_of_plain_calls(redis_url):
    app = new_app()
    setup(app, url=redis_url)

    with pool("plain", max_size=1):
        assert pool("plain", max_size=1).size() == 1

    assert peek_global_runtime() is runtime_of(app)


def test_one_program_is_not_split_over_two_stores():
    init_cachify(url="redis://localhost:1/1")
    app = new_app()
    setup(app, url="redis://localhost:1/2")

    with pytest.raises(CachifyInitError, match="limits would not be shared"):
        join_global(app)


def test_one_store_named_twice_is_fine():
    init_cachify(url=URL)
    app = new_app()
    setup(app, url=URL)

    assert join_global(app) is runtime_of(app)


def test_several_apps_have_stores_of_their_own():
    one, other = new_app(), new_app()
    setup(one, url="redis://localhost:1/1")
    setup(other, url="redis://localhost:1/2")

    assert (shown(one), shown(other)) == ("redis://localhost:1/1", "redis://localhost:1/2")
    with pytest.raises(CachifyInitError, match=r"the Celery app 'shop' uses the store .*limits would not be shared"):
        pool("plain", max_size=1).size()


def test_an_app_that_nobody_uses_any_more_is_forgotten():
    one, other = new_app(), new_app()
    setup(one, url="redis://localhost:1/1")
    setup(other, url="redis://localhost:1/2")
    runtime_of(one)

    one.close()
    del one
    gc.collect()

    assert "localhost:1/2" in repr(pool("plain", max_size=1)._runtime.store)


def test_no_password_shows():
    app = new_app()
    setup(app, url="redis://user:secret@localhost:1/0?password=secret")

    runtime = runtime_of(app)

    assert "secret" not in repr(runtime.store) + runtime.store.shown + repr(runtime.settings) + repr(init_cachify())
