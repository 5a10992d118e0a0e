# SPDX-License-Identifier: Apache-2.0
"""A host on which the real programs run without Xen: xenstored, event channels, granted pages, systemd's store of descriptors
and the system bus are played here (and by fake_xen.c, within the programs); so are the toolstack and the guests."""

import contextlib
import mmap
import os
import pathlib
import queue
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid

LIMIT = 30  # seconds, for whatever is waited for
PAGE = 4096
SUBMIT, FINISH = 1, 2  # tpmif_header.state

# Without services that it could start: there is no systemd here, and so no scopes. A daemon then takes each end for a restart.
BUS = """<busconfig><type>session</type><listen>{}</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"""


def wait_for(condition, what):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)


def listen(path, kind):
    listening = socket.socket(socket.AF_UNIX, kind)
    listening.bind(str(path))
    if kind != socket.SOCK_DGRAM:
        listening.listen()
    return listening


class Xenstore:
    """xen/include/public/io/xs_wire.h, as far as libxenstore uses it for xen-vtpmd. What a transaction writes is there at its end."""

    DIRECTORY, READ, WATCH, UNWATCH, BEGIN, END, WRITE, REMOVE, EVENT, ERROR = 1, 2, 4, 5, 6, 7, 11, 13, 15, 16

    def __init__(self, path):
        self.nodes, self.writes = {}, []  # writes: each (path, value) of a daemon, in order
        self.lock = threading.RLock()
        self.watches, self.transactions = [], {}
        self.listening = listen(path, socket.SOCK_STREAM)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listening.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        def take(size):
            data = b""
            while len(data) < size:
                part = connection.recv(size - len(data))
                if not part:
                    raise ConnectionError
                data += part
            return data

        with contextlib.suppress(OSError):
            while True:
                kind, request, transaction, size = struct.unpack("<IIII", take(16))
                payload = take(size)
                with self.lock:
                    self.answer(connection, kind, request, transaction, payload)
        with self.lock:
            self.watches = [watch for watch in self.watches if watch[0] is not connection]

    @staticmethod
    def send(connection, kind, request, transaction, payload):
        connection.sendall(struct.pack("<IIII", kind, request, transaction, len(payload)) + payload)

    def answer(self, connection, kind, request, transaction, payload):
        try:
            answer = self.carry_out(connection, kind, transaction, payload)
        except KeyError:
            kind, answer = self.ERROR, b"ENOENT\0"
        self.send(connection, kind, request, transaction, answer)
        if kind == self.WATCH:
            self.send(connection, self.EVENT, 0, 0, payload)

    def carry_out(self, connection, kind, transaction, payload):
        path = payload.split(b"\0")[0].decode()
        if kind == self.READ:
            return self.nodes[path].encode()
        if kind == self.DIRECTORY:
            below = {node[len(path) + 1:].split("/")[0] for node in self.nodes if node.startswith(path + "/")}
            if not below and path not in self.nodes:
                raise KeyError
            return b"".join(name.encode() + b"\0" for name in sorted(below))
        if kind == self.WATCH:
            self.watches.append((connection, path, payload.split(b"\0")[1]))
        elif kind == self.UNWATCH:
            self.watches = [watch for watch in self.watches if watch != (connection, path, payload.split(b"\0")[1])]
        elif kind == self.BEGIN:
            self.transactions[len(self.transactions) + 1] = []
            return str(len(self.transactions)).encode() + b"\0"
        elif kind == self.END:
            for node, value in self.transactions[transaction] if payload[:1] == b"T" else []:
                self.write_by_daemon(node, value)
        elif kind == self.WRITE:
            value = payload.split(b"\0", 1)[1].decode()
            if transaction:
                self.transactions[transaction].append((path, value))
            else:
                self.write_by_daemon(path, value)
        elif kind == self.REMOVE:
            self.remove(path)
        else:
            raise KeyError
        return b"OK\0"

    def write_by_daemon(self, path, value):
        self.writes.append((path, value))
        self.write(path, value)

    def tell(self, path, removed=False):
        for connection, watched, token in self.watches:
            if path == watched or path.startswith(watched + "/") or (removed and watched.startswith(path + "/")):
                with contextlib.suppress(OSError):
                    self.send(connection, self.EVENT, 0, 0, path.encode() + b"\0" + token + b"\0")

    def read(self, path):
        with self.lock:
            return self.nodes.get(path)

    def write(self, path, value):
        with self.lock:
            self.nodes[path] = str(value)
            self.tell(path)

    def remove(self, path):
        with self.lock:
            self.nodes = {node: value for node, value in self.nodes.items() if node != path and not node.startswith(path + "/")}
            self.tell(path, removed=True)


