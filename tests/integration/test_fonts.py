"""Text in five scripts is drawn without a missing glyph, whatever font the code asks for, inside the real sandbox.

`KEEP_PICTURES=folder` keeps what was drawn, to be looked at.
"""

# ruff: noqa: RUF001 - characters that look like others are the subject

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from bichat.domain import ExecutionResult, Status
from bichat.interpreter import CodeInterpreter
from bichat.sandbox.environments import Environment
from bichat.settings.settings import Settings

pytestmark = pytest.mark.sandbox

#: In front of every script: what is drawn, and any warning is an error.
TEXTS = """
import warnings
warnings.simplefilter("error")
TEXTS = {
    "Latin": "Größe café naïve Łódź",
    "Cyrillic": "Продажи по регионам",
    "Arabic": "المبيعات حسب المنطقة 2024 (الربع الأول)",
    "Hindi": "क्षेत्र के अनुसार बिक्री",
    "Chinese": "各地区销售额（万元）",
    "Taiwan": "各地區銷售額",
    "Japanese": "地域別の売上高カナ",
    "Korean": "지역별 매출액",
    "signs": "→ ✓ ≤ ≥ − ● ★ € α β",
}
"""
CHART = """
import matplotlib.pyplot as plt
def chart(name):
    fig, ax = plt.subplots(figsize=(9, 5))
    ax.barh(list(TEXTS), range(-1, len(TEXTS) - 1))
    for at, text in enumerate(TEXTS.values()):
        ax.text(0, at, text)
    ax.set_title(" | ".join(TEXTS.values()), fontsize=6, fontweight="bold")
    ax.set_xlabel("Продажи 销售额", fontstyle="italic")
    fig.savefig(name)
    plt.close(fig)
"""
#: What code sets that a model wrote for a machine with other fonts.
STYLES = {
    "as it comes": "",
    "seaborn's theme": "import seaborn as sns\nsns.set_theme()",
    "a Chinese font": "plt.rcParams['font.family'] = 'sans-serif'\nplt.rcParams['font.sans-serif'] = ['SimHei']",
    "a list of fonts": "plt.rcParams.update({'font.sans-serif': ['Microsoft YaHei', 'Arial'], 'axes.unicode_minus': False})",
    "Arial": "plt.rcParams['font.family'] = 'Arial'",
    "a Japanese font": "plt.rc('font', family='IPAexGothic')",
    "a style sheet": "plt.style.use('ggplot')",
    "serif": "plt.rcParams['font.family'] = 'serif'",
}
#: Reads a PDF back: the text of each page, the fonts in it and which of them the file carries.
READ_PDF = """
import json
from pypdf import PdfReader
def report(name):
    pages, fonts = [], {}
    for page in PdfReader(name).pages:
        pages.append(page.extract_text())
        for font in page["/Resources"]["/Font"].values():
            font = font.get_object()
            fonts[font["/BaseFont"].partition("+")[2] or font["/BaseFont"][1:]] = "/FontDescriptor" in font
    print(json.dumps({"text": " ".join(pages), "fonts": fonts}))
"""

#: How code gets itself a font, with what the sandbox has not.
REGISTRATIONS = {
    "a font file of another system": """
from reportlab.pdfbase.ttfonts import TTFont
pdfmetrics.registerFont(TTFont('Own', '/usr/share/fonts/truetype/simhei/SimHei.ttf'))""",
    "an Asian CID font": """
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
pdfmetrics.registerFont(UnicodeCIDFont('STSong-Light'))""",
    "DejaVu by its usual path": """
from reportlab.pdfbase.ttfonts import TTFont
pdfmetrics.registerFont(TTFont('Own', '/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf'))""",
}

Execute = Callable[[str], ExecutionResult]


