"""`bichat run` as a person meets it: output, files, exit codes, errors in words."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest


def test_output_and_files_come_out_and_the_exit_code_is_zero(bichat):
    done = bichat("run", "-c", "print('hello'); open('a.txt', 'w').write('x' * 10);")

    assert done.returncode == 0
    assert done.stdout == b"hello\n"
    assert (bichat.folder / "bichat-output" / "a.txt").read_text() == "x" * 10
    assert b"a.txt" in done.stderr
    assert b"10 B" in done.stderr


def test_a_chart_comes_out_of_a_file_and_an_input_file(bichat):
    (bichat.folder / "sales.csv").write_text("region,amount\nN,1\nS,2\n")
    (bichat.folder / "chart.py").write_text(
        "import pandas as pd, matplotlib.pyplot as plt\n"
        "pd.read_csv('sales.csv').plot.bar(x='region')\n"
        "plt.savefig('chart.png')\n"
    )

    done = bichat("run", "chart.py", "--file", "sales.csv", "--output-dir", "out", "--json")

    result = json.loads(done.stdout)
    assert result["status"] == "completed"
    assert [(file["name"], file["mime_type"], file["path"]) for file in result["artifacts"]] == [
        ("chart.png", "image/png", "out/chart.png")
    ]
    assert (bichat.folder / "out" / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_system_calls_that_were_refused_are_named_with_what_to_do(bichat):
    code = "import socket, mmap\ntry: socket.socket()\nexcept OSError: pass\nmmap.mmap(-1, 4096)"

    done = bichat("run", "-c", code, "--explain-denials")
    as_json = bichat("run", "-c", code, "--explain-denials", "--json")

    assert done.returncode == as_json.returncode == 1
    assert b"socket(AF_INET)" in done.stderr
    assert b"--file" in done.stderr
    document = json.loads(as_json.stdout)
    assert document["status"] == "error"
    assert [(denial["call"], denial["error"], denial["times"]) for denial in document["denials"]] == [
        ("socket(AF_INET)", "EACCES", 1),
        ("mmap(0x21)", "EPERM", 1),
    ]


def test_where_no_system_call_was_refused_that_is_said(bichat):
    done = bichat("run", "-c", "print(1)", "--explain-denials")

    assert (done.returncode, done.stdout) == (0, b"1\n")
    assert b"no system call was refused" in done.stderr


def test_code_may_come_from_standard_input(bichat):
    done = bichat("run", "-", stdin=b"print(1 + 1)")

    assert (done.returncode, done.stdout) == (0, b"2\n")


def test_what_the_code_displays_stands_in_its_place_among_what_it_prints(bichat):
    code = "print('a', end=''); display({'b': 1}); print('c')\n'd' * 2"

    done = bichat("run", "-c", code)

    assert done.stdout == b"a\n{'b': 1}\nc\n'dd'\n"


def test_a_displayed_chart_is_a_file_and_a_displayed_frame_a_table(bichat):
    (bichat.folder / "both.py").write_text(
        "import matplotlib.pyplot as plt, pandas as pd\n"
        "plt.plot([1, 2])\n"
        "plt.show()\n"
        "pd.DataFrame({'region': ['N', 'S'], 'amount': [1.5, 20]})\n"
    )

    done = bichat("run", "both.py")

    assert done.stdout.decode().splitlines() == [
        "region   amount",
        "───────────────",
        "N           1.5",
        "S          20.0",
    ]
    assert b"figure-1.png" in done.stderr
    assert (bichat.folder / "bichat-output" / "figure-1.png").read_bytes().startswith(b"\x89PNG")


def test_the_json_has_what_was_displayed_without_the_images_bytes(bichat):
    code = "import matplotlib.pyplot as plt, pandas as pd\nplt.plot([1, 2])\nplt.show()\npd.DataFrame({'a': [1]})"

    done = bichat("run", "-c", code, "--json")

    result = json.loads(done.stdout)
    figure, table = result["results"]
    assert figure["artifact"] == "figure-1.png"
    assert "image/png" not in figure["data"]
    assert table["data"]["application/vnd.dataresource+json"]["data"] == [{"a": 1}]
    assert [(file["name"], file["source"]) for file in result["artifacts"]] == [("figure-1.png", "display")]


@pytest.mark.parametrize(
    "code, shown",
    [
        ("from IPython.display import Markdown; Markdown('# Sales')", "# Sales"),
        ("from IPython.display import JSON; JSON({'a': [1]})", '{\n  "a": [\n    1\n  ]\n}'),
        ("from IPython.display import Latex; Latex('$x^2$')", "$x^2$"),
        ("import sympy; sympy.Symbol('x') ** 2", "x**2"),
        ("import pandas as pd; pd.DataFrame()", "Empty DataFrame\nColumns: []\nIndex: []"),
        ("None", ""),
        ("5;", ""),
    ],
)
def test_other_values_are_shown_as_the_text_that_says_most(bichat, code, shown):
    done = bichat("run", "-c", code)

    assert done.stdout.decode().strip() == shown


def test_code_that_raises_exits_with_one_and_shows_the_users_lines_only(bichat):
    (bichat.folder / "broken.py").write_text("def f():\n    return 1 / 0\n\nf()\n")

    done = bichat("run", "broken.py")

    assert done.returncode == 1
    assert done.stderr.decode().startswith(
        'Traceback (most recent call last):\n  File "broken.py", line 4, in <module>\n    f()\n'
    )
    assert b"ZeroDivisionError: division by zero" in done.stderr
    assert b"bichat/sandbox" not in done.stderr


@pytest.mark.parametrize(
    "arguments, exit_code, status",
    [
        (("-c", "import sys; sys.exit(0)"), 0, "completed"),
        (("-c", "import sys; sys.exit(3)"), 1, "error"),
        (("-c", "while True: pass", "--timeout", "1"), 124, "timeout"),
        (("-c", "x = bytearray(2 << 30)", "--memory", "256m"), 137, "out_of_memory"),
        (("-c", "while True: print('y' * 1000)"), 137, "output_limit"),
        (("-c", "open('f', 'wb').write(bytes(1 << 20))"), 1, "disk_full"),
        (("-c", "import os; os.abort()"), 1, "killed"),
    ],
)
def test_the_exit_code_says_how_it_ended(bichat, arguments, exit_code, status):
    done = bichat("run", *arguments, "--json", variables={"BICHAT_DEFAULT_DISK_BYTES": "256k"})

    assert json.loads(done.stdout)["status"] == status
    assert done.returncode == exit_code


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), ("no code to run",)),
        (("a.py", "-c", "1"), ("both given",)),
        (("missing.py",), ("missing.py", "No such file")),
        (("-c", " \n"), ("no code to run",)),
        (("-c", "1", "--file", "missing.csv"), ("missing.csv",)),
        (("-c", "1", "--memory", "lots"), ("lots", "512m")),
        (("-c", "1", "--memory", "900g"), ("memory_bytes", "bound", "BICHAT_MAX_MEMORY_BYTES")),
        (("-c", "1", "--timeout", "1e9"), ("timeout_s", "BICHAT_MAX_TIMEOUT_S")),
        (("-c", "1", "--timeout", "-1"), ("timeout_s",)),
        (("-c", "1", "--environment", "nope"), ("nope", "data")),
        (("-c", "1", "--file", "/dev/zero"), ("zero",)),
    ],
)
def test_what_cannot_be_done_is_refused_in_words_with_exit_code_two(bichat, arguments, words):
    done = bichat("run", *arguments)

    said = done.stderr.decode()
    assert done.returncode == 2
    assert "Traceback" not in said
    for word in words:
        assert word in said
    assert not (bichat.folder / "bichat-output").exists()


def test_a_refusal_is_json_when_json_is_asked_for(bichat):
    done = bichat("run", "-c", "1", "--environment", "nope", "--json")

    error = json.loads(done.stdout)["error"]
    assert error["code"] == "not_found"
    assert error["remedy"]
    assert done.returncode == 2


def test_ten_megabytes_of_code_are_refused_before_anything_runs(bichat):
    (bichat.folder / "huge.py").write_bytes(b"x = 1\n" * 2_000_000)

    done = bichat("run", "huge.py")

    assert done.returncode == 2
    assert b"4.0 MiB" in done.stderr


def test_a_file_of_three_gigabytes_is_refused_before_it_is_copied(bichat):
    with (bichat.folder / "big.csv").open("wb") as file:
        file.truncate(3 << 30)

    done = bichat("run", "-c", "1", "--file", "big.csv")

    assert done.returncode == 2
    assert b"big.csv" in done.stderr
    assert b"1.0 GiB" in done.stderr


def test_code_with_a_nul_or_that_is_not_python_is_the_codes_own_error(bichat):
    nul = bichat("run", "-", stdin=b"print(1)\0")
    prose = bichat("run", "-c", "please draw a chart")

    assert (nul.returncode, prose.returncode) == (1, 1)
    assert b"null bytes" in nul.stderr
    assert b"SyntaxError" in prose.stderr


def test_a_file_that_is_not_text_is_refused(bichat):
    (bichat.folder / "x.py").write_bytes(b"\xff\xfe\x00")

    done = bichat("run", "x.py")

    assert done.returncode == 2
    assert b"UTF-8" in done.stderr


def test_output_that_a_result_does_not_hold_whole_is_shown_and_saved_whole(bichat):
    done = bichat("run", "-c", "print('x' * 3_000_000)")

    assert done.stdout == b"x" * 3_000_000 + b"\n"
    assert b"stdout.txt has all of it" in done.stderr
    assert (bichat.folder / "bichat-output" / "stdout.txt").stat().st_size == 3_000_001


@pytest.mark.parametrize(
    "code, variables, said, size",
    [
        ("open('stdout.txt', 'w').write('mine')", {}, b"stdout-2.txt has all of it", 3_000_001),
        ("", {"BICHAT_DEFAULT_ARTIFACT_BYTES": "2m"}, b"stdout.txt has its beginning", 2 << 20),
    ],
)
def test_what_is_said_of_output_that_was_cut_is_true(bichat, code, variables, said, size):
    done = bichat("run", "-c", f"{code}\nprint('x' * 3_000_000)", variables=variables)

    assert said in done.stderr
    name = said.split()[0].decode()
    assert (bichat.folder / "bichat-output" / name).stat().st_size == size


def test_awkward_output_survives_as_json(bichat):
    code = r"import os; os.write(1, b'\xff\x00\x1b]0;title\x07 \xe2\x82'); print('\ud800')"

    result = json.loads(bichat("run", "-c", code, "--json").stdout)

    assert result["stdout"] == "\\xff\x00\x1b]0;title\x07 \\xe2\\x82\\ud800\n"


def test_a_terminal_is_not_steered_by_what_code_prints(bichat):
    leader, follower = pty.openpty()
    command = [*bichat.command, "run", "-c", "print('\\x1b]0;owned\\x07\\x1b[2Jtext')"]
    done = subprocess.run(
        command,
        cwd=bichat.folder,
        stdout=follower,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        env=bichat.variables,
    )
    os.close(follower)
    shown = os.read(leader, 4096)
    os.close(leader)

    assert done.returncode == 0
    assert b"\x1b]0" not in shown
    assert b"text" in shown


def test_files_are_saved_inside_the_output_folder_whatever_they_are_called(bichat):
    code = r"""