class Events:
    """Event channels, by domain: each engine's connection says whose it is."""

    def __init__(self, path):
        self.listening = listen(path, socket.SOCK_SEQPACKET)
        self.channels = queue.Queue()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listening.accept()
            if len(whom := connection.recv(8)) == 8:
                self.channels.put((struct.unpack("<II", whom), connection))


class Descriptors:
    """systemd's: sd_notify(3) with FDSTORE, BARRIER, READY."""

    def __init__(self, path):
        self.socket = listen(path, socket.SOCK_DGRAM)
        self.kept, self.ready = {}, threading.Event()
        threading.Thread(target=self.receive, daemon=True).start()

    def receive(self):
        while True:
            message, fds, _, _ = socket.recv_fds(self.socket, 4096, 16)
            fields = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
            if "FDSTORE" in fields:
                self.kept[fields["FDNAME"]] = fds.pop()
            if "FDSTOREREMOVE" in fields and fields["FDNAME"] in self.kept:
                os.close(self.kept.pop(fields["FDNAME"]))
            if "READY" in fields:
                self.ready.set()
            for fd in fds:
                os.close(fd)


class Programs:
    """Of one version: a build directory."""

    def __init__(self, build):
        self.build = pathlib.Path(build)
        self.daemon, self.engine = self.build / "backend/xen-vtpmd", self.build / "backend/xen-vtpm-engine"
        self.manager, self.domains = self.build / "manager/xen-vtpm-managerd", self.build / "backend/xen-vtpm-domains"


