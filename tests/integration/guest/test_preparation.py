"""What is done before the first cell: quick, and without a trace."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]


def test_the_warm_up_leaves_nothing_in_the_namespace(run):
    result = run(
        "names = [name for name in globals() if not name.startswith('_')]\n"
        "print(sorted(names), len(In), Out, get_ipython().execution_count, get_ipython().last_execution_result)"
    )

    assert result.stdout == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit'] 2 {} 2 None\n"


def test_the_warm_up_leaves_no_figure_and_no_setting(run):
    result = run(
        "import matplotlib\nimport matplotlib.pyplot as plt\n"
        "changed = [key for key in matplotlib.rcParams if matplotlib.rcParams[key] != matplotlib.rcParamsDefault[key]]\n"
        "print(plt.get_fignums(), plt.figure().number, changed)\nplt.close()"
    )

    assert result.stdout == "[] 1 ['interactive']\n"


def test_there_is_one_thread_and_no_file_of_ours(run):
    result = run("import os, threading\nprint(len(os.listdir('/proc/self/task')), os.listdir('.'))")

    assert result.stdout == "1 []\n"


def test_each_session_has_randomness_of_its_own(run_script):
    code = "import random, numpy\nprint(random.random(), numpy.random.rand(), numpy.random.default_rng().random())"
    first, second = run_script(code).stdout.split(), run_script(code).stdout.split()

    assert not set(first) & set(second)


def test_variables_reach_the_interpreter(portal, interpreter):
    async def zone():
        async with interpreter.session(variables={"TZ": "Asia/Tokyo", "GREETING": "hi"}) as session:
            return (
                await session.run("import os, time\nprint(os.environ['GREETING'], time.localtime(0).tm_hour)")
            ).stdout

    assert portal.call(zone) == "hi 9\n"
