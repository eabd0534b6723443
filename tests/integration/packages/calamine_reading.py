import pandas as pd
from python_calamine import CalamineWorkbook

pd.read_csv("sales.csv").to_excel("sales.xlsx", sheet_name="Sales", index=False)
workbook = CalamineWorkbook.from_path("sales.xlsx")
print(workbook.sheet_names, len(workbook.get_sheet_by_name("Sales").to_python()))
print(len(pd.read_excel("sales.xlsx", engine="calamine")))
