import csv
import json
import shutil
import sqlite3
import tarfile
import zipfile
from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd

df = pd.read_csv("sales.csv")
with sqlite3.connect("sales.db") as con:
    df.to_sql("sales", con, index=False)
    print(pd.read_sql("SELECT region, COUNT(*) AS n FROM sales GROUP BY region", con)["n"].tolist())
con.close()
with open("regions.json", "w") as f:
    json.dump(sorted(df["region"].unique()), f)
with open("rows.csv", "w", newline="") as f:
    csv.writer(f).writerows([["a", "b"], [1, 2]])
with zipfile.ZipFile("all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write("rows.csv")
    archive.writestr("note.txt", "hello")
with tarfile.open("all.tar.gz", "w:gz") as archive:
    archive.add("rows.csv")
shutil.unpack_archive("all.zip", "unpacked")
print(zipfile.ZipFile("all.zip").namelist(), datetime(2025, 7, 1, 12, tzinfo=ZoneInfo("America/New_York")).utcoffset())
