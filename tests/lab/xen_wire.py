# SPDX-License-Identifier: Apache-2.0
"""What the hostile frontend and the hostile backend have in common: xenstore, event channels, waiting."""

import fcntl
import os
import select
import struct
import time

IDLE, SUBMIT, FINISH, CANCEL = 0, 1, 2, 3  # tpmif_header.state


def ioctl_number(group, number, size):
    return number | ord(group) << 8 | size << 16


class Xenstore:
    """The wire protocol of xen/include/public/io/xs_wire.h, on the kernel's own connection."""

    READ, WRITE, REMOVE = 2, 11, 13

    def __init__(self):
        self.fd = os.open("/dev/xen/xenbus", os.O_RDWR)

    def request(self, kind, payload):
        os.write(self.fd, struct.pack("<IIII", kind, 0, 0, len(payload)) + payload)
        answered, _, _, size = struct.unpack("<IIII", self.take(16))
        answer = self.take(size)
        return None if answered == 16 else answer  # XS_ERROR

    def take(self, size):
        data = b""
        while len(data) < size:
            data += os.read(self.fd, size - len(data))
        return data

    def read(self, path):
        answer = self.request(self.READ, path.encode() + b"\0")
        return None if answer is None else answer.decode()

    def write(self, path, value):
        value = value if isinstance(value, bytes) else str(value).encode()
        return self.request(self.WRITE, path.encode() + b"\0" + value) is not None

    def remove(self, path):
        return self.request(self.REMOVE, path.encode() + b"\0") is not None


class EventChannel:
    """One port of /dev/xen/evtchn (include/uapi/xen/evtchn.h)."""

    BIND_INTERDOMAIN = ioctl_number("E", 1, 8)
    BIND_UNBOUND = ioctl_number("E", 2, 4)
    NOTIFY = ioctl_number("E", 4, 4)

    def __init__(self, remote_domain, remote_port=None):
        self.fd = os.open("/dev/xen/evtchn", os.O_RDWR)
        if remote_port is None:
            request = self.BIND_UNBOUND, struct.pack("<I", remote_domain)
        else:
            request = self.BIND_INTERDOMAIN, struct.pack("<II", remote_domain, remote_port)
        self.port = fcntl.ioctl(self.fd, request[0], bytearray(request[1]))  # a bytearray, for the result to be the port

    def notify(self):
        fcntl.ioctl(self.fd, self.NOTIFY, struct.pack("<I", self.port))

    def wait(self, seconds):
        """Whether an event came; it is taken and unmasked."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        os.write(self.fd, os.read(self.fd, 4))
        return True

    def close(self):
        os.close(self.fd)


def wait_for(condition, what, limit):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit} s")
        time.sleep(0.1)


def lasting(seconds):
    """Something to loop over for so long; counts the rounds from 1."""
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        yield rounds
