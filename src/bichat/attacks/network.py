"""Attacks by way of sockets: to reach the host, its network, its other programs.  Nothing is sent but to loopback."""

from __future__ import annotations

from functools import partial
from typing import Final

from bichat.attacks.attack import Attack, Family
from bichat.sandbox.isolation.layers import Layer

_network = partial(
    Attack,
    family=Family.NETWORK,
    layers=(Layer.SECCOMP, Layer.NET_NAMESPACE, Layer.LANDLOCK),
    first_counts=True,
    # The filter says EACCES to `socket`, `connect` and `bind`; Landlock says so to TCP alone, and EPERM to names.
    signs={
        "EACCES": (Layer.SECCOMP, Layer.LANDLOCK),
        "PermissionError": (Layer.SECCOMP, Layer.LANDLOCK),
        "EPERM": (Layer.SECCOMP, Layer.LANDLOCK),
        "ENETUNREACH": (Layer.NET_NAMESPACE,),
        "EADDRNOTAVAIL": (Layer.NET_NAMESPACE,),
        "ECONNREFUSED": (Layer.NET_NAMESPACE,),
        "ENODEV": (Layer.NET_NAMESPACE,),
        "ENOENT": (Layer.PRIVATE_ROOT,),
        "no answer": (Layer.NET_NAMESPACE,),
        "gaierror": ("no socket",),
    },
)
_NOT_REACHED: Final = "nobody is reached"

