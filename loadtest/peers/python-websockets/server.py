"""A broadcast server over `websockets`: what one client sends goes to every other, through its own `broadcast()`.

uvloop instead of asyncio's loop; no compression; no keepalive tasks, which would cost one timer a connection.
"""

import asyncio
import logging
import sys

import uvloop
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

CLIENTS = set()


async def relay(client):
    """One connection. The sender leaves the set for as long as its message goes out: cheaper than a copy of the set."""
    CLIENTS.add(client)
    try:
        async for message in client:
            CLIENTS.discard(client)
            broadcast(CLIENTS, message)
            CLIENTS.add(client)
    except ConnectionClosed:
        pass
    finally:
        CLIENTS.discard(client)


async def main(port):
    options = {
        "backlog": 4096,
        "compression": None,
        "max_size": 16 * 1024 * 1024,
        "ping_interval": None,
        "server_header": None,
    }
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    async with serve(relay, "127.0.0.1", port, **options):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
