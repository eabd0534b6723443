"""Common uses of each package of the environment `data`, written as a model writes them, inside the real sandbox.

The scripts lie in `packages/`; each reads back what it saved and prints facts about it.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest
from anyio.from_thread import start_blocking_portal

from bichat.domain import Artifact, ExecutionResult, Status
from bichat.interpreter import CodeInterpreter
from bichat.sandbox.environments import Environment, recipe
from bichat.sandbox.environments.recipe import required_names
from bichat.settings.settings import Settings

pytestmark = pytest.mark.sandbox

FOLDER: Final = Path(__file__).with_name("packages")
ENVIRONMENTS: Final = Path(recipe.__file__).parent
#: A thread that a fork has lost makes its library wait for ever: it ends here, as a timeout.
TIMEOUT_S: Final = 60

TYPES: Final = MappingProxyType(
    {
        "bmp": "image/bmp",
        "csv": "text/csv",
        "db": "application/vnd.sqlite3",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "duckdb": "application/x-duckdb",
        "feather": "application/vnd.apache.arrow.file",
        "gif": "image/gif",
        "gz": "application/gzip",
        "html": "text/html",
        "ipynb": "application/x-ipynb+json",
        "joblib": "application/x-pickle",
        "jpg": "image/jpeg",
        "json": "application/json",
        "npy": "application/x-npy",
        "npz": "application/x-npz",
        "parquet": "application/vnd.apache.parquet",
        "pdf": "application/pdf",
        "pkl": "application/x-pickle",
        "png": "image/png",
        "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "py": "text/x-python",
        "svg": "image/svg+xml",
        "tex": "application/x-tex",
        "tiff": "image/tiff",
        "txt": "text/plain",
        "webp": "image/webp",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xml": "application/xml",
        "zip": "application/zip",
    }
)
"""The type that a file is expected to have, by the ending of its name."""

NO_IMAGE: Final = (
    "RuntimeError plotly cannot make an image here, because there is no browser in this sandbox: "
    "save the interactive chart with fig.write_html('chart.html'), or draw the picture with matplotlib."
)


@dataclass(frozen=True, slots=True)
class Use:
    """One script and what comes out of it."""

    script: str
    files: str = ""
    """Names of the files that it leaves, with spaces between them."""
    says: tuple[str, ...] = ()
    """Pieces of its output, in their order."""
    types: dict[str, str] = field(default_factory=dict[str, str])
    """Types of files that their ending does not tell."""
    stderr: bool = False
    """Whether it writes to stderr; where not, a warning of any library is a failure."""


USES: Final = (
    Use("altair_charts", "chart.html chart.json chart.pdf chart.png chart.svg", ("done",)),
    Use("calamine_reading", "sales.xlsx", ("['Sales'] 241", "240")),
    Use("docx_report", "picture.png report.docx", ("Quarterly report 3 Юг",)),
    Use(
        "duckdb_sql",
        "large.parquet monthly.csv store.duckdb",
        ("(4, 2)", "(240,)", "[(12,)]", "(True,)", "True (1, 1)", "│ region  │ product │ units │"),
    ),
    Use("ipython_display", "line.png", ("shown",)),
    Use(
        "lxml_soup",
        "catalog.xml sales.xml",
        ("['Стол']", "Title /x 2", "Title /x 2", "['/x']", "[{'a': 1, 'b': 2}]", "3"),
    ),
    Use("matplotlib_charts", "charts.jpg charts.pdf charts.png charts.svg figure-1.png surface.png wave.gif"),
    Use("multiprocessing_pandas", "total.csv", ("pool True", "executor True", "threads True")),
    Use("nbformat_notebook", "analysis.ipynb", ("2",)),
    Use(
        "networkx_graphs",
        "graph.gexf graph.graphml graph.png",
        ("shortest [0, 8, 33]", "communities 3", "top 33", "read True"),
        {"graph.gexf": "text/plain", "graph.graphml": "text/plain"},
    ),
    Use("numpy_arrays", "both.npz matrix.npy values.csv", ("svd True", "solve True", "fft True", "(200,) (200, 200)")),
    Use("openpyxl_workbook", "logo.png workbook.xlsx", ("['Sales', 'Notes'] =SUM(B2:B4) 日本語 и русский",)),
    Use("pandas_plot", "by_region.png", ("| date       | region   |",)),
    Use(
        "pandas_tables",
        "head.html pivot.json report.xlsx sales.pkl summary.csv",
        ("['Summary', 'Pivot'] 12 True", "True"),
    ),
    Use("pillow_images", "blurred.jpg drawing.png gray.bmp page.tiff small.webp turning.gif", ("(320, 200) 3",)),
    Use(
        "plotly_charts",
        "both.html sales.html sales.json",
        (NO_IMAGE, NO_IMAGE, NO_IMAGE),
    ),
    Use(
        "polars_frames",
        "by_region.csv by_region.xlsx sales.json sales.parquet",
        ("shape: (4, 3)", "(3, 2)", "(12, 5)", "True (240, 5) (240, 5)", "240"),
    ),
    Use("pptx_slides", "deck.pptx", ("3 Sales 2025",)),
    Use(
        "pyarrow_files",
        "again.feather again.parquet parts/region=East/part-0.parquet parts/region=North/part-0.parquet "
        "parts/region=South/part-0.parquet parts/region=West/part-0.parquet sales.feather sales.parquet",
        ("240 True", "1 True", "60", "4 True"),
    ),
    Use("pypdf_pages", "a.pdf b.pdf locked.pdf merged.pdf", ("2 ['This is a', 'This is b'] Merged", "True True 2")),
    Use("reportlab_canvas", "invoice.pdf", ("saved",)),
    Use("reportlab_platypus", "chart.png report.pdf", ("saved",)),
    Use(
        "scipy_science",
        "matrix.npz",
        (
            "significant True",
            "minimum [1. 1. 1.]",
            "fit [3. 1.]",
            "integral 2.0",
            "peaks 3",
            "sparse 25.0",
            "clusters 2",
        ),
    ),
    Use("seaborn_charts", "bars.png boxes.png heatmap.png pairs.png regression.png", ("done",)),
    Use(
        "sklearn_models",
        "model.joblib",
        (
            "accuracy above 0.9: True",
            "folds 5",
            "r2 above 0.5: True",
            "clusters 3 (150, 2)",
            "saved model predicts: True",
        ),
    ),
    Use("sklearn_processes", "", ("processes [0, 1, 4, 9, 16]", "threads [0, 1, 4, 9, 16]", "scores 4")),
    Use(
        "sqlite_zip",
        "all.tar.gz all.zip regions.json rows.csv sales.db unpacked/note.txt unpacked/rows.csv",
        ("[60, 60, 60, 60]", "['rows.csv', 'note.txt'] -1 day, 20:00:00"),
    ),
    Use(
        "statsmodels_models",
        "decomposition.png ols.txt",
        ("OLS Regression Results", "r2 True", "logit True", "forecast 6", "smoothing 12"),
        stderr=True,
    ),
    Use("subprocess_python", "chart.png chart.py", ("drawn ''", "['{', '\"a\":', '1', '}']", "0", "3")),
    Use(
        "sympy_algebra",
        "formula.tex parabola.png",
        ("[2, 3]", "sqrt(pi)", "{x: 2, y: 1}", "3.14159265358979323846264338328", "16"),
    ),
    Use("tabulate_tqdm", "", ("| Region   |   Amount |", "499545 285"), stderr=True),
    Use("xlsxwriter_workbook", "direct.xlsx pandas.xlsx", ("240",)),
)

#: Those whose libraries start threads of their own, or are imported in another order without the preload.
WITHOUT_PRELOAD: Final = (
    "altair_charts",
    "duckdb_sql",
    "matplotlib_charts",
    "polars_frames",
    "reportlab_platypus",
    "statsmodels_models",
)

IMPORTED_AS: Final = MappingProxyType(
    {
        "scikit-learn": "sklearn",
        "vl-convert-python": "altair",
        "python-docx": "docx",
        "python-pptx": "pptx",
        "pillow": "PIL",
        "beautifulsoup4": "bs4",
        "ipython": "IPython",
        "uharfbuzz": "reportlab",
    }
)
"""Modules whose name is not that of their distribution; a distribution that only serves another stands for that one."""

#: Fonts and the shell's backend: `test_fonts.py` and the guest's tests use them.
NOT_IMPORTED: Final = frozenset(
    {
        "fontpkg-noto-sans",
        "fontpkg-noto-sans-arabic",
        "fontpkg-noto-sans-devanagari",
        "matplotlib-inline",
        "noto-cjk-sans-otc",
    }
)

Execute = Callable[[Use], ExecutionResult]


@pytest.fixture(name="execute", scope="module")
def _execute(data_dir: Path, data_environment: Environment) -> Iterator[Execute]:
    """Runs a script in a fork of a zygote that has imported the environment's preload list."""
    with _interpreter(data_dir, preload=True) as execute:
        yield execute