@pytest.fixture(name="execute", scope="module")
def _execute(data_dir: Path, data_environment: Environment) -> Iterator[Execute]:
    interpreter = CodeInterpreter(settings=Settings(data_dir=data_dir))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(interpreter):

        def execute(code: str) -> ExecutionResult:
            result = portal.call(partial(interpreter.run, TEXTS + code, timeout_s=60))
            folder = os.environ.get("KEEP_PICTURES")
            for artifact in result.artifacts if folder else ():
                Path(folder or "", artifact.name).write_bytes(artifact.read_bytes())
            return result

        yield execute


def _facts(result: ExecutionResult) -> dict[str, Any]:
    assert (result.status, result.stderr) == (Status.COMPLETED, ""), result.error or result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("style", STYLES)
def test_a_chart_misses_no_glyph_and_says_nothing(execute: Execute, style: str):
    name = style.replace(" ", "_").replace("'", "")

    result = execute(f"{CHART}\n{STYLES[style]}\nchart('{name}.png')")

    assert (result.status, result.stdout, result.stderr) == (Status.COMPLETED, "", "")
    assert [artifact.name for artifact in result.artifacts] == [f"{name}.png"]


@pytest.mark.parametrize("ending", ["pdf", "svg", "jpg"])
def test_other_formats_of_a_chart_have_the_glyphs_too(execute: Execute, ending: str):
    result = execute(f"{CHART}\nchart('chart.{ending}')")

    assert (result.status, result.stderr) == (Status.COMPLETED, "")


def test_a_chart_of_a_started_python_misses_no_glyph(execute: Execute):
    code = f"""
import subprocess, sys
open("chart.py", "w").write({TEXTS + CHART + "chart('child.png')"!r})
done = subprocess.run([sys.executable, "chart.py"], capture_output=True, text=True)
print(done.returncode, repr(done.stderr))
"""

    assert execute(code).stdout == "0 ''\n"


def test_matplotlib_reads_its_font_list_and_writes_none(execute: Execute):
    code = """
import json, os, pathlib, matplotlib, matplotlib.font_manager as fm
names = {entry.name for entry in fm.fontManager.ttflist}
missing = [entry.fname for entry in fm.fontManager.ttflist if not os.path.exists(entry.fname)]
written = [str(path) for path in pathlib.Path(matplotlib.get_cachedir()).glob("fontlist*")]
print(json.dumps({"missing": missing, "written": written, "noto": "Noto Sans CJK SC" in names}))
"""

    assert _facts(execute(code)) == {"missing": [], "written": [], "noto": True}


@pytest.mark.parametrize("font", ["Helvetica", "Helvetica-Bold", "Times-Roman", "Courier", "Noto Sans CJK SC"])
def test_reportlab_draws_what_its_font_has_not(execute: Execute, font: str):
    code = f"""
{READ_PDF}
from reportlab.pdfgen import canvas
c = canvas.Canvas("canvas_{font}.pdf")
for at, (name, text) in enumerate(TEXTS.items()):
    c.setFont({font!r}, 12)
    c.drawString(40, 780 - 20 * at, f"{{name}}: {{text}}")
    c.drawRightString(560, 780 - 20 * at, text)
    c.drawCentredString(300, 500 - 20 * at, text)
c.save()
report("canvas_{font}.pdf")
"""

    facts = _facts(execute(code))

    _assert_drawn(facts)


def test_reportlab_paragraphs_and_tables_draw_what_their_fonts_have_not(execute: Execute):
    code = f"""
{READ_PDF}
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table
styles = getSampleStyleSheet()
story = [Paragraph(text + " <b>" + text + "</b> " + "lorem ipsum " * 20 + text, styles["Normal"]) for text in TEXTS.values()]
story += [Paragraph("报告 Отчёт", styles["Title"]), Table([list(row) for row in TEXTS.items()])]
story += [Paragraph('<font name="Noto Sans CJK SC">按名称</font>', styles["Normal"])]
SimpleDocTemplate("platypus.pdf").build(story)
report("platypus.pdf")
"""

    facts = _facts(execute(code))

    _assert_drawn(facts)
    assert "NotoSans-Bold" in facts["fonts"]
    assert "按名称" in facts["text"]


