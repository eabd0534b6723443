"""Attacks on the next session, and on another tenant's: to leave something for it, or to find what it left.

What a session has left, the next one looks for: both in fresh sandboxes of one zygote, as all sessions are.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from bichat.attacks.attack import Attack, Family, Statement, expect
from bichat.attacks.ground import Ground
from bichat.sandbox.isolation.layers import Layer

_LISTING: Final = "os.write(1, json.dumps({'names': sorted(os.listdir('.'))}).encode() + b'\\n')"
_PARTS: Final = "\n#: next session\n"


async def _one_after_the_other(ground: Ground, attack: Attack) -> list[Statement]:
    """Both halves of the code, each in a sandbox of its own."""
    first, second = attack.code.split(_PARTS)
    left = await ground.run(first, limits=attack.limits)
    found = await ground.run(second, limits=attack.limits, given={"left": left.fact("left")})
    return [said for said in left.statements if said.sign] + found.judged(attack)


async def _beside_each_other(ground: Ground, attack: Attack) -> list[Statement]:
    """The second half runs while the first one's sandbox lives, with all that it has started."""
    first, second = attack.code.split(_PARTS)
    async with ground.sandbox(attack.limits) as standing:
        left = await ground.run_in(standing, first, limits=attack.limits)
        before = await ground.run_in(standing, _LISTING, limits=attack.limits)
        found = await ground.run(second, limits=attack.limits, given={"left": left.fact("left")})
        after = await ground.run_in(standing, _LISTING, limits=attack.limits)
    names = before.fact("names"), after.fact("names")
    unharmed = names[0] is not None and names[0] == names[1]
    return [
        *found.judged(attack),
        expect(unharmed, "fresh sandbox", f"the other session's files, before and after: {names}"),
    ]


async def _after_a_kill(ground: Ground, attack: Attack) -> list[Statement]:
    """The first one's sandbox is killed in the middle, as at a timeout."""
    return await _one_after_the_other(ground, attack)


async def _differs(ground: Ground, attack: Attack) -> list[Statement]:
    """What the code prints as `drawn` is another thing in each of three sandboxes."""
    drawn = [(await ground.run(attack.code, limits=attack.limits)).fact("drawn") for _ in range(3)]
    pairs = [(one, other) for at, one in enumerate(drawn) for other in drawn[at + 1 :]]
    same = [value for one, other in pairs for value in one if value in other] if all(drawn) else ["nothing was drawn"]
    return [expect(not same, "fresh sandbox", f"drawn twice: {same or 'nothing'}")]


async def _after_a_restart(ground: Ground, attack: Attack) -> list[Statement]:
    """The second half runs in the same session after its restart."""
    first, second = attack.code.split(_PARTS)
    async with ground.sandbox(attack.limits) as sandbox:
        left = await ground.run_in(sandbox, first, limits=attack.limits)
        sandbox.begin_restart()
        await sandbox.finish_restart()
        found = await ground.run_in(sandbox, second, limits=attack.limits, given={"left": left.fact("left")})
    return found.judged(attack)


async def _never_used_twice(ground: Ground, attack: Attack) -> list[Statement]:
    """Many sessions one after the other, each of which marks all that it can: none finds a mark."""
    found: list[object] = []
    for number in range(8):
        ran = await ground.run(attack.code, limits=attack.limits, given={"number": number})
        found.append(ran.fact("found"))
    return [expect(found == [[]] * 8, "fresh sandbox", f"marks found in eight sessions: {found}")]


async def _server_marked(ground: Ground, attack: Attack) -> list[Statement]:
    """What sessions leave must not be in the server either: its variables, its folder."""
    before = dict(os.environ), os.getcwd(), os.umask(0o22)
    os.umask(before[2])
    await ground.run(attack.code, limits=attack.limits)
    umask = os.umask(0o22)
    os.umask(umask)
    after = dict(os.environ), os.getcwd(), umask
    return [expect(before == after, "supervisor", "variables, folder and umask of the server")]


