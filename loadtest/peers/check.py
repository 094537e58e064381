"""Sends messages through a running peer and says whether all subscribers got exactly these: the comparison is only
worth something if every peer really does the work. `check.py PROTOCOL URL [PUBLISH_URL]`; standard library only.

PROTOCOL is `relay` (what one client sends goes to every other), `tidegate` or `post` (an HTTP POST goes to all), `nats`
or `mqtt` (these protocols within binary WebSocket messages). Exit 0 if all is well, else 1 with one line on stderr.
"""

import base64
import hashlib
import os
import socket
import struct
import sys
import time
import urllib.parse
import urllib.request

TIMEOUT_S = 5
START_TIMEOUT_S = 20
SUBSCRIBERS = 3
CHANNEL = b"bench"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
# One of each length encoding of WebSocket, one that needs several reads, and several that may travel together.
MESSAGES = [b"short", b"m" * 512, b"L" * 70_000] + [b"%d of a burst " % number * 40 for number in range(32)]


class Failed(Exception):
    """What was not as it should be, in one line."""


class WebSocket:
    """A blocking client, enough of RFC 6455 to check a server."""

    def __init__(self, url, subprotocol=None):
        parts = urllib.parse.urlsplit(url)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise Failed(f"{parts.netloc} was not opened in {START_TIMEOUT_S} s") from None
                time.sleep(0.05)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        wanted = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        self.socket.sendall(
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{wanted}\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if b" 101 " not in head.split(b"\r\n")[0] or accept not in head:
            raise Failed(f"the upgrade was answered with {head.splitlines()[0]!r}")
        if subprotocol and f"sec-websocket-protocol: {subprotocol}" not in head.decode("latin-1").lower():
            raise Failed(f"the subprotocol {subprotocol} was not agreed to")

    def fill(self):
        data = self.socket.recv(256 * 1024)
        if not data:
            raise Failed("the server closed a connection")
        self.buffer += data

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, opcode, payload):
        self.socket.sendall(client_frame(opcode, payload))

    def receive(self):
        """The next message as (opcode, bytes); answers pings."""
        opcode, message = 0, b""
        while True:
            first, second = self.take(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self.take(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self.take(8))
            payload, kind = self.take(length), first & 0x0F
            if second & 0x80 or first & 0x70:
                raise Failed("the server sent a masked frame or a reserved bit")
            if kind == PING:
                self.send(PONG, payload)
            elif kind == CLOSE:
                raise Failed(f"the server closed a connection: {payload[2:]!r}")
            elif kind != PONG:
                opcode, message = opcode or kind, message + payload
                if first & 0x80:
                    return opcode, message

    def is_quiet(self):
        """Whether nothing more has come. Asked after a round trip through the server, so that it would have."""
        self.socket.settimeout(0.2)
        try:
            return self.buffer == b"" and self.socket.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_S)


