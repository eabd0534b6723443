import pandas as pd

df = pd.read_csv("sales.csv", parse_dates=["date"])
df["month"] = df["date"].dt.to_period("M").astype(str)
summary = df.groupby("region", as_index=False).agg(units=("units", "sum"), amount=("amount", "sum"))
pivot = df.pivot_table(index="month", columns="region", values="amount", aggfunc="sum", fill_value=0)
monthly = df.set_index("date")["amount"].resample("ME").sum()
summary.to_csv("summary.csv", index=False)
pivot.to_json("pivot.json", orient="index")
df.head(10).to_html("head.html", index=False)
df.to_pickle("sales.pkl")
with pd.ExcelWriter("report.xlsx") as writer:
    summary.to_excel(writer, sheet_name="Summary", index=False)
    pivot.to_excel(writer, sheet_name="Pivot")
back = pd.read_excel("report.xlsx", sheet_name=None)
print(list(back), len(monthly), int(summary["units"].sum()) == int(df["units"].sum()))
print(df.describe().to_string())
print(pd.read_pickle("sales.pkl").equals(df))