_persistence = partial(
    Attack,
    family=Family.PERSISTENCE,
    driver=_one_after_the_other,
    expected="the next session finds nothing of it",
    layers=(Layer.MOUNT_NAMESPACE, Layer.LANDLOCK),
    signs={
        "nothing": ("a fresh sandbox for each session",),
        "ENOENT": ("a fresh sandbox for each session",),
        "EACCES": (Layer.LANDLOCK, "file modes"),
        "EROFS": (Layer.PRIVATE_ROOT,),
        "EPERM": (Layer.SECCOMP, Layer.LANDLOCK),
        "ESRCH": (Layer.PID_NAMESPACE, "tear-down"),
    },
)
_beside = partial(_persistence, driver=_beside_each_other, expected="the other session sees and harms nothing of it")

#: Tells the second half where the first one was, as an accomplice would.
_LEAVE: Final = """
import tempfile
own = os.path.abspath(".")
def tell(left):
    os.write(1, json.dumps({"left": left}).encode() + b"\\n")
"""

ATTACKS: Final = (
    _persistence(
        name="files-left-behind",
        tries="to leave files for the next session in every folder that can be written",
        code=_LEAVE
        + """
places = []
for folder in (own, tempfile.gettempdir(), os.environ["HOME"], "/dev/shm", "/var/tmp", "/run/lock"):
    place = os.path.join(folder, given["planted"])
    if works(lambda: open(place, "w").write("left")):
        places.append(place)
tell(places)
"""
        + _PARTS
        + """
import tempfile
for place in [*given["left"], *(os.path.join(each, given["planted"]) for each in (".", tempfile.gettempdir(), "/dev/shm"))]:
    try:
        found = read(place)
    except OSError as error:
        held(name_of(error), place)
    else:
        through(f"{place} says {found}")
expect(not os.listdir("."), "nothing", f"the folder holds {os.listdir('.')}")
""",
    ),
    _persistence(
        name="code-left-behind",
        tries="to have the next session run code: start-up files of Python and shells, byte code, .pth files",
        code=_LEAVE
        + """
import site
places = []
mark = "import os; os.environ['PLANTED'] = '1'\\n"
for place in (site.getusersitecustomize() if hasattr(site, "getusersitecustomize") else "~/usercustomize.py",
              os.path.join(site.getusersitepackages(), "usercustomize.py"), os.path.join(site.getusersitepackages(), "x.pth"),
              "~/.pythonrc.py", "~/.bashrc", "~/.profile", "~/.config/matplotlib/matplotlibrc", "~/.ipython/profile_default/startup/00.py",
              "sitecustomize.py", "json.py", os.path.join(os.path.dirname(os.__file__), "sitecustomize.py")):
    place = os.path.expanduser(place)
    works(os.makedirs, os.path.dirname(place), exist_ok=True)
    if works(lambda: open(place, "w").write(mark)):
        places.append(os.path.abspath(place))
tell(places)
"""
        + _PARTS
        + """
expect("PLANTED" not in os.environ, "nothing", "code of the last session has run")
expect("PLANTED" not in program("/bin/sh", "-lc", "env"), "nothing", "a shell has run it")
for place in given["left"]:
    expect(not works(os.stat, place), "nothing", f"{place} is there")
""",
    ),
    _persistence(
        name="variables-left-behind",
        tries="to change modules, builtins and variables for the next session (Cloudflare's sandbox-sdk, #235)",
        code=_LEAVE
        + """
import builtins, json as changed, signal, sys
builtins.left = changed.left = sys.left = 1
os.environ["LEFT"] = "1"
json.dumps.__kwdefaults__["indent"] = 7
sys.path.insert(0, "/left")
works(os.umask, 0)
works(os.nice, 1)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
os.write(1, b'{"left": 1}\\n')
"""
        + _PARTS
        + """
import builtins, signal, sys
found = [name for name, there in {
    "builtins": hasattr(builtins, "left"), "json": hasattr(json, "left"), "sys": hasattr(sys, "left"),
    "environment": "LEFT" in os.environ, "defaults": json.dumps.__kwdefaults__["indent"] == 7, "path": "/left" in sys.path,
    "signals": signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN}.items() if there]
expect(not found, "nothing", f"left in {found}")
""",
    ),
    _persistence(
        name="processes-left-behind",
        tries="to leave a process that the next session meets, which has left its parent, group and session",
        code=_LEAVE
        + """
import time
if os.fork() == 0:
    works(os.setsid)
    if os.fork() == 0:
        _libc.prctl(15, b"left-behind", 0, 0, 0)
        time.sleep(60)
    os._exit(0)
os.wait()
tell(os.getpid())
"""
        + _PARTS
        + """
seen = [pid for pid in strangers() if "left-behind" in status_field("Name", pid)]
expect(not seen, "nothing", f"processes of the last session: {seen}")
for pid in range(max(2, given["left"] - 5), given["left"] + 20):
    if pid != os.getpid() and works(os.kill, pid, 0):
        through(f"process {pid} can be signalled")
""",
        layers=(Layer.PID_NAMESPACE,),
    ),
    _persistence(
        name="shared-memory-left-behind",
        tries="to leave memory, semaphores and queues that are found by number or name",
        layers=(Layer.SECCOMP, Layer.IPC_NAMESPACE),
        code=_LEAVE
        + """
name = given["planted"].encode() + b"\\0"
made = [call("shmget", given["key"], 4096, 0o1666)[0], call("msgget", given["key"], 0o1666)[0], call("mq_open", name, 0o102, 0o666, None)[0]]
works(lambda: open(f"/dev/shm/{given['planted']}-left", "w").write("left"))
tell(made)
"""
        + _PARTS
        + """
own = given["planted"].encode() + b"\\0"
for name, arguments in {"shmget": (given["key"], 4096, 0o666), "msgget": (given["key"], 0o666), "mq_open": (own, 0, 0, None)}.items():
    returned, error = call(name, *arguments)
    if not error and name != "mq_open":
        call({"shmget": "shmctl", "msgget": "msgctl"}[name], returned, 0, None)
    say("held" if error else "got through", error, name, [name, [each if isinstance(each, int) else 0 for each in arguments]])
place = f"/dev/shm/{given['planted']}-left"
expect(not os.path.exists(place), "nothing", place)
""",
    ),
    _persistence(
        name="keys-and-names-left-behind",
        tries="to leave keys, a host name, abstract names for the next session",
        layers=(Layer.SECCOMP, Layer.UTS_NAMESPACE, Layer.NET_NAMESPACE),
        code=_LEAVE
        + """
import socket
call("add_key", b"user\\0", b"left\\0", b"x", 1, -5)
bound = works(lambda: socket.socketpair()[0].bind("\\0left"))
tell(bound)
"""
        + _PARTS
        + """
returned, error = call("request_key", b"user\\0", b"left\\0", None, 0)
expect(bool(error), error, "the last session's key")
if "host_name" in given:
    held("nothing", "names") if os.uname().nodename != "left" else through("the host's name")
""",
    ),
    _persistence(
        name="after-a-kill",
        tries="to leave files and processes by being killed in the middle, when nobody cleans up",
        driver=_after_a_kill,
        code=_LEAVE
        + """
places = [os.path.join(folder, "left") for folder in (own, tempfile.gettempdir())]
for place in places:
    open(place, "w").write("left")
tell(places)
if os.fork() == 0:
    import time
    time.sleep(60)
os.kill(os.getpid(), 9)
"""
        + _PARTS
        + """
for place in given["left"]:
    try:
        found = read(place)
    except OSError as error:
        held(name_of(error), place)
    else:
        through(f"{place} says {found}")
""",
    ),
    _persistence(
        name="after-a-restart",
        tries="to live on through the restart of its own session, which promises a fresh interpreter",
        driver=_after_a_restart,
        expected="processes and variables are gone; files stay, as promised",
        layers=(Layer.PID_NAMESPACE,),
        code=_LEAVE
        + """
import builtins, time
builtins.left = 1
child = os.fork()
if child == 0:
    works(os.setsid)
    _libc.prctl(15, b"left-behind", 0, 0, 0)
    time.sleep(60)
tell(child)
"""
        + _PARTS
        + """
import builtins
expect(not hasattr(builtins, "left"), "nothing", "a builtin of the last interpreter")
seen = [pid for pid in {*strangers(), given["left"]} if "left-behind" in status_field("Name", pid)]
expect(not seen, "nothing", f"processes of the last interpreter: {seen}")
""",
    ),
    _persistence(
        name="marks-in-a-row-of-sessions",
        tries="to find a mark of any earlier session, in case sandboxes are used again after some time",
        driver=_never_used_twice,
        code="""
        import builtins, tempfile
        places = [".", tempfile.gettempdir(), os.environ["HOME"], "/dev/shm"]
        found = [place for place in places if works(os.stat, f"{place}/{given['planted']}-mark")]
        found += ["builtins"] if hasattr(builtins, "mark") else []
        found += ["environment"] if "BICHAT_ATTACK_MARK" in os.environ else []
        for place in places:
            works(lambda: open(f"{place}/{given['planted']}-mark", "w").close())
        builtins.mark, os.environ["BICHAT_ATTACK_MARK"] = 1, "1"
        os.write(1, json.dumps({"found": found}).encode() + b"\\n")
        """,
    ),
    _beside(
        name="files-of-a-living-session",
        tries="to read and change what another session has, which lives beside it, by all paths that lead there",
        code=_LEAVE
        + """
open("private", "w").write("private")
tell([own, tempfile.gettempdir(), os.getpid()])
"""
        + _PARTS
        + """
own, temporary, pid = given["left"]
for place in (own, temporary, f"/proc/{pid}/cwd", f"/proc/{pid}/root/mnt/data", "/proc/1/cwd", os.path.dirname(own)):
    try:
        found = os.listdir(place)
    except OSError as error:
        held(name_of(error), place)
    else:
        expect("private" not in found and (place != os.path.dirname(own) or len(found) < 2), "nothing", f"{place} holds {found}")
    works(lambda: open(os.path.join(place, "planted"), "w"))  # the other session's list of files tells
    try:
        found = read(os.path.join(place, "private"))
    except OSError as error:
        held(name_of(error), place)
    else:
        through(f"{place}/private says {found}")
""",
    ),
    _beside(
        name="processes-of-a-living-session",
        tries="to see, signal and trace the processes of another session that lives beside it",
        layers=(Layer.PID_NAMESPACE, Layer.LANDLOCK),
        code=_LEAVE
        + """
import time
child = os.fork()
if child == 0:
    _libc.prctl(15, b"left-behind", 0, 0, 0)
    time.sleep(30)
    os._exit(0)
tell([os.getpid(), child])
"""
        + _PARTS
        + """
seen = [pid for pid in {*strangers(), *given["left"]} if "left-behind" in status_field("Name", pid)]
expect(not seen, "nothing", f"processes of the other session: {seen}")
for pid in given["left"]:
    if pid == os.getpid():
        held("ESRCH", "the number is its own here")
        continue
    attempt(f"signal to {pid}", os.kill, pid, 0)
    attempt(f"memory of {pid}", lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY)))
""",
    ),
    _beside(
        name="signal-every-session",
        tries="to find any process of any other session by its number, whatever it is",
        layers=(Layer.PID_NAMESPACE, Layer.LANDLOCK),
        code=_LEAVE
        + """
tell(os.getpid())
"""
        + _PARTS
        + """
near = {pid for centre in (given["left"], os.getpid(), *given["pids"]) for pid in range(max(2, centre - 40), centre + 40)}
reached = [pid for pid in sorted(near - {os.getpid()}) if works(os.kill, pid, 0)]
expect(not reached, "ESRCH", f"processes that can be signalled: {reached}")
""",
    ),
    _persistence(
        name="predictable-randomness",
        tries="to predict another session's tokens, names and keys, for all are forked from one process",
        driver=_differs,
        layers=(),
        expected="every session draws its own",
        code="""
        import random, secrets, ssl, tempfile, uuid
        drawn = [random.random(), secrets.token_hex(), str(uuid.uuid4()), ssl.RAND_bytes(8).hex(),
                 next(tempfile._get_candidate_names()), os.urandom(8).hex(), random.SystemRandom().random()]
        os.write(1, json.dumps({"drawn": drawn}).encode() + b"\\n")
        """,
    ),
    _persistence(
        name="marks-on-the-server",
        tries="to change the server itself: its variables, its folder, its umask",
        driver=_server_marked,
        layers=(),
        expected="the server is as it was",
        code="""
        os.environ["LEFT"] = "1"
        os.chdir("/")
        os.umask(0)
        """,
    ),
)