def _assert_drawn(facts: dict[str, Any]) -> None:
    for text in (
        "Größe café",
        "Łódź",
        "Продажи по регионам",
        "各地区销售额（万元）",
        "各地區銷售額",
        "カナ",
        "지역별 매출액",
        "✓",
        "★",
    ):
        assert text in facts["text"]
    assert {"NotoSansArabic-Regular", "NotoSansDevanagari-Regular"} <= set(facts["fonts"]) | {
        name.replace("Bold", "Regular") for name in facts["fonts"]
    }
    embedded = {name for name, inside in facts["fonts"].items() if inside}
    assert all(name in embedded for name in facts["fonts"] if name.startswith("Noto"))
    # The letters are joined: not those that the text is written with.
    assert "المبيعات" not in facts["text"]


def test_reportlab_measures_with_the_faces_that_draw(execute: Execute):
    code = """
import json
from reportlab.pdfbase.pdfmetrics import stringWidth
print(json.dumps({name: [stringWidth(text, "Helvetica", 10), stringWidth(text, "Helvetica", 20)] for name, text in TEXTS.items()}))
"""

    widths = _facts(execute(code))

    assert widths["Taiwan"] == [60, 120]
    assert all(double == pytest.approx(2 * single) for single, double in widths.values())
    assert widths["Arabic"][0] > 100


def test_plain_text_in_reportlab_is_written_as_it_always_was(execute: Execute):
    code = """
from reportlab.pdfgen import canvas
c = canvas.Canvas("plain.pdf", pageCompression=0)
c.drawString(72, 720, "Plain text")
c.drawString(72, 700, "Größe €")
c.save()
content = open("plain.pdf", "rb").read()
print(b"(Plain text) Tj" in content, b"FontFile" in content)
"""

    assert execute(code).stdout == "True False\n"


@pytest.mark.parametrize("register", REGISTRATIONS.values(), ids=REGISTRATIONS)
def test_fonts_that_code_registers_itself_are_embedded(execute: Execute, register: str):
    code = f"""
{READ_PDF}
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfgen import canvas
{register}
c = canvas.Canvas("own.pdf")
own = [name for name in pdfmetrics.getRegisteredFontNames() if name in ("Own", "STSong-Light")][0]
for font in (own, "Helvetica", "Noto Sans CJK SC"):
    c.setFont(font, 12)
    for text in TEXTS.values():
        c.drawString(40, 700, text)
c.save()
report("own.pdf")
"""

    _assert_drawn(_facts(execute(code)))


def test_a_font_file_that_nobody_knows_is_still_missing(execute: Execute):
    code = """
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from PIL import ImageFont
try:
    TTFont("Own", "/nowhere/Corporate.ttf")
except TTFError as error:
    print("reportlab", error)
try:
    ImageFont.truetype("Corporate.ttf", 20)
except OSError as error:
    print("pillow", error)
"""

    result = execute(code)

    assert 'reportlab Can\'t open file "/nowhere/Corporate.ttf"' in result.stdout
    assert "pillow cannot open resource" in result.stdout


def test_pillow_opens_a_face_for_a_font_of_another_system(execute: Execute):
    code = """
from PIL import Image, ImageDraw, ImageFont
image = Image.new("L", (700, 320), 255)
draw = ImageDraw.Draw(image)
for at, (font, text) in enumerate((("arial.ttf", "Cyrillic"), ("simhei.ttf", "Chinese"), ("msyh.ttc", "Korean"),
                                   ("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf", "signs"))):
    face = ImageFont.truetype(font, 40)
    print(face.getname())
    draw.text((10, 10 + 70 * at), TEXTS[text], font=face)
image.save("pillow.png")
"""

    assert execute(code).stdout.splitlines() == [
        "('Noto Sans', 'Regular')",
        "('Noto Sans CJK SC', 'Regular')",
        "('Noto Sans CJK SC', 'Regular')",
        "('DejaVu Sans', 'Bold')",
    ]
