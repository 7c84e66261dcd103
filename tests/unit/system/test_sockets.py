"""Listening, accepting, connecting, waiting: with real sockets, no server."""

import errno
import os
import socket
import time

import pytest

from pgpool.system import process, signals, sockets
from tests.support.places import free_port


@pytest.fixture
def tcp():
    listeners = sockets.listen_tcp("127.0.0.1", free_port(), 10)
    yield listeners[0]
    for listener in listeners:
        listener.stop()


def port_of(listener: sockets.Listener) -> int:
    return int(listener.label.rpartition(":")[2])


def test_listen_on_all_addresses_names_them():
    port = free_port()
    listeners = sockets.listen_tcp("*", port, 10)
    labels = [listener.label for listener in listeners]
    for listener in listeners:
        listener.close()
    assert labels[0] == f"0.0.0.0:{port}"
    assert labels[1:] in ([f":::{port}"], [])


def test_a_port_in_use_is_told_with_its_address(tcp):
    with pytest.raises(OSError, match="in use") as caught:
        sockets.listen_tcp("127.0.0.1", port_of(tcp), 10)
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == f"127.0.0.1:{port_of(tcp)}"


def test_a_name_nobody_knows():
    with pytest.raises(OSError) as caught:
        sockets.listen_tcp("no-such-host.invalid", 9999, 10)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_connect_and_accept_over_tcp(tcp):
    fd = sockets.connect("127.0.0.1", port_of(tcp), 1000)
    client, peer = sockets.accept(tcp)
    with socket.socket(fileno=fd) as near, socket.socket(fileno=client) as far:
        assert peer == sockets.Peer("127.0.0.1", near.getsockname()[1])
        for end in (near, far):
            assert end.getblocking()
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not os.get_inheritable(end.fileno())
        near.sendall(b"hi")
        assert far.recv(10) == b"hi"


def test_accept_does_not_wait(tcp):
    assert sockets.accept(tcp) is None


def test_unix_socket_with_permissions(tmp_path):
    listener = sockets.listen_unix(str(tmp_path), 5433, 10, 0o750, str(os.getgid()))
    path = tmp_path / ".s.PGSQL.5433"
    assert path.stat().st_mode & 0o777 == 0o750
    assert path.stat().st_gid == os.getgid()
    fd = sockets.connect(str(tmp_path), 5433, 1000)
    client, peer = sockets.accept(listener)
    assert peer is sockets.LOCAL_PEER
    os.close(client)
    os.close(fd)
    listener.stop()
    assert not path.exists()


def test_an_unknown_group_is_an_error_and_leaves_no_socket_open(tmp_path):
    with pytest.raises(OSError, match="no-such-group"):
        sockets.listen_unix(str(tmp_path), 5433, 10, 0o777, "no-such-group")
    sockets.listen_unix(str(tmp_path), 5433, 10).stop()  # its file is stale and does not hinder


def test_a_stale_unix_socket_is_replaced(tmp_path):
    sockets.listen_unix(str(tmp_path), 5433, 10).close()
    assert (tmp_path / ".s.PGSQL.5433").exists()
    sockets.listen_unix(str(tmp_path), 5433, 10).stop()


def test_a_living_unix_socket_is_not_stolen(tmp_path):
    first = sockets.listen_unix(str(tmp_path), 5433, 10)
    with pytest.raises(OSError, match="in use"):
        sockets.listen_unix(str(tmp_path), 5433, 10)
    os.close(sockets.connect(str(tmp_path), 5433, 1000))
    first.stop()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    file = tmp_path / ".s.PGSQL.5433"
    file.write_text("mine")
    with pytest.raises(OSError, match="not a socket"):
        sockets.listen_unix(str(tmp_path), 5433, 10)
    assert file.read_text() == "mine"


def test_stopping_refuses_new_clients_in_every_process(tcp):
    """Another process has the socket too, and would otherwise keep the queue open."""
    pid = process.fork(lambda: process.sleep(30))
    tcp.stop()
    with pytest.raises(ConnectionRefusedError):
        sockets.connect("127.0.0.1", port_of(tcp), 1000)
    process.kill(pid, signals.SIGKILL)
    os.waitpid(pid, 0)


def test_acceptor_gives_clients_and_times_out(tcp):
    acceptor = sockets.Acceptor([tcp])
    assert acceptor.wait(0.01) is None
    fd = sockets.connect("127.0.0.1", port_of(tcp), 1000)
    client, peer = acceptor.wait(1)
    assert peer.host == "127.0.0.1"
    os.close(client)
    os.close(fd)
    acceptor.close()


def test_acceptor_wakes_for_the_wakeup_fd_first(tcp):
    read_fd, write_fd = os.pipe()
    acceptor = sockets.Acceptor([tcp], read_fd)
    fd = sockets.connect("127.0.0.1", port_of(tcp), 1000)
    os.write(write_fd, b"x")
    assert acceptor.wait(1) is None
    os.read(read_fd, 1)
    client, _ = acceptor.wait(1)
    for number in (client, fd, read_fd, write_fd):
        os.close(number)
    acceptor.close()


