"""Wait: threads and coroutines wait for a slot in one queue, in the order of their arrival.

Run it: `python examples/wait.py`. What to see:

- `on_full=Wait()`: six reports run two at a time, and none is refused;
- `acquire(timeout=...)`: a caller that waited in vain gets an error that says how long;
- threads and an event loop wait in one queue, and get their slots in the order in which they came.
"""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cachify_tasks import CachifyPoolFullError, Wait, init_cachify, pool, pooled
from cachify_tasks.testing.server import EmbeddedServer

door = pool("door", max_size=1)
came: list[str] = []


@pooled(key="reports", max_size=2, on_full=Wait(timeout=20))
def report(number: int) -> str:
    time.sleep(0.2)  # the work
    return f"report {number}"


def six_reports() -> None:
    with ThreadPoolExecutor(6) as threads:
        print(list(threads.map(report, range(6))))


def wait_in_vain() -> None:
    with door:
        try:
            door.acquire(timeout=0.3)
        except CachifyPoolFullError as full:
            print(full)


def thread(name: str) -> None:
    with door.acquire(timeout=20):
        came.append(name)


async def coroutine(name: str) -> None:
    async with door.aacquire(timeout=20):
        came.append(name)


async def share_one_queue() -> None:
    acquired = await door.aacquire()
    threads, tasks = [], []
    for number in range(3):
        threads.append(threading.Thread(target=thread, args=(f"thread {number}",)))
        threads[-1].start()
        await asyncio.sleep(0.2)  # until it waits
        tasks.append(asyncio.create_task(coroutine(f"coroutine {number}")))
        await asyncio.sleep(0.2)
    await acquired.arelease()
    await asyncio.gather(*tasks)
    for each in threads:
        each.join()
    print(", ".join(came))


if __name__ == "__main__":
    with EmbeddedServer() as server:  # or the URL of your own: redis://localhost:6379/0
        cachify = init_cachify(url=server.url)
        six_reports()
        wait_in_vain()
        asyncio.run(share_one_queue())
        cachify.close()
