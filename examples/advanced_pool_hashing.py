"""AdvancedPool: blocking work in an asyncio program that stays responsive.

Run it: `python examples/advanced_pool_hashing.py`. It needs no server. What to see:

- one call reads and hashes every Python file of the standard library in threads;
- at the same time a ticker runs in the same event loop, and prints how late it was at worst;
- three files are hashed before those that wait, because they have a priority.
"""

import asyncio
import hashlib
import sysconfig
import time
from pathlib import Path

from cachify_tasks.pools import AdvancedPool

TICK = 0.01  # seconds


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def ticker(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - due)


def sources() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts and path.is_file())


async def main() -> None:
    late: list[float] = []
    ticking = asyncio.create_task(ticker(late))

    async with AdvancedPool(max_workers=4) as pool:
        files = await pool.complete(sources)
        hashing = asyncio.create_task(pool.map(digest, files))
        await asyncio.sleep(0)
        urgent = [await pool.complete(digest, file, _priority_=-1) for file in files[-3:]]
        print("the urgent ones before all others:", not hashing.done())
        digests = await hashing
        print(f"{len(digests)} files, {len(set(digests))} different ones, by {pool.stats().workers} threads")
        print("the same hashes:", urgent == digests[-3:])

    ticking.cancel()
    print(f"ticks: {len(late)}, the latest was {max(late) * 1000:.1f} ms late")


if __name__ == "__main__":
    asyncio.run(main())
