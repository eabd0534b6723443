"""No socket but a pair within the session: nothing to listen on, nobody to talk to."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer

VSOCK, ALG, PACKET, NETLINK = 40, 38, 17, 16


@pytest.fixture
def tcp_port() -> Iterator[int]:
    """A port of the host's loopback that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def abstract_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """An abstract unix socket of the host that somebody listens on."""
    name = f"\0bichat-test-{id(request)}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        yield name


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW])
@pytest.mark.parametrize(
    "family",
    [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, NETLINK, VSOCK, PACKET, ALG],
    ids=["inet", "inet6", "unix", "netlink", "vsock", "packet", "alg"],
)
def test_no_socket_of_any_family_can_be_made(run_code, family, kind):
    outcome = run_code(
        "import socket; answer(attempt(socket.socket, family, kind))", given={"family": int(family), "kind": int(kind)}
    )

    assert outcome.answer == "EACCES"


def test_a_port_of_the_host_cannot_be_reached(run_code, tcp_port):
    outcome = run_code(
        "import socket; answer(attempt(socket.create_connection, ('127.0.0.1', port), 5))", given={"port": tcp_port}
    )

    assert outcome.answer == "EACCES"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, NETLINK], ids=["inet", "inet6", "netlink"])
def test_no_pair_of_network_sockets_can_be_made(run_code, family):
    outcome = run_code(
        "import socket; answer(attempt(socket.socketpair, family, socket.SOCK_STREAM))", given={"family": int(family)}
    )

    assert outcome.answer == "EACCES"


def test_a_pair_of_unix_sockets_can_be_made_and_cannot_be_connected_to_anything_else(run_code, abstract_name):
    outcome = run_code(
        """
        import socket
        left, right = socket.socketpair()
        left.sendall(b"x")
        loose = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]
        answer([right.recv(1).decode(), attempt(loose.connect, name), attempt(loose.sendto, b"x", name)])
        """,
        given={"name": abstract_name},
    )

    received, connected, sent = outcome.answer
    assert received == "x"
    assert connected != "ok"
    assert sent != "ok"


def test_names_are_not_resolved(run_code):
    outcome = run_code("import socket; answer(attempt(socket.getaddrinfo, 'example.com', 80))")

    assert outcome.answer != "ok"


def test_there_is_no_interface_but_loopback(run_code):
    outcome = run_code("import socket; answer(attempt(socket.if_nameindex))")

    assert outcome.answer == "EACCES"


def test_without_the_filter_sockets_exist_and_landlock_holds_them_back(run_code, tcp_port, abstract_name):
    outcome = run_code(
        """
        import socket
        answer([
            attempt(socket.create_connection, ("127.0.0.1", port), 5),
            attempt(socket.socket(socket.AF_UNIX).connect, name),
            [name for _, name in socket.if_nameindex()],
        ])
        """,
        given={"port": tcp_port, "name": abstract_name},
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    tcp, abstract, interfaces = outcome.answer
    assert tcp in {"EACCES", "ENETUNREACH", "ECONNREFUSED"}
    assert abstract in {"EPERM", "ECONNREFUSED"}
    assert interfaces == ["lo"]


def test_without_filter_and_landlock_the_empty_network_namespace_holds(run_code, tcp_port, abstract_name):
    outcome = run_code(
        """
        import socket
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        answer([
            attempt(socket.create_connection, ("127.0.0.1", port), 5),
            attempt(datagram.sendto, b"x", ("10.0.0.1", 53)),
            attempt(socket.socket(socket.AF_UNIX).connect, name),
        ])
        """,
        given={"port": tcp_port, "name": abstract_name},
        layers=ALL_LAYERS - {Layer.SECCOMP, Layer.LANDLOCK},
    )

    assert outcome.answer == ["ENETUNREACH", "ENETUNREACH", "ECONNREFUSED"]


def test_without_a_network_namespace_of_its_own_a_sandbox_has_the_zygotes_which_is_as_empty(run_code, tcp_port):
    outcome = run_code(
        "import socket; answer(attempt(socket.create_connection, ('127.0.0.1', port), 5))",
        given={"port": tcp_port},
        layers=ALL_LAYERS - {Layer.SECCOMP, Layer.LANDLOCK, Layer.NET_NAMESPACE},
    )

    assert outcome.answer in {"ENETUNREACH", "ECONNREFUSED"}


def test_no_descriptor_can_be_sent_so_none_is_in_flight(run_code):
    outcome = run_code(
        """
        import array, socket
        left, right = socket.socketpair()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
        answer([attempt(left.sendmsg, [b"x"], rights), attempt(left.sendmsg, [b"x"]), attempt(left.send, b"x")])
        """
    )

    assert outcome.answer == ["EPERM", "EPERM", "ok"]


def test_without_the_filter_descriptors_in_flight_would_be_shared_by_all_sandboxes_of_a_zygote(run_code):
    # Each user may have as many on their way as one process may open: what one takes another lacks.
    outcome = run_code(
        """
        import array, socket
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 250))]
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(8)]
        answer([attempt(left.sendmsg, [b"x"], rights) for left, _ in pairs])
        """,
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    assert outcome.answer == ["ok"] * 5 + ["ETOOMANYREFS"] * 3
