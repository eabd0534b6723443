import matplotlib.pyplot as plt
import pandas as pd
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import inch
from reportlab.platypus import Image, ListFlowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

df = pd.read_csv("sales.csv").groupby("region", as_index=False)[["units", "amount"]].sum()
df.plot.bar(x="region", y="amount", legend=False)
plt.savefig("chart.png")
styles = getSampleStyleSheet()
table = Table([list(df.columns), *df.round(2).values.tolist()], hAlign="LEFT")
table.setStyle(
    TableStyle(
        [
            ("BACKGROUND", (0, 0), (-1, 0), colors.grey),
            ("GRID", (0, 0), (-1, -1), 0.5, colors.black),
            ("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold"),
        ]
    )
)
own = ParagraphStyle("own", parent=styles["Normal"], leading=16, textColor=colors.darkblue)
story = [
    Paragraph("Sales report", styles["Title"]),
    Paragraph("Amounts by <b>region</b> and <i>units</i>, 2025.", own),
    Spacer(1, 12),
    table,
    PageBreak(),
    Image("chart.png", width=5 * inch, height=3.5 * inch),
    ListFlowable([Paragraph(text, styles["Normal"]) for text in ("one", "two")], bulletType="bullet"),
]


def footer(canvas, doc):
    canvas.drawString(inch, 0.5 * inch, f"Page {doc.page}")


SimpleDocTemplate("report.pdf", pagesize=landscape(A4), title="Sales").build(
    story, onFirstPage=footer, onLaterPages=footer
)
print("saved")
