"""`websockets` against the gateway: pypi_websockets.py ws://HOST:PORT http://HOST:PORT

Each case opens its own connections. Prints a line a case; the first that fails ends the run with its reason.
"""

import asyncio
import json
import sys
import traceback
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect as connect_sync

CLIENTS, ADMIN = sys.argv[1:3]
PATIENCE = 15


def join(target, **options):
    return connect(CLIENTS + target, proxy=None, open_timeout=PATIENCE, **options)


async def receive(connection):
    return await asyncio.wait_for(connection.recv(), PATIENCE)


async def ended(connection):
    """The code and reason with which the gateway closes."""
    try:
        while True:
            await receive(connection)
    except ConnectionClosed as closed:
        return closed.rcvd.code, closed.rcvd.reason


async def publish(channel, body, media_type="text/plain"):
    def post():
        request = urllib.request.Request(
            f"{ADMIN}/publish/{channel}", data=body, headers={"Content-Type": media_type}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE) as reply:
            return json.load(reply)

    return await asyncio.to_thread(post)


async def publications_arrive_as_text_and_as_bytes():
    async with join("/") as connection:
        stated = await publish("lobby", "grün".encode())
        assert stated["channel"] == "lobby", stated
        assert await receive(connection) == "grün"
        await publish("lobby", b"\x00\xff", "application/octet-stream")
        assert await receive(connection) == b"\x00\xff"


async def what_one_sends_reaches_the_others_and_not_itself():
    async with join("/") as sender, join("/") as other:
        await sender.send("hi")
        await sender.send(b"\x01\x02")
        assert await receive(other) == "hi"
        assert await receive(other) == b"\x01\x02"
        await publish("lobby", b"marker")
        assert await receive(sender) == "marker"


async def fragments_arrive_as_one_message():
    async with join("/") as sender, join("/") as other:
        await sender.send(["eins ", "zwei ", "drei"])
        assert await receive(other) == "eins zwei drei"


async def every_compression_offer_ends_in_a_working_connection():
    for compression in ("deflate", None):
        async with join("/", compression=compression) as connection:
            await publish("lobby", b"x" * 2000)
            assert await receive(connection) == "x" * 2000


async def pings_are_answered():
    async with join("/") as connection:
        for _ in range(3):
            answered = await connection.ping()
            assert await asyncio.wait_for(answered, PATIENCE) < PATIENCE


async def a_close_is_answered_with_its_code():
    for code in (1000, 1001, 3999, 4000):
        connection = await join("/")
        await connection.close(code, "bye")
        assert connection.close_code == code, connection.close_code
        assert connection.protocol.close_rcvd is not None, "the closing handshake was not completed"


async def a_client_that_may_not_send_is_told_so():
    async with join("/ws/news") as connection:
        await connection.send("may I?")
        code, reason = await ended(connection)
        assert (code, reason.split()[0].rstrip(":;,")) == (1008, "policy"), (code, reason)


async def invalid_utf8_ends_with_1007():
    async with join("/") as connection:
        frame = Frame(Opcode.TEXT, b"\xc3\x28").serialize(mask=True)
        connection.transport.write(frame)
        code, reason = await ended(connection)
        assert (code, reason[:4]) == (1007, "utf8"), (code, reason)


async def an_unmasked_frame_ends_with_1002():
    async with join("/") as connection:
        connection.transport.write(Frame(Opcode.TEXT, b"plain").serialize(mask=False))
        code, reason = await ended(connection)
        assert (code, reason[:8]) == (1002, "unmasked"), (code, reason)


async def an_unknown_path_is_refused():
    try:
        async with join("/no/such/path"):
            raise AssertionError("a connection was accepted")
    except InvalidStatus as refused:
        assert refused.response.status_code == 404, refused


async def the_blocking_client_works_as_well():
    def talk():
        with connect_sync(CLIENTS + "/ws/sync", proxy=None) as connection:
            asyncio.run_coroutine_threadsafe(publish("sync", b"hello"), loop).result(PATIENCE)
            assert connection.recv(timeout=PATIENCE) == "hello"

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(talk)


CASES = (
    publications_arrive_as_text_and_as_bytes,
    what_one_sends_reaches_the_others_and_not_itself,
    fragments_arrive_as_one_message,
    every_compression_offer_ends_in_a_working_connection,
    pings_are_answered,
    a_close_is_answered_with_its_code,
    a_client_that_may_not_send_is_told_so,
    invalid_utf8_ends_with_1007,
    an_unmasked_frame_ends_with_1002,
    an_unknown_path_is_refused,
    the_blocking_client_works_as_well,
)


async def main():
    for case in CASES:
        name = case.__name__.replace("_", " ")
        try:
            await asyncio.wait_for(case(), 4 * PATIENCE)
        except BaseException:
            print(f"failed: {name}", file=sys.stderr)
            traceback.print_exc()
            sys.exit(1)
        print(f"ok: {name}", flush=True)


asyncio.run(main())