def test_acceptor_of_a_stopped_socket_waits_without_spinning(tcp):
    waiting_read, waiting_write = os.pipe()

    def child():
        made = signals.install([signals.SIGTERM])
        acceptor = sockets.Acceptor([tcp], made.wakeup_fd)
        os.write(waiting_write, b"x")
        assert acceptor.wait(10) is None
        return 0 if time.process_time() < 2 and made.drain() else 9

    pid = process.fork(child)
    os.read(waiting_read, 1)
    time.sleep(0.05)
    tcp.stop()
    time.sleep(0.3)
    process.kill(pid, signals.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(waiting_read)
    os.close(waiting_write)


def test_many_waiting_processes_share_the_clients(tcp):
    """Each client is taken once, also when several come in at the same moment."""
    read_fd, write_fd = os.pipe()

    def child():
        made = signals.install([signals.SIGTERM])
        acceptor = sockets.Acceptor([tcp], made.wakeup_fd)
        while (client := acceptor.wait(10)) is not None:
            os.write(write_fd, b"c")
            os.close(client[0])
        return 0

    pids = [process.fork(child) for _ in range(4)]
    fds = [sockets.connect("127.0.0.1", port_of(tcp), 1000) for _ in range(8)]
    taken = b""
    while len(taken) < 8:
        assert sockets.wait([read_fd], 5)
        taken += os.read(read_fd, 100)
    assert not sockets.wait([read_fd], 0.1)
    for pid in pids:
        process.kill(pid, signals.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for fd in (*fds, read_fd, write_fd):
        os.close(fd)


def test_connection_refused():
    with pytest.raises(ConnectionRefusedError):
        sockets.connect("127.0.0.1", free_port(), 1000)


def test_an_unresolvable_name():
    with pytest.raises(OSError, match=r"[Nn]ame") as caught:
        sockets.connect("no-such-host.invalid", 5432, 1000)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_an_absent_unix_socket(tmp_path):
    with pytest.raises(FileNotFoundError):
        sockets.connect(str(tmp_path), 5432, 1000)


@pytest.fixture
def full_unix(tmp_path):
    """A unix socket whose queue is full: connecting to it waits."""
    listener = sockets.listen_unix(str(tmp_path), 5433, 0)
    waiting = []
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        waiting.append(sock)
        if sock.connect_ex(listener.path) == errno.EAGAIN:
            break
    yield listener, str(tmp_path)
    for sock in waiting:
        sock.close()
    listener.stop()


def test_connect_times_out(full_unix):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        sockets.connect(full_unix[1], 5433, 150)
    assert 0.1 < time.monotonic() - began < 2


def test_connect_ends_for_the_wakeup_fd(full_unix):
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"x")
    with pytest.raises(InterruptedError):
        sockets.connect(full_unix[1], 5433, 5000, read_fd)
    os.close(read_fd)
    os.close(write_fd)


def test_connect_goes_on_when_the_queue_has_room_again(full_unix):
    listener, directory = full_unix

    def child():
        process.sleep(0.1)
        while client := sockets.accept(listener):
            os.close(client[0])
        return 0

    pid = process.fork(child)
    os.close(sockets.connect(directory, 5433, 5000))
    os.waitpid(pid, 0)


def test_wait_tells_which_fds_are_ready():
    near, far = socket.socketpair()
    assert sockets.wait([near.fileno()], 0.01) == set()
    assert sockets.wait([], 0, [near.fileno()]) == {near.fileno()}
    assert not sockets.is_readable(near.fileno())
    far.close()
    assert sockets.is_readable(near.fileno()), "the end of the stream counts"
    near.close()


def test_a_mapped_v4_address_is_shown_as_v4():
    assert sockets._plain("::ffff:10.1.2.3") == "10.1.2.3"
    assert sockets._plain("::1") == "::1"


def test_addresses_and_names():
    assert "127.0.0.1" in sockets.addresses_of("127.0.0.1")
    assert sockets.host_name("192.0.2.77") == "192.0.2.77"


def test_a_name_is_remembered_and_outlives_a_resolver_without_an_answer(monkeypatch):
    asked: list[str] = []
    real = socket.getaddrinfo
    fault: list[int] = []

    def ask(host, *args, **more):
        asked.append(host)
        if fault:
            raise socket.gaierror(fault[0], "told by the test")
        return real("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(sockets, "_names", {})
    monkeypatch.setattr(sockets, "NAME_FRESH", 60.0)
    assert [sockets.addresses_of("db.example") for _ in range(3)] == [["127.0.0.1"]] * 3
    assert asked == ["db.example"]
    monkeypatch.setattr(sockets, "NAME_FRESH", 0.0)
    sockets._names["db.example", 0, False] = (0.0, sockets._names["db.example", 0, False][1])
    fault.append(socket.EAI_AGAIN)
    assert sockets.addresses_of("db.example") == ["127.0.0.1"]  # the last good one
    with pytest.raises(OSError, match="told by the test"):
        sockets.addresses_of("other.example")
    fault[0] = socket.EAI_NONAME  # an answer: there is no such name any more
    with pytest.raises(OSError, match="told by the test"):
        sockets.addresses_of("db.example")
    assert len(asked) == 4
