import pandas as pd
import xlsxwriter

workbook = xlsxwriter.Workbook("direct.xlsx")
sheet = workbook.add_worksheet("Data")
bold = workbook.add_format({"bold": True, "bg_color": "#DDEBF7", "border": 1})
sheet.write_row(0, 0, ["Item", "Cost"], bold)
for number, (item, cost) in enumerate([("Rent", 1000), ("Gas", 100), ("Food", 300)], start=1):
    sheet.write(number, 0, item)
    sheet.write(number, 1, cost)
sheet.write_formula("B5", "=SUM(B2:B4)")
chart = workbook.add_chart({"type": "column"})
chart.add_series({"values": "=Data!$B$2:$B$4", "categories": "=Data!$A$2:$A$4"})
sheet.insert_chart("D2", chart)
workbook.close()

df = pd.read_csv("sales.csv")
with pd.ExcelWriter("pandas.xlsx", engine="xlsxwriter") as writer:
    df.to_excel(writer, sheet_name="All", index=False)
    writer.sheets["All"].conditional_format("E2:E241", {"type": "3_color_scale"})
    writer.sheets["All"].autofit()
print(len(pd.read_excel("pandas.xlsx")))
