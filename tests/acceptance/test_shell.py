"""`bichat shell` as a person meets it: keys in, what the terminal shows out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

import pytest

ROOT: Final = Path(__file__).parents[2]

#: What the line editor sends when it begins to read a cell and when it has read it.
_READS: Final = b"\x1b[?2004h"
_HAS_READ: Final = b"\x1b[?2004l"
_CTRL_C: Final = "\x03"
_CTRL_D: Final = "\x04"
_UP: Final = "\x1b[A"
#: Ctrl-C reaches the programs that a terminal controls.
_ON_ITS_TERMINAL: Final = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_BOLD: Final = re.compile("\x1b\\[[01]m")
#: A bound, never an assertion.
_WAIT_S: Final = 60.0


class Shell:
    """A `bichat shell` on a terminal of its own; what it shows is looked at from where the last look ended."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_ITS_TERMINAL, *command],
            cwd=folder,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**variables, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        )
        os.close(follower)
        self._unseen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._leader)

    def until(self, marker: bytes) -> str:
        """What is shown before `marker`, and wait for that."""
        deadline = time.monotonic() + _WAIT_S
        while marker not in self._unseen:
            if not select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))[0]:
                pytest.fail(f"no {marker!r} came, but {self._unseen!r}")
            try:
                self._unseen += os.read(self._leader, 1 << 16)
            except OSError:
                pytest.fail(f"the shell ended with {self.process.wait()} before {marker!r}: {self._unseen!r}")
        shown, _, self._unseen = self._unseen.partition(marker)
        return _BOLD.sub("", shown.decode()).replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        """Press `keys`."""
        os.write(self._leader, keys.encode())

    def shown(self) -> str:
        """What the cell shows that has been entered, once the next prompt is there."""
        self.until(_HAS_READ)
        return self.until(_READS)

    def paste(self, code: str) -> None:
        """Paste `code` and press Enter."""
        self.type(f"\x1b[200~{code}\x1b[201~\r")

    def cell(self, code: str) -> str:
        """What `code` shows, pasted and entered."""
        self.paste(code)
        return self.shown()

    def end(self) -> int:
        """The exit code, once the shell has ended by itself."""
        deadline = time.monotonic() + _WAIT_S
        with suppress(OSError):
            while select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))[0]:
                os.read(self._leader, 1 << 16)
        return self.process.wait(_WAIT_S)


