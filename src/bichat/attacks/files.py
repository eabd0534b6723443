"""Attacks on the host's files: to read one, to change one, to leave one."""

from __future__ import annotations

from functools import partial
from typing import Final

from bichat.attacks.attack import PATH_SIGNS, Attack, Family
from bichat.sandbox.isolation.layers import Layer

_files = partial(
    Attack, family=Family.FILES, signs=PATH_SIGNS, layers=(Layer.PRIVATE_ROOT, Layer.MOUNT_NAMESPACE, Layer.LANDLOCK)
)
_NOT_READ: Final = "no byte of the file is read"
_NOT_CHANGED: Final = "the file, its name and its mode stay as they are"
_NOTHING_MADE: Final = "no file is made there"

ATTACKS: Final = (
    _files(
        name="read-by-path",
        tries="to read a file of the server that everybody may read, by its path",
        expected=_NOT_READ,
        code="steal(given['secret'])",
    ),
    _files(
        name="read-by-dots",
        tries="to climb out of the working directory with ..",
        expected=_NOT_READ,
        code="""
        for start in ("", "/mnt/data/", "/tmp/", "/usr/lib/", os.path.dirname(os.__file__) + "/"):
            steal(start + "../" * 40 + given["secret"].lstrip("/"))
        """,
    ),
    _files(
        name="read-by-link",
        tries="to read through a symbolic link of one's own, and one in a folder",
        expected=_NOT_READ,
        code="""
        os.symlink(given["secret"], "link")
        os.symlink(given["folder"], "folder")
        steal("link")
        steal("folder/" + os.path.basename(given["secret"]))
        os.unlink("link"), os.unlink("folder")
        """,
    ),
    _files(
        name="read-by-hard-link",
        tries="to give the file a second name in the own folder, and to read that",
        expected=_NOT_READ,
        code="""
        attempt("a hard link", os.link, given["secret"], "mine")
        if os.path.exists("mine"):
            steal("mine")
        """,
    ),
    _files(
        name="read-by-rename",
        tries="to move the file into the own folder",
        expected=_NOT_CHANGED,
        code="""
        attempt("rename", os.rename, given["secret"], "mine")
        attempt("rename out", lambda: (open("own", "w").close(), os.rename("own", given["folder"] + "/moved")))
        """,
    ),
    _files(
        name="read-by-roots-in-proc",
        tries="to reach the host's root by /proc/<pid>/root and /proc/<pid>/cwd",
        expected=_NOT_READ,
        signs={**PATH_SIGNS, "ENOENT": (Layer.PRIVATE_ROOT, Layer.PID_NAMESPACE)},
        code="""
        for pid in ("self", "thread-self", 1, os.getppid(), *given["pids"]):
            steal(f"/proc/{pid}/root{given['secret']}")
            steal(f"/proc/{pid}/cwd{given['secret']}")
        """,
    ),
    _files(
        name="read-by-handle-without-opening",
        tries="to get a descriptor of the file with O_PATH and to open that again",
        expected=_NOT_READ,
        code="""
        try:
            number = os.open(given["secret"], os.O_PATH)
        except OSError as error:
            held(name_of(error), "O_PATH")
        else:
            steal(f"/proc/self/fd/{number}")
            steal(f"/dev/fd/{number}")
        """,
    ),
    _files(
        name="read-by-file-handle",
        tries="to open files by their handles, past all paths (open_by_handle_at)",
        expected="the kernel refuses to open by handle",
        layers=(Layer.SECCOMP, Layer.NO_CAPABILITIES),
        signs={"EPERM": (Layer.NO_CAPABILITIES,)},
        code="""
        import struct
        handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0) + bytes(120))
        number = os.open(".", os.O_RDONLY)
        kernel("open_by_handle_at", number, handle, 0)
        """,
    ),
    _files(
        name="read-by-a-program",
        tries="to have programs read it: cat, a shell, another Python, the loader as LD_PRELOAD",
        expected=_NOT_READ,
        code="""
        for words in (["/bin/cat"], ["/bin/sh"], [python], ["/bin/sh", "-c", '. "$0"']):
            printed = program(*words, given["secret"])
            refused = any(word in printed for word in ("No such file", "denied", "can't open", "cannot open", "not found"))
            expect(refused, "EACCES" if "denied" in printed else "ENOENT", f"{words[0]} said {printed[-120:]}")
        os.environ["LD_PRELOAD"] = given["secret"]
        printed = program("/bin/sh", "-c", "echo began")
        expect("invalid ELF" not in printed and "too short" not in printed, "ENOENT", "the loader opened it: " + printed)
        """,
    ),
    _files(
        name="read-by-working-directory-of-a-descriptor",
        tries="to find an open folder of the host among the descriptors, and to climb from there (runc, CVE-2024-21626)",
        expected=_NOT_READ,
        layers=(Layer.CLOSED_DESCRIPTORS, Layer.PRIVATE_ROOT, Layer.LANDLOCK),
        signs={**PATH_SIGNS, "ENOTDIR": (Layer.CLOSED_DESCRIPTORS,)},
        code="""
        for number in descriptors():
            for path in (given["secret"].lstrip("/"), "../" * 40 + given["secret"].lstrip("/")):
                try:
                    opened = os.open(path, os.O_RDONLY, dir_fd=number)
                except OSError as error:
                    held(name_of(error), f"from descriptor {number}")
                else:
                    through(f"read from descriptor {number}: {os.read(opened, 100)!r}")
        """,
    ),
    _files(
        name="read-what-was-left-open",
        tries="to read files that the server had open when it started the sandbox",
        expected="no descriptor of the server is open in the sandbox",
        layers=(Layer.CLOSED_DESCRIPTORS,),
        signs={"none": (Layer.CLOSED_DESCRIPTORS,)},
        code="""
        import stat
        for number in descriptors():
            kind = os.fstat(number).st_mode
            if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
                try:
                    content = os.pread(number, 100, 0)
                except OSError as error:
                    content = name_of(error)
                through(f"descriptor {number} is {os.readlink(f'/proc/self/fd/{number}')}: {content!r}")
        held("none", "files among the descriptors")
        """,
    ),
    _files(
        name="read-passwords",
        tries="to read the host's password hashes",
        expected=_NOT_READ,
        code="""
        for path in ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/shadow-", "/../etc/shadow"):
            try:
                size = len(read(path))
            except OSError as error:
                held(name_of(error), path)
            else:
                through(f"{size} characters of {path}")
        """,
    ),
    _files(
        name="read-keys-and-histories",
        tries="to list home folders and to read keys, tokens and histories of shells",
        expected="no home folder of the host is listed, no such file is read",
        code="""
        import glob, pwd
        people = [entry for entry in pwd.getpwall() if entry.pw_uid == 0 or 1000 <= entry.pw_uid < 60000]
        homes = {"/root", "/home", *(entry.pw_dir for entry in people)}
        for home in sorted(homes - {"/", "/tmp", "/nonexistent", os.environ["HOME"], os.path.expanduser("~")}):
            for name in ("", ".ssh", ".bash_history", ".aws/credentials", ".netrc", ".pypirc", ".config"):
                path = os.path.join(home, name)
                try:
                    os.listdir(path) if os.path.isdir(path) else open(path).close()
                except OSError as error:
                    held(name_of(error), path)
                else:
                    through(path)
        """,
    ),
    _files(
        name="read-service-credentials",
        tries="to read credentials that orchestrators put beside a server: of Kubernetes, systemd, Docker, the cloud",
        expected=_NOT_READ,
        code="""
        for path in ("/var/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets", "/run/credentials",
                     "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private",
                     "/var/lib/cloud/instance/user-data.txt", "/etc/kubernetes/admin.conf", "/proc/1/environ"):
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError as error:
                expect(error.errno != errno.ENXIO, name_of(error), path)
            else:
                through(f"opened {path}")
        """,
    ),
    _files(
        name="list-folders",
        tries="to list the host's folders",
        expected="no folder of the host is listed but Python's, the environment's and the programs'",
        code="""
        for path in ("/root", "/home", "/var", "/var/log", "/srv", "/boot", "/sys", "/run", "/.old", "/var/tmp",
                     "/etc/ssh", "/etc/ssl/private", given["folder"], os.path.dirname(given["folder"])):
            attempt(f"listing {path}", os.listdir, path)
        """,
    ),
    _files(
        name="change-content",
        tries="to overwrite, append to, and cut off a file that everybody may write",
        expected=_NOT_CHANGED,
        code="""
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC, os.O_RDWR):
            attempt("opening to write", lambda: os.write(os.open(given["secret"], flags), b"x"))
        attempt("truncate", os.truncate, given["secret"], 0)
        works(lambda: os.open(given["secret"], os.O_RDONLY | os.O_TRUNC))
        """,
    ),
    _files(
        name="change-mode-owner-and-times",
        tries="to change mode, owner and times of a file that it may not open, which Landlock does not hold",
        expected=_NOT_CHANGED,
        layers=(Layer.PRIVATE_ROOT, Layer.SECCOMP),
        signs={**PATH_SIGNS, "EACCES": ("file modes",), "unchanged": (Layer.SECCOMP, "another user")},
        code="""
        path = given["secret"]
        calls = {"chmod": (os.chmod, path, 0o600), "utime": (os.utime, path, (1, 1)),
                 "chown": (os.chown, path, os.getuid(), os.getgid()), "lchown": (os.lchown, path, os.getuid(), -1)}
        for name, (each, *arguments) in calls.items():
            try:
                before = os.stat(path)
                each(*arguments)
                after = os.stat(path)
            except OSError as error:
                held(name_of(error), name)
            else:
                same = [getattr(before, key) == getattr(after, key) for key in ("st_mode", "st_mtime", "st_uid", "st_gid")]
                expect(all(same), "unchanged", name)
        """,
    ),
    _files(
        name="change-extended-attributes",
        tries="to write extended attributes of the host's file and of its folder",
        expected="none is written",
        layers=(Layer.SECCOMP, Layer.PRIVATE_ROOT),
        signs={**PATH_SIGNS, "ENOTSUP": (Layer.SECCOMP, "the file system")},
        code="""
        for path in (given["secret"], given["folder"]):
            attempt("setxattr", os.setxattr, path, "user.bichat", b"x")
        """,
    ),
    _files(
        name="delete",
        tries="to delete the file, its folder's other names, and the folder",
        expected=_NOT_CHANGED,
        code="""
        attempt("unlink", os.unlink, given["secret"])
        attempt("unlink of a socket", os.unlink, given["socket"])
        attempt("rmdir", os.rmdir, given["folder"])
        """,
    ),
    _files(
        name="plant-beside",
        tries="to make a file, a folder, a link, a FIFO in a folder that everybody may write",
        expected=_NOTHING_MADE,
        code="""
        place = given["folder"] + "/planted"
        attempt("a file", lambda: os.close(os.open(place, os.O_WRONLY | os.O_CREAT)))
        attempt("a folder", os.mkdir, place + "d")
        attempt("a link", os.symlink, "/etc/passwd", place + "l")
        attempt("a FIFO", os.mkfifo, place + "f")
        attempt("a socket", os.mknod, place + "s", 0o140600)
        """,
    ),
    _files(
        name="plant-in-temporary-folders",
        tries="to leave a file where the host's programs look: /var/tmp, /run, /var/spool/cron, /dev/shm",
        expected="no file appears on the host",
        code="""
        for folder in ("/var/tmp", "/run", "/run/lock", "/var/spool/cron", "/var/spool/cron/crontabs", "/var/crash"):
            place = os.path.join(folder, given["planted"])
            attempt(place, lambda: os.close(os.open(place, os.O_WRONLY | os.O_CREAT)))
            works(os.unlink, place)
        """,
    ),
    _files(
        name="plant-in-system-folders",
        tries="to make files among the system's programs, libraries and settings",
        expected=_NOTHING_MADE,
        code="""
        for folder in ("/", "/etc", "/etc/cron.d", "/etc/ld.so.conf.d", "/usr", "/usr/bin", "/usr/local/bin",
                       "/usr/lib", "/bin", "/lib", "/dev", "/mnt", "/opt", "/root", "/home"):
            place = os.path.join(folder, given["planted"])
            attempt(place, lambda: os.close(os.open(place, os.O_WRONLY | os.O_CREAT)))
            works(os.unlink, place)
        """,
    ),
    _files(
        name="change-the-environment",
        tries="to plant modules that the next session or the server would import: in the environment, in Python",
        expected="neither the environment nor its Python changes",
        code="""
        import site, sysconfig
        folders = {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), sysconfig.get_path("purelib"),
                   os.path.join(os.path.dirname(os.__file__), "site-packages"), os.path.dirname(python)}
        for folder in sorted(folders):
            for name in (given["planted"] + ".py", given["planted"] + ".pth", "__pycache__/" + given["planted"] + ".pyc"):
                place = os.path.join(folder, name)
                attempt(place, lambda: os.close(os.open(place, os.O_WRONLY | os.O_CREAT)))
                works(os.unlink, place)
        attempt("a module of Python's own", open, os.__file__, "r+")
        """,
    ),
    _files(
        name="overwrite-the-interpreter",
        tries="to write to the program that runs, by /proc/self/exe (runc, CVE-2019-5736)",
        expected="the interpreter cannot be opened to be written",
        code="""
        for path in ("/proc/self/exe", os.path.realpath(python), "/bin/sh", "/proc/1/exe"):
            try:
                os.close(os.open(path, os.O_WRONLY))
            except OSError as error:
                expect(error.errno != errno.ETXTBSY, name_of(error), path)
            else:
                through(f"opened {path} to write")
        """,
    ),
    _files(
        name="make-a-device",
        tries="to make a device in the own folder and to open it: the disks, the memory, /dev/zero",
        expected="no device is made, or none that can be opened",
        layers=(Layer.SECCOMP, Layer.NO_CAPABILITIES, Layer.LANDLOCK),
        code="""
        for name, kind, number in (("zero", 0o20000, (1, 5)), ("memory", 0o20000, (1, 1)), ("disk", 0o60000, (8, 0)),
                                   ("vda", 0o60000, (254, 0))):
            try:
                os.mknod(name, kind | 0o666, os.makedev(*number))
            except OSError as error:
                held(name_of(error), name)
                continue
            attempt(f"opening the device {name}", os.open, name, os.O_RDONLY)
            os.unlink(name)
        """,
    ),
    _files(
        name="open-disks-and-memory",
        tries="to open the host's disks, memory and kernel log",
        expected="no such device is opened",
        code="""
        for name in ("sda", "vda", "nvme0n1", "dm-0", "loop0", "loop-control", "mem", "kmem", "port", "kmsg", "sg0"):
            attempt(name, lambda: os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK)))
        """,
    ),
    _files(
        name="open-terminals-and-drivers",
        tries="to open terminals and drivers with a large surface: kvm, fuse, tun, dri, uinput, vsock, userfaultfd",
        expected="no such device is opened",
        code="""
        for name in ("tty", "tty0", "tty1", "console", "ptmx", "pts/ptmx", "pts/0", "kvm", "fuse", "net/tun", "vhost-net",
                     "vsock", "vhost-vsock", "dri/card0", "input/event0", "uinput", "snapshot", "userfaultfd", "bus/usb"):
            attempt(name, lambda: os.close(os.open(f"/dev/{name}", os.O_RDWR | os.O_NONBLOCK)))
        """,
    ),
    _files(
        name="change-the-root",
        tries="to leave by chroot: into a folder, and out of it with ..",
        expected="no other root is had",
        layers=(Layer.SECCOMP, Layer.NO_CAPABILITIES),
        signs={"EPERM": (Layer.NO_CAPABILITIES,)},
        code="""
        os.mkdir("root")
        if kernel("chroot", b"root\\0") == 0:
            for _ in range(40):
                os.chdir("..")
            os.chroot(".")
            steal(given["secret"])
        """,
    ),
    _files(
        name="watch-files-of-others",
        tries="to be told what others do with the files that all see: inotify, dnotify, leases, fanotify",
        expected="no notice, and nobody waits for a lease",
        layers=(Layer.SECCOMP,),
        signs={**PATH_SIGNS, "EAGAIN": ("somebody has it open to write",)},
        code="""
        import fcntl
        number = os.open(os.__file__, os.O_RDONLY)
        folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
        attempt("a lease", fcntl.fcntl, number, 1024, 0)
        attempt("dnotify", fcntl.fcntl, folder, 1026, 1)
        if "inotify_init1" in given["calls"]:
            kernel("inotify_init1", 0)
        kernel("fanotify_init", 0, 0)
        """,
    ),
)
