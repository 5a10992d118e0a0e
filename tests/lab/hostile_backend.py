#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A vTPM backend in dom0's user space, in xen-vtpmd's place: real grants, a real event channel, the real xenstore.

    hostile_backend.py DOMID

Serves the domain's first vTPM from dom0's own /dev/tpm0, honestly but for TPM2_GetRandom of 16 bytes (the test's: the
kernel's hwrng, which asks when it likes, wants 64) and TPM2_HashSequenceStart, which it answers as the file
/run/hostile-backend says (a function below; "all" before it: so is any command; "late": only when it has been told to
cancel). "log" and a name there: what the TPM's event log is (LOGS, LOG_PARTS). Notes in /run/hostile-backend.log how many
bytes of an earlier message a request found in the page.
"""

import fcntl
import mmap
import os
import pathlib
import struct
import sys
import time

from xen_wire import CANCEL, FINISH, IDLE, SUBMIT, EventChannel, Xenstore, ioctl_number, lasting

MAP_GRANT_REF = ioctl_number("G", 0, 24)  # include/uapi/xen/gntdev.h
MODE = pathlib.Path("/run/hostile-backend")
GET_RANDOM_16 = bytes.fromhex("80010000000c0000017b0010")
HASH_SEQUENCE_START = bytes.fromhex("80010000000e000001860000000b")
# Of an object that is nobody's: who is told of it may flush it.
SEQUENCE = bytes.fromhex("80010000000e0000000080ffff05")
SHUTDOWN = 0x145
READ_EVENT_LOG = 0x20005855
SUCCESS = bytes.fromhex("80010000000a00000000")
INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = "1", "2", "3", "4", "5", "6"


class Backend:
    def __init__(self, domain, log):
        self.domain, self.log = domain, log
        self.store = Xenstore()
        self.own = f"/local/domain/0/backend/vtpm/{domain}/0"
        self.front = f"/local/domain/{domain}/device/vtpm/0"
        self.tpm = os.open("/dev/tpm0", os.O_RDWR)
        self.events = self.page = None
        self.answers = {verb.__name__: verb for verb in (
            honest, short, long, huge, too_little, too_much, extra_pages, changing, scribbling, foreign_state,
            no_answer, no_handle, storm, leave)}

    def run(self):
        while True:
            state = self.store.read(self.front + "/state")
            if self.page is None and state in (INITIALISED, CONNECTED):
                self.attach()
            elif self.page is not None and state in (CLOSING, CLOSED):
                self.detach(CLOSED)
            elif self.page is not None and state == INITIALISING:
                self.detach(INIT_WAIT)
            elif self.page is None and state == INITIALISING:
                self.say(INIT_WAIT)
            if self.events is None:
                time.sleep(0.1)
            elif self.events.wait(0.5) and self.page[4] == SUBMIT:
                self.serve()
            elif self.page is not None and self.page[4] == CANCEL:
                self.publish(IDLE)

    def say(self, state):
        self.store.write(self.own + "/state", state)

    def attach(self):
        grants = os.open("/dev/xen/gntdev", os.O_RDWR)
        reference = int(self.store.read(self.front + "/ring-ref"))
        request = bytearray(struct.pack("<IIQII", 1, 0, 0, self.domain, reference))
        fcntl.ioctl(grants, MAP_GRANT_REF, request)
        self.page = mmap.mmap(grants, 4096, offset=struct.unpack("<IIQII", request)[2])
        os.close(grants)
        self.events = EventChannel(self.domain, int(self.store.read(self.front + "/event-channel")))
        self.store.write(self.own + "/feature-protocol-v2", 1)
        self.say(CONNECTED)

    def detach(self, state):
        self.say(state)
        self.page.close()
        self.events.close()
        self.page = self.events = None

    def serve(self):
        size = struct.unpack("<I", self.page[0:4])[0]
        request = bytes(self.page[8:8 + size])
        residue = 4088 - size - self.page[8 + size:4096].count(0)
        code = struct.unpack(">I", request[6:10])[0]
        self.log.write(f"{code:#x} residue {residue}\n")
        *how, mode = MODE.read_text().split()
        if "log" in how and code == READ_EVENT_LOG:
            self.answer(log_part(mode, *struct.unpack(">I", request[10:])))
            return
        response = SUCCESS if code == SHUTDOWN else SEQUENCE if request == HASH_SEQUENCE_START else self.execute(request)
        attacked = "all" in how or ("log" not in how and request in (GET_RANDOM_16, HASH_SEQUENCE_START))
        while attacked and "late" in how and self.page[4] == SUBMIT:
            time.sleep(0.1)
        self.answers[mode if attacked else "honest"](self, response)

    def execute(self, request):
        os.write(self.tpm, request)
        return os.read(self.tpm, 4096)

    def publish(self, state):
        self.page[4] = state
        self.events.notify()

    def put(self, response, length=None, extra=0):
        self.page[8:8 + len(response)] = response
        self.page[0:4] = struct.pack("<I", len(response) if length is None else length)
        self.page[7] = extra

    def answer(self, response, length=None, extra=0):
        self.put(response, length, extra)
        self.publish(FINISH)


def honest(backend, response):
    backend.answer(response)


def short(backend, response):
    backend.answer(response[:9])


def long(backend, response):
    backend.answer(response, length=4089)


def huge(backend, response):
    backend.answer(response, length=0xFFFFFFFF)


def too_little(backend, response):
    """The message says that it is longer than the page says."""
    backend.answer(response[:2] + struct.pack(">I", len(response) + 1) + response[6:])


def too_much(backend, response):
    backend.answer(response[:2] + struct.pack(">I", 10) + response[6:])


def extra_pages(backend, response):
    backend.answer(response, extra=1)


def changing(backend, response):
    """The length changes while it is read, and after it was judged."""
    backend.answer(response)
    for _ in lasting(1):
        backend.page[0:4] = b"\xff\xff\xff\xff"
        backend.page[0:4] = struct.pack("<I", len(response))


def scribbling(backend, response):
    """Events and nonsense in every field before the answer is finished."""
    for _ in range(20):
        backend.put(b"\xff" * 64, length=0xFFFFFFFF, extra=255)
        backend.events.notify()
        time.sleep(0.01)
    backend.answer(response)


def foreign_state(backend, response):
    for state in (CANCEL, 4, 77, 255):
        backend.publish(state)
        time.sleep(0.1)
    backend.answer(response)


def no_answer(backend, response):
    backend.publish(IDLE)


def no_handle(backend, response):
    backend.answer(SUCCESS)


def storm(backend, response):
    """Events without end, also after the answer."""
    sent = 0
    backend.answer(response)
    for sent in lasting(10):
        backend.events.notify()
    backend.log.write(f"storm {sent}\n")


def leave(backend, response):
    """Closes in the middle of a command, and offers itself again."""
    backend.detach(CLOSING)
    time.sleep(1)
    backend.say(CLOSED)
    time.sleep(1)
    MODE.write_text("honest")
    backend.say(INIT_WAIT)


def spec_id(algorithms, count=None, event_size=None):
    """The first event of a log, which says what digests the others have."""
    body = b"Spec ID Event03\0" + bytes([0, 0, 0, 0, 0, 2, 0, 2])
    body += struct.pack("<I", len(algorithms) if count is None else count)
    body += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms) + b"\0"
    return struct.pack("<II20xI", 0, 3, len(body) if event_size is None else event_size) + body


def event(data=b"something", digests=((0xB, bytes(32)),), count=None, size=None):
    head = struct.pack("<III", 4, 13, len(digests) if count is None else count)
    return head + b"".join(struct.pack("<H", name) + digest for name, digest in digests) + \
        struct.pack("<I", len(data) if size is None else size) + data


SHA256 = [(0xB, 32)]
LOGS = {
    "whole": spec_id(SHA256) + event() + event(b"") + event(b"the last one"),
    "one_event": spec_id(SHA256) + event(),
    "one_byte": b"a",
    "no_spec_id": event() + event(),
    "first_is_cut": spec_id(SHA256)[:40],
    "first_is_endless": spec_id(SHA256, event_size=0xFFFFFFFF) + event(),
    "no_algorithm": spec_id([]) + event(digests=()),
    # The digest's algorithm is none of them: Linux looks for it in four thousand millions.
    "algorithms_without_end": spec_id(SHA256, count=0xFFFFFFFF) + event(digests=((0xFFF1, b""),), count=0xFFFFFFFF),
    "more_algorithms_than_there_are": spec_id(SHA256, count=16) + event(digests=((0xFFF1, b""),), count=16),
    "more_digests": spec_id(SHA256) + event(count=0xFFFFFFFF),
    "another_algorithm": spec_id(SHA256) + event(digests=((0xC, bytes(48)),)),
    "digest_too_long": spec_id([(0xB, 0xFFFF)]) + event(),
    "event_too_long": spec_id(SHA256) + event() + event(size=0xFFFFFFF0),
    "event_one_too_long": spec_id(SHA256) + event() + event(b"123", size=4),
    "event_is_cut": spec_id(SHA256) + event() + event()[:11],
}


def part(whole, data, size=None):
    body = struct.pack(">IH", whole, len(data) if size is None else size) + data
    return struct.pack(">HII", 0x8001, 10 + len(body), 0) + body


# Parts that do not fit each other, or make no progress.
LOG_PARTS = {
    "too_large": lambda offset: part(0xFFFFFFFF, b"a" * 4000),
    "beyond_its_end": lambda offset: part(100, b"a" * 101),
    "nothing_of_it": lambda offset: part(100, b""),
    "half_of_it": lambda offset: part(100, b"" if offset else b"a" * 50),
    "size_of_more": lambda offset: part(100, b"a" * 10, size=100),
    "grows": lambda offset: part(offset + 100, b"a" * 50),
    "no_part": lambda offset: SUCCESS,
    "cut": lambda offset: part(100, b"")[:2] + struct.pack(">II", 12, 0) + b"\0\0",
}


def log_part(name, offset):
    if name in LOG_PARTS:
        return LOG_PARTS[name](offset)
    return part(len(LOGS[name]), LOGS[name][offset:offset + 4000])


if __name__ == "__main__":
    with open("/run/hostile-backend.log", "w", buffering=1) as log:
        Backend(int(sys.argv[1]), log).run()