@pytest.fixture(name="home")
def _home(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A data directory with the environments that are there and a history of its own."""
    home = tmp_path_factory.mktemp("home")
    (home / "environments").symlink_to(data_dir / "environments")
    return home


@pytest.fixture(name="open_shell")
def _open_shell(bichat, home: Path) -> Generator[Callable[..., Shell]]:
    """`open_shell(*options)`: one more shell in the test's folder, not yet at its first prompt."""
    with ExitStack() as shells:

        def open_shell(*options: str, **variables: str) -> Shell:
            variables = {**bichat.variables, "BICHAT_DATA_DIR": str(home), **variables}
            return shells.enter_context(Shell([*bichat.command, "shell", *options], bichat.folder, variables))

        yield open_shell


@pytest.fixture(name="shell")
def _shell(open_shell) -> Shell:
    """A shell at its first prompt."""
    shell = open_shell()
    shell.until(_READS)
    return shell


def test_variables_live_from_cell_to_cell(shell):
    shell.cell("x = 40")

    assert shell.cell("print(x + 2)") == "42\n"


def test_the_value_of_the_last_line_is_shown(shell):
    assert shell.cell("'a' + 'b'") == "'ab'\n"


def test_output_without_an_end_of_line_leaves_the_prompt_alone(shell):
    assert shell.cell("print('half', end='')") == "half\n"


def test_a_block_that_is_typed_runs_at_the_empty_line_after_it(shell):
    shell.type("for i in range(2):\rif i:\rprint('odd', i)\r\r")

    assert shell.shown() == "odd 1\n"


def test_a_statement_that_is_not_complete_goes_on_in_the_next_line(shell):
    shell.type("print(1 +\r1)\r")

    assert shell.shown() == "2\n"


def test_an_error_shows_the_lines_of_its_cell(shell):
    shell.cell("def f():\n    return 1 / 0\n")

    assert shell.cell("f()") == (
        "Traceback (most recent call last):\n"
        '  File "<cell 2>", line 1, in <module>\n'
        "    f()\n"
        '  File "<cell 1>", line 2, in f\n'
        "    return 1 / 0\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_ctrl_c_interrupts_the_code_and_keeps_the_variables(shell):
    shell.cell("x = 42")
    shell.paste("print('go' + 'ing')\nwhile True: pass")
    shell.until(b"going")
    shell.type(_CTRL_C)

    assert "KeyboardInterrupt" in shell.until(_READS)
    assert shell.cell("print(x)") == "42\n"


def test_ctrl_c_at_the_prompt_drops_what_was_typed(shell):
    shell.type("print('never')" + _CTRL_C)
    shell.shown()

    assert shell.cell("print('next')") == "next\n"


def test_code_that_catches_ctrl_c_is_ended_by_the_third(shell):
    shell.cell("x = 1; open('kept.txt', 'w').write('y')")
    shell.paste(
        "import time\n"
        "while True:\n"
        "    try:\n"
        "        print('again')\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    for _ in range(3):
        shell.until(b"again\r\n")
        shell.type(_CTRL_C)

    assert "variables are gone" in shell.until(_READS)
    assert "NameError" in shell.cell("x")
    assert shell.cell("print(open('kept.txt').read())") == "y\n"


def test_what_code_prints_cannot_steer_the_terminal(shell):
    shown = shell.cell(r"print('\x1b[2J\x1b]0;owned\x07text'); 'a\x9bb'; print('\u202efdp.exe')")

    assert shown == "\\x1b[2J\\x1b]0;owned\\x07text\n\\u202efdp.exe\n"


@pytest.mark.parametrize(
    "code",
    [
        r"raise ValueError('\x1b[2Jx')",
        r"import pandas; pandas.DataFrame({'\x1b[2Jx': ['\x1b[2J\nx']})",
        r"exec(r'class X: __repr__ = lambda self: chr(27) + \'[2Jx\''); X()",
        r"open('\x1b[2Jx', 'w').close()",
        r"import os; os.symlink('/', '\x1b[2Jx')",
    ],
)
def test_nothing_that_code_names_or_shows_steers_the_terminal(shell, code):
    shown = shell.cell(code)

    assert "x" in shown
    assert "\x1b[2J" not in shown


def test_a_progress_bar_is_shown_step_by_step(shell):
    assert shell.cell(r"print('\r 1%\r 2%', end='')") == "\n 1%\n 2%\n"


def test_images_are_saved_and_named(shell):
    shown = shell.cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.figure()\nplt.plot([2, 1]);")

    assert re.findall(r"^(\S+) .* -> (\S+)$", shown, re.MULTILINE) == [
        ("figure-1.png", "bichat-output/figure-1.png"),
        ("figure-2.png", "bichat-output/figure-2.png"),
    ]
    for number in (1, 2):
        assert (shell.folder / f"bichat-output/figure-{number}.png").read_bytes().startswith(b"\x89PNG")


def test_files_are_saved_when_they_change_and_only_then(shell):
    made = shell.cell("open('a.txt', 'w').write('one');")
    kept = shell.cell("open('a.txt').read();")
    changed = shell.cell("open('a.txt', 'w').write('two two');")

    assert made == "a.txt  3 B -> bichat-output/a.txt\n"
    assert kept == ""
    assert changed == "a.txt  7 B -> bichat-output/a.txt\n"
    assert (shell.folder / "bichat-output/a.txt").read_text() == "two two"


def test_what_cannot_be_saved_is_told_once(shell):
    first = shell.cell("import os; os.symlink('/etc/passwd', 'link')")
    second = shell.cell("1;")

    assert first.startswith("link  not saved: ")
    assert second == ""


def test_a_table_is_drawn_with_its_true_size(shell):
    shown = shell.cell(
        "import pandas as pd\npd.DataFrame({'region': ['North', 'South'] * 5000, 'amount': [1234.5, None] * 5000})"
    )

    lines = shown.splitlines()
    assert lines[0].split() == ["region", "amount"]
    assert [line.split() for line in lines[2:4]] == [["North", "1234.5"], ["South", "null"]]
    assert lines[-1] == "[10,000 rows x 2 columns]"
    assert len(lines) < 30


def test_a_wide_table_fits_the_terminal(shell):
    some = shell.cell("import pandas as pd\npd.DataFrame({f'column_{n:03}': [n] for n in range(50)})")
    many = shell.cell("pd.DataFrame({f'column_{n:03}': [n] for n in range(200)})")

    assert max(map(len, (some + many).splitlines())) <= 120
    assert re.fullmatch(r"column_000 .* … .* column_049\n.*\n.*\n\[1 rows x 50 columns\]\n", some)
    assert re.fullmatch(r"column_000 .* …\s*\n.*\n.*\n\[1 rows x 200 columns\]\n", many)


def test_input_files_are_there(bichat, open_shell):
    (bichat.folder / "sales.csv").write_text("a,b\n1,2\n")
    shell = open_shell("--file", "sales.csv")
    shell.until(_READS)

    assert shell.cell("print(open('sales.csv').read())") == "a,b\n1,2\n\n"


def test_more_files_are_put_in_by_name(shell):
    (shell.folder / "my sales.csv").write_text("a,b\n")
    (shell.folder / "other.csv").write_text("c,d\n")

    shown = shell.cell("%put 'my sales.csv' other.csv")

    assert shown == "bichat: my sales.csv is in /mnt/data\nbichat: other.csv is in /mnt/data\n"
    assert shell.cell("print(open('my sales.csv').read(), open('other.csv').read())") == "a,b\n c,d\n\n"


@pytest.mark.parametrize(
    "line, words",
    [
        ("%put", "no file is named"),
        ("%put missing.csv", "missing.csv"),
        ("%put 'open", "No closing quotation"),
        ("%put /dev/zero", "zero"),
    ],
)
def test_a_file_that_cannot_be_put_in_is_refused_in_words(shell, line, words):
    shown = shell.cell(line)

    assert shown.startswith("bichat: ")
    assert words in shown
    assert shell.cell("print('alive')") == "alive\n"


def test_a_restart_keeps_the_files(shell):
    shell.cell("x = 1; open('kept.txt', 'w').write('y')")

    assert "variables are gone" in shell.cell("%restart")
    assert shell.cell("print('x' in globals(), open('kept.txt').read())") == "False y\n"


@pytest.mark.parametrize(
    "code, status",
    [
        pytest.param("import os; os.kill(os.getpid(), 9)", "killed", id="by itself"),
        pytest.param("import time\nwhile True:\n    try: time.sleep(60)\n    except: pass\n", "timeout", id="deaf"),
        pytest.param(
            "import subprocess, sys\n"
            "hoard = [sys.executable, '-c', 'x = bytearray(150 << 20); input()']\n"
            "[subprocess.Popen(hoard, stdin=subprocess.PIPE) for _ in range(4)][0].wait()",
            "out_of_memory",
            id="greedy",
        ),
    ],
)
def test_a_session_that_ended_is_explained_and_followed_by_another(open_shell, code, status):
    shell = open_shell("--memory", "256m", "--timeout", "5", BICHAT_DEFAULT_GRACE_S="0.2")
    shell.until(_READS)
    shell.cell("x = 1; open('a.txt', 'w').write('first')")

    killed = shell.cell(code)
    after = shell.cell("print('x' in globals()); open('a.txt', 'w').write('second');")

    assert f"status {status}" in killed
    assert "the session has ended" in killed
    assert after.startswith("bichat: this is a new session: the variables of the last one are gone")
    assert "False\n" in after
    assert (shell.folder / "bichat-output/a.txt").read_text() == "first"
    assert (shell.folder / "bichat-output/session-2/a.txt").read_text() == "second"


def test_a_cell_at_its_timeout_is_interrupted_and_the_session_lives_on(open_shell):
    shell = open_shell("--timeout", "1")
    shell.until(_READS)
    shell.cell("x = 42")

    assert "status timeout" in shell.cell("while True: pass")
    assert shell.cell("print(x)") == "42\n"


def test_a_session_that_ended_between_two_cells_says_so_at_the_next(open_shell):
    shell = open_shell(BICHAT_MAX_LIFE_S="1")
    shell.until(_READS)
    shell.cell("x = 1")
    deadline = time.monotonic() + _WAIT_S
    shown = ""
    while "sessions live 1 s" not in shown and time.monotonic() < deadline:
        shown = shell.cell("print('x' in globals())")

    assert "this is a new session" in shown
    assert shown.endswith("False\n")


@pytest.mark.parametrize("keys", [_CTRL_D, "exit\r", "quit\r", "exit()\r", "quit()\r"])
def test_the_person_leaves(shell, keys):
    shell.type(keys)

    assert shell.end() == 0


def test_a_shell_may_be_left_while_its_session_is_still_opening(open_shell):
    shell = open_shell()
    shell.until(b"In [")
    shell.type(_CTRL_D)

    assert shell.end() == 0


def test_what_was_typed_comes_back_in_the_next_shell(home, open_shell):
    history = home / "shell_history"
    history.touch(mode=0o644)
    first = open_shell()
    first.until(_READS)
    first.cell("for i in range(2):\n    print('from before', i)\n")
    first.type(_CTRL_D)
    first.end()
    second = open_shell()
    second.until(_READS)

    second.type(_UP + "\r")

    assert second.shown() == "from before 0\nfrom before 1\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "options, words",
    [
        (("--environment", "nope"), "nope"),
        (("--memory", "900g"), "BICHAT_MAX_MEMORY_BYTES"),
        (("--file", "missing.csv"), "missing.csv"),
        (("--output-dir", "taken/x"), "taken"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_typed(bichat, open_shell, options, words):
    (bichat.folder / "taken").touch()
    shell = open_shell(*options)

    shell.until(words.encode())

    assert shell.end() == 2


def test_without_a_terminal_standard_input_is_one_program(bichat):
    done = bichat("shell", stdin=b"def f():\n    return 42\nprint(f())\nopen('a.txt', 'w').write('x')\n")

    assert (done.returncode, done.stdout) == (0, b"42\n1\n")
    assert (bichat.folder / "bichat-output" / "a.txt").exists()


def test_without_a_terminal_the_exit_code_is_the_programs(bichat):
    failed = bichat("shell", stdin=b"1 / 0")
    empty = bichat("shell", stdin=b"")

    assert (failed.returncode, empty.returncode) == (1, 2)
    assert b"no code to run" in empty.stderr


def test_the_session_in_the_documents_goes_as_it_is_written(bichat, open_shell):
    page = (ROOT / "docs" / "how-to" / "shell.md").read_text(encoding="utf-8")
    transcript = "\n".join(re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    (bichat.folder / "budget.csv").touch()
    (bichat.folder / "last year.csv").touch()
    shell = open_shell("--file", str(ROOT / "examples" / "data" / "sales.csv"))
    shell.until(_READS)

    for cell in re.split(r"^In \[\d+\]: ", transcript, flags=re.MULTILINE)[1:]:
        first, *rest = cell.rstrip().split("\n")
        typed = [line.removeprefix("   ...:").removeprefix(" ") for line in rest if line.startswith("   ...:")]
        written = "".join(f"{line}\n" for line in rest if not line.startswith("   ...:"))

        assert _without_sizes(shell.cell("\n".join([first, *typed]))) == _without_sizes(written)


def _without_sizes(text: str) -> str:
    return re.sub(r"  [\d.]+ (B|KiB) ->", " ->", text)
