"""What the server's own code never does: make objects of a guest's bytes, run text as code, start a shell.

Read from the source, so that a new module is met here; what guests run themselves is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bichat

ROOT = Path(bichat.__file__).parent
#: Run inside the sandbox, or by an environment's own Python, never by the server.
_GUESTS = (
    *("sandbox/guest", "sandbox/environments/bichat_site"),
    *("sandbox/environments/make_fonts.py", "sandbox/environments/preload.py"),
)
MODULES = [
    path for path in sorted(ROOT.rglob("*.py")) if not any(path.is_relative_to(ROOT / folder) for folder in _GUESTS)
]

#: Modules that make objects, and so run code, of bytes.
UNPICKLING = {
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "copyreg", "dbm", "yaml", "ruamel", "jsonpickle"),
    *(
        "dill",
        "cloudpickle",
        "joblib",
        "torch",
        "numpy",
        "pandas",
        "multiprocessing",
        "xmlrpc",
        "pydoc",
        "runpy",
        "code",
    ),
}
#: Calls that run text, by the names that they are called by.
RUNNING = {
    *("eval", "exec", "compile", "__import__", "execfile"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("anyio.run_process", "pandas.read_pickle", "numpy.load"),
}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_there_is_something_to_read(trees):
    assert {"interpreter.py", "sandbox/connection.py", "sandbox/results.py", "sandbox/zygote.py"} <= trees.keys()


def test_no_module_imports_what_makes_objects_of_bytes(trees):
    found = {
        (name, imported)
        for name, tree in trees.items()
        for imported in imports(tree)
        if imported.partition(".")[0] in UNPICKLING
    }

    assert found == set()


def test_no_module_runs_text_as_code(trees):
    found = {
        (name, ast.unparse(call.func))
        for name, tree in trees.items()
        for call in calls(tree)
        if ast.unparse(call.func) in RUNNING
    }

    assert found == set()


def test_no_program_is_started_by_a_shell(trees):
    found = {
        (name, ast.unparse(call))
        for name, tree in trees.items()
        for call in calls(tree)
        if any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)
    }

    assert found == set()