def client_frame(opcode, payload):
    """A masked frame."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    mask = os.urandom(4)
    repeated = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
    return head + mask + masked


def expect(subscribers, opcode, message):
    for subscriber in subscribers:
        got = subscriber.receive()
        if got[1] != message:
            raise Failed(f"{len(message)} bytes {message[:24]!r} were sent, {len(got[1])} bytes {got[1][:24]!r} came")
        if opcode is not None and got[0] != opcode:
            raise Failed(f"opcode {opcode} was sent, {got[0]} came")


def expect_quiet(subscribers):
    if not all(subscriber.is_quiet() for subscriber in subscribers):
        raise Failed("a message came twice, or to the one that sent it")


def check_relay(url):
    """Text stays text and binary binary, single and in a burst; the sender gets nothing back."""
    subscribers = [WebSocket(url) for _ in range(SUBSCRIBERS)]
    publisher = WebSocket(url)
    for opcode in (BINARY, TEXT):
        for message in MESSAGES[:3]:
            publisher.send(opcode, message)
            expect(subscribers, opcode, message)
        publisher.socket.sendall(b"".join(client_frame(opcode, message) for message in MESSAGES))
        for message in MESSAGES:
            expect(subscribers, opcode, message)
    # Two that send at once: each gets what the other sent, all others both.
    subscribers[0].send(TEXT, b"from a subscriber")
    expect(subscribers[1:] + [publisher], TEXT, b"from a subscriber")
    expect_quiet(subscribers + [publisher])


def check_post(url, publish_url):
    """What is posted goes to all."""
    subscribers = [WebSocket(url) for _ in range(SUBSCRIBERS)]
    for message in MESSAGES:
        request = urllib.request.Request(publish_url, message, {"Content-Type": "application/octet-stream"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            if answer.status >= 300:
                raise Failed(f"{publish_url} answered {answer.status}")
        expect(subscribers, None, message)
    expect_quiet(subscribers)


class Stream:
    """A byte stream within binary WebSocket messages."""

    def __init__(self, url, subprotocol=None):
        self.socket = WebSocket(url, subprotocol)
        self.bytes = b""

    def send(self, data):
        self.socket.send(BINARY, data)

    def fill(self):
        self.bytes += self.socket.receive()[1]

    def take(self, count):
        while len(self.bytes) < count:
            self.fill()
        taken, self.bytes = self.bytes[:count], self.bytes[count:]
        return taken

    def line(self):
        while b"\r\n" not in self.bytes:
            self.fill()
        line, self.bytes = self.bytes.split(b"\r\n", 1)
        return line


class NatsClient(Stream):
    """Speaks NATS: CONNECT, SUB, PUB, MSG, PING."""

    def __init__(self, url):
        super().__init__(url)
        self.line()  # INFO
        self.send(b'CONNECT {"verbose":false,"pedantic":false,"echo":false}\r\n')

    def subscribe(self):
        self.send(b"SUB %s 1\r\nPING\r\n" % CHANNEL)
        if (line := self.line()) != b"PONG":
            raise Failed(f"SUB was answered with {line!r}")

    def publish(self, messages):
        self.send(b"".join(b"PUB %s %d\r\n%s\r\n" % (CHANNEL, len(message), message) for message in messages))

    def message(self):
        while (line := self.line()) == b"PING":
            self.send(b"PONG\r\n")
        if not line.startswith(b"MSG "):
            raise Failed(f"MSG was expected, {line!r} came")
        return self.take(int(line.split()[-1]) + 2)[:-2]


class MqttClient(Stream):
    """Speaks MQTT 3.1.1 at QoS 0: CONNECT, SUBSCRIBE, PUBLISH."""

    def __init__(self, url):
        super().__init__(url, "mqtt")
        name = b"check%08x" % int.from_bytes(os.urandom(4), "big")
        self.send(self.packet(0x10, b"\0\4MQTT\4\2\0\0" + self.string(name)))
        if (packet := self.read_packet()) != (0x20, b"\0\0"):
            raise Failed(f"CONNECT was answered with {packet!r}")

    @staticmethod
    def string(data):
        return struct.pack("!H", len(data)) + data

    @staticmethod
    def packet(kind, body):
        length, encoded = len(body), b""
        while True:
            length, digit = length >> 7, length & 0x7F
            encoded += bytes([digit | (0x80 if length else 0)])
            if not length:
                return bytes([kind]) + encoded + body

    def read_packet(self):
        kind, length, shift = self.take(1)[0], 0, 0
        while True:
            digit = self.take(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return kind, self.take(length)

    def subscribe(self):
        self.send(self.packet(0x82, b"\0\1" + self.string(CHANNEL) + b"\0"))
        if (packet := self.read_packet()) != (0x90, b"\0\1\0"):
            raise Failed(f"SUBSCRIBE was answered with {packet!r}")

    def publish(self, messages):
        self.send(b"".join(self.packet(0x30, self.string(CHANNEL) + message) for message in messages))

    def message(self):
        kind, body = self.read_packet()
        if kind & 0xF0 != 0x30 or body[2 : 2 + len(CHANNEL)] != CHANNEL:
            raise Failed(f"PUBLISH was expected, {kind:#x} came")
        return body[2 + len(CHANNEL) :]


def check_broker(client, url):
    """What is published goes to all that subscribed, single and in a burst."""
    subscribers = [client(url) for _ in range(SUBSCRIBERS)]
    for subscriber in subscribers:
        subscriber.subscribe()
    publisher = client(url)
    for messages in [[message] for message in MESSAGES[:3]] + [MESSAGES]:
        publisher.publish(messages)
        for message in messages:
            for subscriber in subscribers:
                if (got := subscriber.message()) != message:
                    raise Failed(f"{message[:24]!r} was sent, {got[:24]!r} came")
    expect_quiet([subscriber.socket for subscriber in subscribers])


def main(protocol, url, publish_url=None):
    if protocol == "relay":
        check_relay(url)
    elif protocol in ("tidegate", "post"):
        check_post(url, publish_url)
    elif protocol in ("nats", "mqtt"):
        check_broker({"nats": NatsClient, "mqtt": MqttClient}[protocol], url)
    else:
        raise Failed(f"no such protocol: {protocol}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TimeoutError:
        sys.exit(f"what should have come did not come within {TIMEOUT_S} s")
    except (Failed, OSError) as error:
        sys.exit(str(error) or type(error).__name__)
