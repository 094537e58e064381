"""`wsproto` as a reader of compressed streams: pypi_wsproto.py ws://HOST:PORT http://HOST:PORT

The channel `ticks` is compressed with epochs of 16, relays, and skips who falls behind. Every reader checks every message:
its text, its number, and that no number is missing that was not skipped. Prints a line a case; the first that fails
ends the run with its reason.
"""

import hashlib
import http.client
import socket
import sys
import traceback
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Message, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

CLIENTS, ADMIN = (urlsplit(argument) for argument in sys.argv[1:3])
EPOCH = 16
PATIENCE = 30


def text_of(number, length=85):
    """Message `number`: part of it is in every message and part in none other."""
    own = hashlib.sha256(str(number).encode()).hexdigest()
    text = f'{{"symbol":"ACME","number":{number:08},"own":"{own[:16]}"'
    while len(text) < length:
        own = hashlib.sha256(own.encode()).hexdigest()
        text += "," + own
    return text


def number_of(text):
    number = int(text.split('"number":')[1][:8])
    assert text == text_of(number, len(text)) or text == text_of(number), f"message {number} is not what was sent: {text[:200]}"
    return number


class Publisher:
    def __init__(self):
        self.connection = http.client.HTTPConnection(ADMIN.hostname, ADMIN.port, timeout=PATIENCE)
        self.next = 0

    def publish(self, count, length=85):
        for _ in range(count):
            self.connection.request(
                "POST", "/publish/ticks", text_of(self.next, length), {"Content-Type": "text/plain"})
            reply = self.connection.getresponse()
            assert reply.status == 200, reply.status
            reply.read()
            self.next += 1


class Reader:
    """One connection. `piece` bytes are read at a time, so that frames are cut everywhere."""

    def __init__(self, piece=65536, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((CLIENTS.hostname, CLIENTS.port))
        self.websocket = WSConnection(ConnectionType.CLIENT)
        self.deflate = PerMessageDeflate()
        self.piece, self.bytes = piece, 0
        self.numbers, self.parts, self.is_open = [], "", False
        self.send(Request(host=CLIENTS.netloc, target="/ws/ticks", extensions=[self.deflate]))
        while not self.is_open:
            self.receive()
        assert self.deflate.enabled(), "compression was not agreed on"

    def send(self, event):
        self.socket.sendall(self.websocket.send(event))

    def receive(self):
        data = self.socket.recv(self.piece)
        assert data, "the gateway ended the connection"
        self.bytes += len(data)
        self.websocket.receive_data(data)
        for event in self.websocket.events():
            if isinstance(event, AcceptConnection):
                self.is_open = True
            elif isinstance(event, TextMessage):
                self.parts += event.data
                if event.message_finished:
                    self.numbers.append(number_of(self.parts))
                    self.parts = ""
            elif isinstance(event, Ping):
                self.send(event.response())
            else:
                raise AssertionError(f"the gateway sent {event}")

    def hurry(self):
        """Has a small receive buffer no longer."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def read_to(self, number):
        while not self.numbers or self.numbers[-1] < number:
            self.receive()
        return self

    def expect(self, numbers):
        numbers = list(numbers)
        self.read_to(numbers[-1])
        assert self.numbers == numbers, f"{self.numbers} instead of {numbers}"
        self.socket.close()


def a_long_stream_is_read_through_one_context(publisher):
    reader = Reader()
    for _ in range(40):
        publisher.publish(50)
        reader.read_to(publisher.next - 1)
    plain = 2000 * (len(text_of(0)) + 2)
    assert reader.bytes < plain * 0.85, f"{reader.bytes} of {plain} bytes"
    reader.expect(range(publisher.next - 2000, publisher.next))


def who_joins_at_any_point_of_an_epoch_reads_on_from_there(publisher):
    readers = []
    for index in range(2 * EPOCH + 3):
        # Reads of a prime size cut frames and their headers at every place.
        readers.append((publisher.next, Reader(piece=(1, 2, 3, 5, 7, 11, 13, 4096)[index % 8])))
        publisher.publish(1)
    publisher.publish(2 * EPOCH)
    for first, reader in readers:
        reader.expect(range(first, publisher.next))


def who_leaves_in_the_middle_of_a_frame_harms_nobody(publisher):
    first, witness = publisher.next, Reader()
    for index in range(EPOCH + 3):
        leaving = Reader(piece=3)
        publisher.publish(2)
        leaving.receive()
        leaving.socket.close()
    witness.expect(range(first, publisher.next))


def who_speaks_itself_at_any_point_of_an_epoch_reads_the_others(publisher):
    first = publisher.next
    witness, speakers = Reader(), [Reader(piece=index % 5 + 1) for index in range(4)]
    own = [set() for _ in speakers]
    for index in range(3 * EPOCH):
        publisher.publish(index % 3)
        speaker = index % len(speakers)
        speakers[speaker].send(Message(data=text_of(publisher.next)))
        own[speaker].add(publisher.next)
        publisher.next += 1
        witness.read_to(publisher.next - 1)
    publisher.publish(EPOCH + 1)
    for reader, spoken in zip(speakers, own):
        reader.expect(number for number in range(first, publisher.next) if number not in spoken)
    witness.expect(range(first, publisher.next))


def who_is_skipped_on_at_any_point_of_an_epoch_reads_what_comes_after(publisher):
    first = publisher.next
    readers = [Reader(receive_buffer=4096) for _ in range(EPOCH)]
    for index, reader in enumerate(readers):
        publisher.publish(1)
        for slow in readers[index:]:
            slow.read_to(publisher.next - 1)
    # Far more than sockets and the limit of the channel hold.
    publisher.publish(60, length=30_000)
    skipped = 0
    for index, reader in enumerate(readers):
        reader.hurry()
        reader.read_to(publisher.next - 1)
        publisher.publish(index % 3 + 1)
    resumed = publisher.next
    publisher.publish(2 * EPOCH)
    for reader in readers:
        reader.read_to(publisher.next - 1)
        assert all(before < after for before, after in zip(reader.numbers, reader.numbers[1:])), reader.numbers
        assert reader.numbers[-2 * EPOCH:] == list(range(resumed, publisher.next)), reader.numbers
        skipped += len(reader.numbers) < publisher.next - first
        reader.socket.close()
    assert skipped > 0, "nobody fell behind"


CASES = (
    a_long_stream_is_read_through_one_context,
    who_joins_at_any_point_of_an_epoch_reads_on_from_there,
    who_leaves_in_the_middle_of_a_frame_harms_nobody,
    who_speaks_itself_at_any_point_of_an_epoch_reads_the_others,
    who_is_skipped_on_at_any_point_of_an_epoch_reads_what_comes_after,
)

publisher = Publisher()
for case in CASES:
    name = case.__name__.replace("_", " ")
    try:
        case(publisher)
    except BaseException:
        print(f"failed: {name}", file=sys.stderr)
        traceback.print_exc()
        sys.exit(1)
    print(f"ok: {name}", flush=True)
