"""CachePool: HTTP connections of `http.client` that threads use again and again.

Run it: `python examples/cachepool_http.py`. It starts a server of its own. What to see:

- forty requests of four threads use at most four connections; without a pool it would be forty;
- a request that fails in the middle closes its connection, and the next request gets a working one;
- the validator finds a connection that the server has closed, and it is not lent;
- at the end every connection that was opened is closed.
"""

import http.client
import select
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cachify_tasks.cachepool import CachePool, make_wrapper

THREADS = 4
opened = 0
closed = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open

    def do_GET(self) -> None:
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path == "/last"  # without saying so in the response

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def process_request(self, request: object, client_address: object) -> None:
        global opened
        opened += 1  # only one thread accepts connections
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, *args: object) -> None:
        pass  # a client that hangs up


@contextmanager
def serving() -> Iterator[int]:
    """A server in a thread; its port."""
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def close(connection: http.client.HTTPConnection) -> None:
    global closed
    closed += connection.sock is not None
    connection.close()


def is_silent(connection: http.client.HTTPConnection) -> bool:
    """A connection at rest has nothing to read; one that was hung up on has its end."""
    return connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]


def main(port: int) -> None:
    pool = CachePool(
        http.client.HTTPConnection,
        generator_args=["127.0.0.1", port],
        generator_argkw={"timeout": 10},
        close_callback=close,
        pool_size=8,
        max_idle=60,
        validator=is_silent,
    )
    connection = make_wrapper(pool)

    def fetch(path: str) -> str:
        with connection() as lent:
            lent.request("GET", path)
            return lent.getresponse().read().decode()

    with ThreadPoolExecutor(THREADS) as threads:
        pages = list(threads.map(fetch, [f"/{number}" for number in range(40)]))
    print(f"{len(pages)} pages, {pages[-1]!r}; four connections at most: {opened <= THREADS}")
    print(f"lent {pool.stat['get']} times, each given back: {pool.stat['put'] == pool.stat['get']}")

    pool.clear()
    try:
        with connection() as lent:
            lent.request("GET", "/half")
            raise TimeoutError("the reader gave up")  # the response is still being sent
    except TimeoutError as error:
        print(f"{error}; idle now: {pool.queue.qsize()}")
    print(fetch("/after"))

    before = opened
    with connection() as lent:
        lent.request("GET", "/last")
        lent.getresponse().read()
        select.select([lent.sock], [], [], 5)  # the server closes the connection; http.client has not noticed
    print(f"{fetch('/new')} over a new connection: {opened == before + 1}")

    pool.close_all()
    print(f"opened {opened}, closed {closed}" if opened != closed else "all that were opened are closed")


if __name__ == "__main__":
    with serving() as port:
        main(port)
