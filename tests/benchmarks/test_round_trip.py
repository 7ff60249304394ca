"""The floor under every other number: what one trip to the store costs on this machine."""

import time

import pytest
import redis

TRIPS = 5000


@pytest.mark.benchmark
@pytest.mark.parametrize("command", [("PING",), ("EVAL", "return 1", 0)], ids=["PING", "EVAL"])
def test_one_trip(redis_url, command):
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(TRIPS // 10):
            client.execute_command(*command)

        began = time.perf_counter()
        for _ in range(TRIPS):
            client.execute_command(*command)
        took_s = time.perf_counter() - began

    print(f"\n{command[0]}: {took_s / TRIPS * 1e6:.0f} µs a trip")