@pytest.fixture(name="execute_cold", scope="module")
def _execute_cold(data_dir: Path, data_environment: Environment) -> Iterator[Execute]:
    """Runs a script in a fork of a zygote that has imported nothing."""
    with _interpreter(data_dir, preload=False) as execute:
        yield execute


@contextmanager
def _interpreter(data_dir: Path, *, preload: bool) -> Generator[Execute]:
    interpreter = CodeInterpreter(settings=Settings(data_dir=data_dir), preload=preload)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(interpreter):

        def execute(use: Use) -> ExecutionResult:
            code = (FOLDER / f"{use.script}.py").read_text(encoding="utf-8")
            files = {"sales.csv": FOLDER / "sales.csv"}
            return portal.call(
                partial(interpreter.run, code, files=files, timeout_s=TIMEOUT_S, name=f"{use.script}.py")
            )

        yield execute


@pytest.mark.parametrize("use", USES, ids=lambda use: use.script)
def test_its_output_and_files_come_out(execute: Execute, use: Use):
    _assert_as_expected(use, execute(use))


@pytest.mark.parametrize("use", [use for use in USES if use.script in WITHOUT_PRELOAD], ids=lambda use: use.script)
def test_its_output_and_files_come_out_where_nothing_was_preloaded(execute_cold: Execute, use: Use):
    _assert_as_expected(use, execute_cold(use))