ATTACKS: Final = (
    _network(
        name="tcp-to-the-host",
        tries="to connect to a port that the host listens on, on loopback",
        expected=_NOT_REACHED,
        code="""
        import socket
        for address in ("127.0.0.1", "::ffff:127.0.0.1", "localhost"):
            attempt(f"TCP to {address}", socket.create_connection, (address, given["tcp"]), 2)
        """,
    ),
    _network(
        name="udp-to-the-host",
        tries="to send a datagram to a port that the host listens on, on loopback",
        expected=_NOT_REACHED,
        code="""
        import socket
        def send():
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", given["udp"]))
        try:
            send()
        except OSError as error:
            held(name_of(error), "UDP")
        else:
            held("no answer", "a datagram to its own loopback; whether it came the host says")
        """,
    ),
    _network(
        name="abstract-socket-of-the-host",
        tries="to connect to an abstract unix socket of the host, as of D-Bus or containerd (CVE-2020-15257)",
        expected=_NOT_REACHED,
        code="""
        import socket
        attempt("a stream", lambda: socket.socket(socket.AF_UNIX).connect(given["abstract"]))
        name = given["abstract"] + "-datagrams"
        attempt("a datagram", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", name))
        """,
    ),
    _network(
        name="named-socket-of-the-host",
        tries="to connect to a unix socket that lies in a folder of the host, as Docker's does",
        expected=_NOT_REACHED,
        layers=(Layer.SECCOMP, Layer.PRIVATE_ROOT),
        code="""
        import socket
        for path in (given["socket"], "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/notify"):
            attempt(path, lambda: socket.socket(socket.AF_UNIX).connect(path))
        """,
    ),
    _network(
        name="pair-connected-elsewhere",
        tries="to connect one end of a pair of sockets, which may be made, to a name of the host",
        expected=_NOT_REACHED,
        code="""
        import socket
        for name in (given["abstract"], given["abstract"] + "-datagrams", given["socket"]):
            loose = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]
            attempt("connect", loose.connect, name)
            attempt("sendto", loose.sendto, b"x", name)
            attempt("sendmsg", loose.sendmsg, [b"x"], [], 0, name)
        """,
    ),
    _network(
        name="names-by-dns",
        tries="to resolve a name, by which data leaves many a sandbox that calls itself closed",
        expected="no resolver can be asked",
        code="""
        import socket
        try:
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            held(name_of(error), "a socket for DNS")
            # Without a socket nothing can be sent.
            attempt("getaddrinfo", socket.getaddrinfo, "bichat.invalid", 80)
        else:
            # A connected datagram socket sends nothing; it tells whether there is a way.
            for address in ("8.8.8.8", "1.1.1.1", "10.0.0.2"):
                attempt(f"a way to the resolver {address}", asking.connect, (address, 53))
        """,
    ),
    _network(
        name="metadata-of-the-cloud",
        tries="to find a way to the addresses where clouds hand out credentials (169.254.169.254 and others)",
        expected="there is no way to them",
        code="""
        import socket
        # Connected datagram sockets: nothing is sent, the kernel looks for a way alone.
        for family, address in ((socket.AF_INET, "169.254.169.254"), (socket.AF_INET, "169.254.170.2"),
                                (socket.AF_INET, "100.100.100.200"), (socket.AF_INET, "168.63.129.16"),
                                (socket.AF_INET6, "fd00:ec2::254")):
            attempt(address, lambda: socket.socket(family, socket.SOCK_DGRAM).connect((address, 80)))
        """,
    ),
    _network(
        name="way-to-the-internet",
        tries="to find a way to addresses outside, of both versions",
        expected="there is no way out",
        code="""
        import socket
        for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "255.255.255.255"),
                                (socket.AF_INET6, "2001:db8::1")):
            attempt(address, lambda: socket.socket(family, socket.SOCK_DGRAM).connect((address, 9)))
        """,
    ),
    _network(
        name="interfaces",
        tries="to list the host's interfaces and addresses",
        expected="no interface of the host is seen",
        code="""
        import socket
        try:
            names = [name for _, name in socket.if_nameindex()]
        except OSError as error:
            held(name_of(error), "if_nameindex")
        else:
            expect(names == ["lo"], "ENODEV", f"interfaces {names}")
        """,
    ),
    _network(
        name="listen",
        tries="to listen on a port, for the host or another session to come by",
        expected="nobody outside can connect",
        code="""
        import socket
        def listen(family, name):
            server = socket.socket(family)
            server.bind(name)
            server.listen()
        attempt("TCP", listen, socket.AF_INET, ("127.0.0.1", 0))
        attempt("TCP on every address", listen, socket.AF_INET, ("", 0))
        loose = socket.socketpair()[0]
        attempt("a name for a pair", loose.bind, "\\0" + given["planted"])
        attempt("listening on a pair", loose.listen)
        """,
        signs={"EACCES": (Layer.SECCOMP, Layer.LANDLOCK), "EINVAL": ("no such thing on a pair",)},
    ),
    _network(
        name="raw-and-packet-sockets",
        tries="to read and forge packets",
        expected="no such socket is made",
        code="""
        import socket
        for name, arguments in {"raw": (2, 3, 1), "raw6": (10, 3, 58), "packet": (17, 3, 0x0300), "xdp": (44, 3, 0)}.items():
            attempt(name, socket.socket, *arguments)
        """,
        layers=(Layer.SECCOMP, Layer.NO_CAPABILITIES),
        signs={"EACCES": (Layer.SECCOMP,), "EPERM": (Layer.NO_CAPABILITIES,)},
    ),
    _network(
        name="netlink",
        tries="to speak with the kernel's network by netlink, whose code has had many holes (nf_tables, xfrm)",
        expected="no such socket is made",
        layers=(Layer.SECCOMP,),
        code="""
        import socket
        for protocol in (0, 4, 6, 9, 12, 15, 16):
            attempt(f"netlink {protocol}", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        """,
    ),
    _network(
        name="every-family-of-sockets",
        tries="to make a socket of any family: vsock to a hypervisor, AF_ALG, Bluetooth, CAN, TIPC, RDS",
        expected="no socket is made",
        layers=(Layer.SECCOMP,),
        signs={"EACCES": (Layer.SECCOMP,), "EAFNOSUPPORT": ("this kernel has none",)},
        code="""
        import socket
        for family in range(1, 46):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                try:
                    socket.socket(family, kind)
                except OSError as error:
                    sign = name_of(error)
                    if sign not in ("ESOCKTNOSUPPORT", "EPROTONOSUPPORT", "EINVAL", "EPERM"):
                        held(sign, f"family {family}")
                else:
                    through(f"a socket of family {family}, kind {kind}")
        held("EACCES" if not works(socket.socket) else "EAFNOSUPPORT", "all families")
        """,
    ),
    _network(
        name="pairs-of-network-sockets",
        tries="to make pairs of other than unix sockets",
        expected="only unix pairs are made",
        layers=(Layer.SECCOMP,),
        signs={"EACCES": (Layer.SECCOMP,), "ENOTSUP": ("this kernel has none",)},
        code="""
        import socket
        for family in (socket.AF_INET, socket.AF_INET6, 16, 30, 40):
            attempt(f"a pair of family {family}", socket.socketpair, family, socket.SOCK_STREAM)
        """,
    ),
    _network(
        name="descriptors-in-flight",
        tries="to pass descriptors over a pair of sockets (SCM_RIGHTS): to hide them from limits, to fill a user's count",
        expected="none can be sent",
        layers=(Layer.SECCOMP,),
        code="""
        import array, socket
        left, right = socket.socketpair()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
        attempt("SCM_RIGHTS", left.sendmsg, [b"x"], rights)
        attempt("credentials of others", left.sendmsg, [b"x"], [(socket.SOL_SOCKET, 2, array.array("i", [1, 0, 0]))])
        """,
        signs={"EPERM": (Layer.SECCOMP, Layer.NO_CAPABILITIES)},
    ),
    _network(
        name="handle-on-the-server",
        tries="to get a handle on the server's process from the channel that leads to it (SO_PEERPIDFD, SO_PASSCRED)",
        expected="no handle on a process is had",
        layers=(Layer.SECCOMP,),
        signs={
            "EPERM": (Layer.SECCOMP,),
            "ENODATA": ("nobody at the other end",),
            "ENOPROTOOPT": ("this kernel has none",),
        },
        code="""
        import socket
        taken = socket.socket(fileno=os.dup(channel()))
        attempt("SO_PEERPIDFD", taken.getsockopt, socket.SOL_SOCKET, 77, 4)
        attempt("SO_PASSPIDFD", taken.setsockopt, socket.SOL_SOCKET, 76, 1)
        """,
    ),
    _network(
        name="urgent-data",
        tries="to send urgent data over a unix pair, whose code has let programs out of sandboxes (CVE-2025-38236)",
        expected="the kernel is not asked",
        layers=(Layer.SECCOMP,),
        code="""
        import socket
        left, right = socket.socketpair()
        attempt("send", left.send, b"x", socket.MSG_OOB)
        attempt("receive", right.recv, 1, socket.MSG_OOB | socket.MSG_DONTWAIT)
        attempt("zero copy", left.send, b"x", 0x4000000)
        """,
        signs={"EACCES": (Layer.SECCOMP,), "EINVAL": ("nothing was there",)},
    ),
    _network(
        name="programs-in-sockets",
        tries="to attach programs and filters to sockets (SO_ATTACH_FILTER, SO_ATTACH_BPF)",
        expected="none is attached",
        layers=(Layer.SECCOMP,),
        signs={"EPERM": (Layer.SECCOMP,), "EBADF": ("there is no such program",)},
        code="""
        import socket, struct
        code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFF))
        program_ = struct.pack("HL", 1, ctypes.addressof(code))
        for option in (26, 51):
            attempt(f"option {option}", socket.socketpair()[0].setsockopt, socket.SOL_SOCKET, option, program_)
        """,
    ),
)