class Host:
    def __init__(self, directory, fake_xen):
        self.directory, self.fake_xen = pathlib.Path(directory), fake_xen
        self.domains, self.running = {}, {}
        self.xenstore = Xenstore(self.directory / "xenstored")
        self.events = Events(self.directory / "events")
        self.descriptors = Descriptors(self.directory / "notify")
        self.journal = (self.directory / "journal").open("w+")
        (self.directory / "pages").write_bytes(bytes(64 * PAGE))
        self.xenstore.write("/local/domain/0/name", "Domain-0")
        self.bus = f"unix:path={self.directory}/bus"
        (self.directory / "bus.conf").write_text(BUS.format(self.bus))
        self.start("bus", ["dbus-daemon", f"--config-file={self.directory}/bus.conf", "--nofork", "--nopidfile"])
        wait_for((self.directory / "bus").exists, "the bus")
        self.config = self.directory / "manager.toml"
        (self.directory / "state").mkdir()
        self.config.write_text(f'tcti = "none"\nsealing = "file"\nek_certificates = false\nstate_directory = "{self.directory}/state"\n'
                               f'socket = "{self.directory}/manager.sock"\n')

    # ---- programs ----

    def environment(self):
        return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus, "XENSTORED_PATH": f"{self.directory}/xenstored",
                "XEN_VTPM_FAKE_XEN": str(self.directory), "NOTIFY_SOCKET": f"{self.directory}/notify"}

    def start(self, name, command, **options):
        self.running[name] = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=self.journal,
                                              stderr=self.journal, **options)

    def start_ready(self, name, command, preload=True, fds=None):
        self.descriptors.ready.clear()
        environment = self.environment() | ({"LD_PRELOAD": str(self.fake_xen)} if preload else {})
        options = {"env": environment}
        if fds:  # sd_listen_fds(3): from 3 on, and LISTEN_PID is who is run
            environment |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(fds)}
            numbers = " ".join(f"{3 + i}<&{fd} {fd}<&-" for i, fd in enumerate(fds.values()))
            command = ["bash", "-c", f'exec {numbers}; export LISTEN_PID=$$; exec "$0" "$@"', *command]
            options["pass_fds"] = tuple(fds.values())
        self.start(name, command, **options)
        wait_for(lambda: self.descriptors.ready.is_set() or self.running[name].poll() is not None, f"{name} is ready")
        assert self.running[name].poll() is None, self.log()

    def stop(self, name):
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(LIMIT)

    def start_manager(self, programs):
        self.start_ready("manager", [programs.manager, "--config", self.config], preload=False)

    def start_daemon(self, programs):
        command = [programs.daemon, "--engine", programs.engine, "--manager-socket", self.directory / "manager.sock"]
        if programs.domains.exists():
            self.start_ready("domains", [programs.domains, "--socket", self.directory / "domains.sock"])
            command += ["--domains-socket", self.directory / "domains.sock"]
        self.start_ready("daemon", command, fds=dict(self.descriptors.kept))

    def stop_daemon(self):
        status = self.stop("daemon")
        if "domains" in self.running:
            self.stop("domains")
        return status

    def check_upgrade(self, programs):
        return subprocess.run([programs.daemon, "--check-upgrade"], env=self.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=LIMIT)

    def log(self):
        return (self.directory / "journal").read_text(errors="replace")

    def close(self):
        for fd in self.descriptors.kept.values():  # the engines end with it
            os.close(fd)
        for name in ("daemon", "domains", "manager", "bus"):
            if name in self.running:
                self.stop(name)

    # ---- the hypervisor ----

    def tell_domains(self):
        fresh = self.directory / "domains.new"
        fresh.write_text("".join(f"{number} {facts['incarnation']} {facts['has_run']:d} {facts['paused']:d} {facts['suspended']:d} "
                                 f"{facts['handle']}\n" for number, facts in self.domains.items()))
        fresh.rename(self.directory / "domains")

    def build_domain(self, number, handle, incarnation=1):
        self.domains[number] = {"handle": handle, "incarnation": incarnation, "has_run": False, "paused": True, "suspended": False}
        self.tell_domains()

    def set_domain(self, number, **facts):
        self.domains[number] |= facts
        self.tell_domains()