import os
for name in (b'a\nb', b'..\\x', b'\xff.bin', b'CON', b'x' * 255, b'.bashrc'):
    with open(name, 'wb') as file:
        file.write(b'1')
os.symlink('/etc/passwd', 'link')
os.mkfifo('pipe')
"""
    before = sorted(path.name for path in bichat.folder.iterdir())

    done = bichat("run", "-c", code, "--output-dir", "out", "--json")

    result = json.loads(done.stdout)
    out = bichat.folder / "out"
    assert sorted(path.name for path in bichat.folder.iterdir()) == sorted([*before, "out"])
    assert len(result["artifacts"]) == 6
    for file in result["artifacts"]:
        assert (bichat.folder / file["path"]).resolve().is_relative_to(out.resolve())
    assert {refused["name"] for refused in result["refused"]} == {"link", "pipe"}


def test_a_link_in_the_output_folder_is_replaced_and_not_followed(bichat):
    target = bichat.folder / "precious.txt"
    target.write_text("precious")
    out = bichat.folder / "out"
    out.mkdir()
    (out / "a.txt").symlink_to(target)

    bichat("run", "-c", "open('a.txt', 'w').write('new')", "--output-dir", "out")

    assert target.read_text() == "precious"
    assert (out / "a.txt").read_text() == "new"


def test_files_run_in_order_in_one_session(bichat):
    (bichat.folder / "load.py").write_text("rows = [1, 2, 3]\nopen('rows.txt', 'w').write('3')\nprint('loaded')\n")
    (bichat.folder / "analyse.py").write_text("print(sum(rows), open('rows.txt').read())\n")

    done = bichat("run", "load.py", "analyse.py")

    assert (done.returncode, done.stdout) == (0, b"loaded\n6 3\n")
    assert (bichat.folder / "bichat-output" / "rows.txt").read_text() == "3"


def test_the_first_file_that_fails_is_the_last_that_runs(bichat):
    (bichat.folder / "first.py").write_text("open('made.txt', 'w').write('x')\nprint('one')\n")
    (bichat.folder / "second.py").write_text("import sys\nprint('two')\n1 / 0\n")
    (bichat.folder / "third.py").write_text("print('three')\n")

    done = bichat("run", "first.py", "second.py", "third.py")

    assert (done.returncode, done.stdout) == (1, b"one\ntwo\n")
    assert b'File "second.py", line 3' in done.stderr
    assert (bichat.folder / "bichat-output" / "made.txt").exists()


def test_what_has_not_run_after_a_file_that_failed_is_named(bichat):
    for name, code in (("a.py", "1/0"), ("b.py", "print('b')"), ("c.py", "print('c')")):
        (bichat.folder / name).write_text(code)

    done = bichat("run", "a.py", "b.py", "c.py")

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"not run any more: b.py, c.py" in done.stderr


def test_a_timeout_says_how_long_the_code_had(bichat):
    done = bichat("run", "-c", "import time; time.sleep(60)", "--timeout", "0.3")

    assert done.returncode == 124
    assert b"longer than 0.3 s" in done.stderr


def test_a_kill_in_one_of_several_files_gives_its_exit_code(bichat):
    (bichat.folder / "big.py").write_text("x = bytearray(2 << 30)\n")
    (bichat.folder / "never.py").write_text("print('never')\n")

    done = bichat("run", "big.py", "never.py", "--memory", "256m")

    assert (done.returncode, done.stdout) == (137, b"")


def test_the_last_of_several_files_ends_as_a_program_does(bichat):
    (bichat.folder / "a.py").write_text("import atexit\natexit.register(print, 'bye');\n")
    (bichat.folder / "b.py").write_text(
        "import threading, time\n"
        "def later():\n"
        "    time.sleep(0.2)\n"
        "    print('later')\n"
        "threading.Thread(target=later).start()\n"
        "print('now')\n"
    )

    done = bichat("run", "a.py", "b.py")

    assert (done.returncode, done.stdout) == (0, b"now\nlater\nbye\n")


def test_the_json_of_several_files_holds_a_result_for_each_that_ran(bichat):
    (bichat.folder / "a.py").write_text("print(1); open('a.txt', 'w').write('a')\n")
    (bichat.folder / "b.py").write_text("print(2); 1 / 0\n")
    (bichat.folder / "c.py").write_text("print(3)\n")

    done = bichat("run", "a.py", "b.py", "c.py", "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["status"] == "error"
    assert [(one["name"], one["status"], one["stdout"]) for one in document["executions"]] == [
        ("a.py", "completed", "1\n"),
        ("b.py", "error", "2\n"),
    ]
    assert document["executions"][0]["artifacts"][0]["path"] == "bichat-output/a.txt"


def test_standard_input_may_follow_a_file(bichat):
    (bichat.folder / "a.py").write_text("x = 20\n")

    done = bichat("run", "a.py", "-", stdin=b"print(x + 1)")

    assert (done.returncode, done.stdout) == (0, b"21\n")


def test_files_of_the_same_name_are_told_apart_in_tracebacks(bichat):
    for folder, code in (("one", "def f(): return 1 / 0\n"), ("two", "f()\n")):
        (bichat.folder / folder).mkdir()
        (bichat.folder / folder / "main.py").write_text(code)

    done = bichat("run", "one/main.py", "two/main.py")

    assert b'File "two/main.py", line 1, in <module>\n    f()' in done.stderr
    assert b'File "one/main.py", line 1, in f\n    def f(): return 1 / 0' in done.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("a.py", "missing.py"), ("missing.py", "No such file")),
        (("a.py", "a.py"), ("a.py is named twice",)),
        (("a.py", "./a.py"), ("./a.py is named twice",)),
        (("-", "-"), ("standard input is named twice",)),
        (("a.py", "folder"), ("folder", "Is a directory")),
        (("a.py", "bytes.py"), ("bytes.py is not UTF-8",)),
        (("a.py", "empty.py"), ("empty.py", "no code")),
        (("a.py", "b.py", "-c", "1"), ("both given",)),
    ],
)
def test_nothing_runs_when_one_of_several_files_cannot(bichat, arguments, words):
    (bichat.folder / "a.py").write_text("print('ran')\n")
    (bichat.folder / "b.py").write_text("print('ran')\n")
    (bichat.folder / "bytes.py").write_bytes(b"\xff\xfe")
    (bichat.folder / "empty.py").write_text("\n")
    (bichat.folder / "folder").mkdir()

    done = bichat("run", *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    for word in words:
        assert word in done.stderr.decode()


def test_a_file_that_may_not_be_read_is_refused(bichat):
    (bichat.folder / "secret.py").symlink_to("/proc/self/mem")

    done = bichat("run", "secret.py")

    assert done.returncode == 2
    assert b"secret.py cannot be read" in done.stderr


def test_timings_tell_each_stage(bichat):
    done = bichat("run", "-c", "1", "--timings")

    for stage in (b"sandbox ready", b"input files in", b"code run", b"files out", b"total"):
        assert stage in done.stderr


def test_the_servers_environment_does_not_reach_the_code(bichat):
    done = bichat("run", "-c", "import os; print(dict(os.environ))", variables={"MY_SECRET_TOKEN": "canary-5f2a"})

    assert done.returncode == 0
    assert b"canary-5f2a" not in done.stdout


def test_nothing_is_left_in_the_data_directory(bichat, data_dir: Path):
    bichat("run", "-c", "open('a.txt', 'w').write('x')")

    assert list((data_dir / "spool").iterdir()) == []
