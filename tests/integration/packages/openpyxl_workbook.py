from openpyxl import Workbook, load_workbook
from openpyxl.chart import BarChart, Reference
from openpyxl.drawing.image import Image
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from PIL import Image as PILImage

wb = Workbook()
ws = wb.active
ws.title = "Sales"
ws.append(["Region", "Amount"])
for row in [("North", 10), ("South", 40), ("East", 25)]:
    ws.append(row)
for cell in ws[1]:
    cell.font = Font(bold=True, color="FFFFFF")
    cell.fill = PatternFill("solid", fgColor="4F81BD")
    cell.alignment = Alignment(horizontal="center")
ws.column_dimensions[get_column_letter(1)].width = 18
ws["B5"] = "=SUM(B2:B4)"
ws.freeze_panes = "A2"
chart = BarChart()
chart.add_data(Reference(ws, min_col=2, min_row=1, max_row=4), titles_from_data=True)
chart.set_categories(Reference(ws, min_col=1, min_row=2, max_row=4))
ws.add_chart(chart, "D2")
PILImage.new("RGB", (40, 40), "navy").save("logo.png")
ws.add_image(Image("logo.png"), "H2")
wb.create_sheet("Notes")["A1"] = "日本語 и русский"
wb.save("workbook.xlsx")
again = load_workbook("workbook.xlsx")
print(again.sheetnames, again["Sales"]["B5"].value, again["Notes"]["A1"].value)