class Guest:
    """One domain after the other, with one vTPM: what libxl, the guest's kernel and its user do."""

    def __init__(self, host, number):
        self.host, self.number = host, number
        self.vtpm, self.handle, self.incarnation = uuid.uuid4(), uuid.uuid4().hex, 0
        with (host.directory / "pages").open("r+b") as pages:
            self.page = mmap.mmap(pages.fileno(), PAGE, offset=number * PAGE)
        self.channel = None

    @property
    def own(self):
        return f"/local/domain/0/backend/vtpm/{self.number}/0"

    @property
    def front(self):
        return f"/local/domain/{self.number}/device/vtpm/0"

    def state(self):
        return self.host.xenstore.read(self.own + "/state")

    def reaches(self, state):
        def is_there():
            assert self.state() is not None, self.host.log()
            return self.state() == state
        wait_for(is_there, f"state {state} of guest {self.number}, {self.host.log()}")

    # ---- the toolstack ----

    def attach(self):
        write = self.host.xenstore.write
        write(self.own + "/frontend", self.front)
        write(self.own + "/frontend-id", self.number)
        write(self.own + "/online", 1)
        write(self.own + "/uuid", self.vtpm)
        write(self.front + "/state", 1)
        write(self.own + "/state", 1)
        self.reaches("2")

    def detach(self):
        self.host.xenstore.write(self.own + "/online", 0)
        self.host.xenstore.write(self.own + "/state", 5)
        self.reaches("6")
        self.host.xenstore.remove(self.own)
        self.host.xenstore.remove(self.front)

    def power_on(self):
        self.handle, self.incarnation = uuid.uuid4().hex, 0
        self.restore()

    def save(self):
        self.host.set_domain(self.number, suspended=True)
        self.detach()

    # In the next life of its domain, the first included.
    def restore(self):
        self.incarnation += 1
        self.host.build_domain(self.number, self.handle, self.incarnation)
        self.attach()
        self.host.set_domain(self.number, has_run=True, paused=False)
        self.connect()

    # ---- its kernel ----

    def connect(self):
        self.host.xenstore.write(self.front + "/ring-ref", self.number)
        self.host.xenstore.write(self.front + "/event-channel", 9)
        self.host.xenstore.write(self.front + "/feature-protocol-v2", 1)
        self.host.xenstore.write(self.front + "/state", 3)
        self.reaches("4")
        self.host.xenstore.write(self.front + "/state", 4)
        (domain, port), self.channel = self.host.events.channels.get(timeout=LIMIT)
        assert (domain, port) == (self.number, 9)

    def execute(self, command):
        self.page[8:8 + len(command)] = command
        self.page[0:8] = struct.pack("<IBBBB", len(command), SUBMIT, 0, 0, 0)
        self.channel.send(struct.pack("<I", 9))
        deadline = time.monotonic() + LIMIT
        while self.page[4] != FINISH:
            assert time.monotonic() < deadline, "no answer"
            if select.select([self.channel], [], [], 1)[0]:
                self.channel.recv(8)  # the engine rings, or unmasks the port
        size = struct.unpack("<I", self.page[0:4])[0]
        return bytes(self.page[8:8 + size])

    # ---- its user: TCG TPM 2.0 Library Part 3 ----

    INDEX = 0x01500001
    PASSWORD = bytes.fromhex("00000009 40000009 0000 00 0000")

    def run(self, code, payload, sessions=True):
        answer = self.execute(struct.pack(">HII", 0x8002 if sessions else 0x8001, 10 + len(payload), code) + payload)
        assert struct.unpack(">I", answer[6:10])[0] == 0, answer.hex()
        return answer

    def extend(self):
        self.run(0x182, struct.pack(">I", 10) + self.PASSWORD + struct.pack(">IH", 1, 0x000B) + os.urandom(32))
        return self.pcr()

    def pcr(self):
        return self.run(0x17E, bytes.fromhex("00000001 000b 03 000400"), sessions=False)[-32:]

    def define(self):
        public = struct.pack(">IHIHH", self.INDEX, 0x000B, 0x02060006, 0, 8)
        self.run(0x12A, struct.pack(">I", 0x40000001) + self.PASSWORD + struct.pack(">HH", 0, len(public)) + public)

    def write(self, number):
        self.run(0x137, struct.pack(">II", self.INDEX, self.INDEX) + self.PASSWORD + struct.pack(">HQH", 8, number, 0))

    def read(self):
        answer = self.run(0x14E, struct.pack(">II", self.INDEX, self.INDEX) + self.PASSWORD + struct.pack(">HH", 8, 0))
        return struct.unpack(">Q", answer[16:24])[0]


class Busy:
    """A guest that writes to its TPM without a pause: what it was told to be durable is counted."""

    def __init__(self, guest):
        self.guest, self.written, self.error, self.ended = guest, guest.read(), None, threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.ended.is_set():
                self.guest.write(self.written + 1)
                self.written += 1
                assert self.guest.read() == self.written
        except BaseException as error:  # of a thread: told by stop()
            self.error = error

    def writes_again(self):
        before = self.written
        wait_for(lambda: self.error or self.written >= before + 5, "the guest goes on")
        assert self.error is None, self.error

    def stop(self):
        self.ended.set()
        self.thread.join(LIMIT)
        assert self.error is None, self.error
        return self.written