def _assert_as_expected(use: Use, result: ExecutionResult) -> None:
    names = use.files.split()

    assert result.status is Status.COMPLETED, result.error or result
    assert {artifact.name: artifact.mime_type for artifact in result.artifacts} == {
        name: use.types.get(name) or TYPES[name.rpartition(".")[2]] for name in names
    }
    assert result.refused == ()
    assert _in_order(use.says, result.stdout), result.stdout
    assert use.stderr or result.stderr == ""
    for artifact in result.artifacts:
        _assert_sound(artifact)


def _in_order(pieces: tuple[str, ...], text: str) -> bool:
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def _assert_sound(artifact: Artifact) -> None:
    """The bytes are what the name promises, judged with the standard library alone."""
    content = artifact.read_bytes()

    assert len(content) == artifact.size_bytes > 0
    match artifact.name.rpartition(".")[2]:
        case "png":
            width, height = struct.unpack(">II", content[16:24])
            assert width >= 40
            assert height >= 40
            assert content.endswith(b"IEND\xaeB`\x82")
        case "pdf":
            assert content.rstrip().endswith(b"%%EOF")
        case "xlsx" | "docx" | "pptx" | "zip" | "npz":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                assert archive.testzip() is None
        case "json" | "ipynb":
            assert json.loads(content)
        case "html":
            assert b"<" in content
        case "parquet":
            assert content.endswith(b"PAR1")
        case _:
            pass


def test_every_package_that_was_asked_for_is_used_by_a_script():
    scripts = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    wanted = required_names(ENVIRONMENTS.joinpath("data.in").read_text(encoding="utf-8"))
    modules = (IMPORTED_AS.get(name, name.replace("-", "_")) for name in wanted if name not in NOT_IMPORTED)

    unused = [module for module in modules if f"import {module}" not in scripts and f"from {module}" not in scripts]

    assert unused == []


def test_a_workbook_holds_the_sheets_that_were_written(execute: Execute):
    result = execute(Use("pandas_tables"))

    with zipfile.ZipFile(io.BytesIO(_named(result, "report.xlsx").read_bytes())) as archive:
        workbook = archive.read("xl/workbook.xml").decode()

    assert re.findall(r'<sheet [^>]*name="(\w+)"', workbook) == ["Summary", "Pivot"]


def test_a_plotly_page_needs_no_network_to_be_looked_at(execute: Execute):
    page = _named(execute(Use("plotly_charts")), "sales.html").read_bytes()

    assert b"Plotly.newPlot" in page
    assert re.search(rb"<script[^>]+src=", page) is None


def _named(result: ExecutionResult, name: str) -> Artifact:
    return next(artifact for artifact in result.artifacts if artifact.name == name)
