from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches, Pt

prs = Presentation()
slide = prs.slides.add_slide(prs.slide_layouts[0])
slide.shapes.title.text = "Sales 2025"
slide.placeholders[1].text = "Results"
slide = prs.slides.add_slide(prs.slide_layouts[5])
data = CategoryChartData()
data.categories = ["North", "South"]
data.add_series("Amount", (19.2, 21.4))
slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(1.5), Inches(6), Inches(4), data)
box = slide.shapes.add_textbox(Inches(1), Inches(6), Inches(4), Inches(1))
box.text_frame.text = "Note"
box.text_frame.paragraphs[0].font.size = Pt(12)
table = (
    prs.slides.add_slide(prs.slide_layouts[6]).shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
)
table.cell(0, 0).text = "Region"
prs.save("deck.pptx")
print(len(Presentation("deck.pptx").slides), Presentation("deck.pptx").slides[0].shapes.title.text)
