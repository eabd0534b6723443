from docx import Document
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.shared import Inches, Pt, RGBColor
from PIL import Image

Image.new("RGB", (200, 100), "teal").save("picture.png")
document = Document()
document.add_heading("Quarterly report", 0)
paragraph = document.add_paragraph("Sales were ")
run = paragraph.add_run("good")
run.bold = True
run.font.size = Pt(14)
run.font.color.rgb = RGBColor(0x42, 0x24, 0xE9)
paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
document.add_paragraph("first", style="List Bullet")
table = document.add_table(rows=1, cols=2, style="Light Grid Accent 1")
table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Region", "Amount"
for row in (("North", "10"), ("Юг", "40")):
    for cell, text in zip(table.add_row().cells, row):
        cell.text = text
document.add_picture("picture.png", width=Inches(2))
document.add_page_break()
document.save("report.docx")
again = Document("report.docx")
print(again.paragraphs[0].text, len(again.tables[0].rows), again.tables[0].cell(2, 0).text)
