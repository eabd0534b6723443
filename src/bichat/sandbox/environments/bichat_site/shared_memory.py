"""Semaphores and shared memory for processes that may not use `/dev/shm`, which other people's processes use too.

multiprocessing and joblib make named semaphores and memory there.  Where it is closed, a semaphore is an eventfd, which
children inherit, and shared memory is a file in the folder for temporary files.  There `/proc` is closed to children
too, where joblib's workers look up how much memory they have: they do without.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import sys
import tempfile
import threading
import time

_SEMAPHORES = "_multiprocessing"
_MEMORY = "_posixshmem"
_RECURSIVE = 0
_FOLDER = "/dev/shm"  # noqa: S108  # whose being closed is the question


def is_needed():
    """Whether this process may not look into `/dev/shm`."""
    try:
        os.close(os.open(_FOLDER, os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        return True
    return False


def load(module, execute):
    """Run a module that is about to use semaphores, shared memory or a heap in it."""
    if is_needed():
        _replace()
        execute()
        _finish(module)
    else:
        execute()


def stand_in(modules):
    """The same for a process that was forked after such modules had been imported."""
    if not is_needed():
        return
    _replace()
    for name in ("multiprocessing.heap", "joblib.externals.loky.process_executor"):
        if name in modules:
            _finish(modules[name])


def _replace():
    semaphores = importlib.import_module(_SEMAPHORES)
    semaphores.SemLock = Semaphore
    semaphores.sem_unlink = _forget
    for name in ("multiprocessing.synchronize", "joblib.externals.loky.backend.synchronize"):
        _point_to(name)
    memory = importlib.import_module(_MEMORY)
    memory.shm_open, memory.shm_unlink = _open_memory, _unlink_memory


def _point_to(name):
    """Modules that have taken the names out of `_multiprocessing` already."""
    module = sys.modules.get(name)
    for taken, ours in (("_SemLock", Semaphore), ("sem_unlink", _forget)):
        if module is not None and hasattr(module, taken):
            setattr(module, taken, ours)


def _finish(module):
    arena = getattr(module, "Arena", None)
    if arena is not None and hasattr(arena, "_dir_candidates"):
        arena._dir_candidates = []
    if hasattr(module, "_USE_PSUTIL"):
        module._USE_PSUTIL = False


def _forget(_name):
    """An eventfd has no name that would have to go."""


def _open_memory(path, flags, mode=0o600):
    return os.open(_memory_path(path), flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)


def _unlink_memory(path):
    os.unlink(_memory_path(path))


def _memory_path(name):
    plain = name.lstrip("/")
    if not plain or "/" in plain:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return os.path.join(tempfile.gettempdir(), f"shm-{plain}")


class Semaphore:
    """What `_multiprocessing.SemLock` does, with an eventfd for the semaphore.

    Its value can be told in the process alone whose `/proc/self` is open: elsewhere NotImplementedError, as on systems
    without sem_getvalue.
    """

    SEM_VALUE_MAX = 2**31 - 1

    def __init__(self, kind, value, maxvalue, name, unlink=True):
        if kind not in (0, 1) or value < 0 or maxvalue < value:
            raise ValueError("unrecognized kind or value")
        self._start(kind, maxvalue, name, os.eventfd(value, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    @classmethod
    def _rebuild(cls, handle, kind, maxvalue, name):
        self = cls.__new__(cls)
        os.set_inheritable(handle, False)
        self._start(kind, maxvalue, name, handle)
        return self

    def _start(self, kind, maxvalue, name, descriptor):
        self.kind, self.maxvalue, self.name = kind, maxvalue, name
        self._descriptor = descriptor
        self._held = 0
        self._owner = None

    def __del__(self):
        os.close(self._descriptor)

    @property
    def handle(self):
        """The descriptor; while a process is being spawned, the number that it gets there."""
        from multiprocessing import context

        spawning = context.get_spawning_popen()
        return self._descriptor if spawning is None else spawning.duplicate_for_child(self._descriptor)

    def acquire(self, block=True, timeout=None):
        """Whether it was had, at once, or within `timeout` seconds if `block`."""
        if self.kind == _RECURSIVE and self._is_mine():
            self._held += 1
            return True
        deadline = None if timeout is None else time.monotonic() + max(timeout, 0)
        while not self._take():
            if not block or not self._wait(deadline):
                return False
        self._held += 1
        self._owner = threading.get_ident()
        return True

    def _take(self):
        try:
            os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return False
        return True

    def _wait(self, deadline):
        """Until somebody may have released it; whether there is time left."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poll.poll(left)) or deadline is None

    def release(self):
        """Give it back, or let one more in."""
        if self.kind == _RECURSIVE:
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._held > 1:
                self._held -= 1
                return
        elif self._is_full():
            raise ValueError("semaphore or lock released too many times")
        self._held -= 1
        os.eventfd_write(self._descriptor, 1)

    def _is_full(self):
        """Whether its value is the highest that it may have, as far as that can be told."""
        if self.maxvalue in (1, self.SEM_VALUE_MAX):
            return self.maxvalue == 1 and not self._is_zero()
        try:
            return self._get_value() >= self.maxvalue
        except NotImplementedError:
            return False

    def _count(self):
        return self._held

    def _is_mine(self):
        return self._held > 0 and self._owner == threading.get_ident()

    def _is_zero(self):
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    def _get_value(self):
        try:
            with open(f"/proc/self/fdinfo/{self._descriptor}", encoding="ascii") as file:
                for line in file:
                    if line.startswith("eventfd-count:"):
                        return int(line.split()[1], 16)
        except OSError:
            pass
        raise NotImplementedError("the value of a semaphore cannot be told here")

    def _after_fork(self):
        self._held = 0

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()
