import pandas as pd

df = pd.read_csv("sales.csv")
ax = df.groupby("region")["amount"].sum().sort_values().plot(kind="barh", title="Sales by region")
ax.figure.tight_layout()
ax.figure.savefig("by_region.png", dpi=120)
print(df.to_markdown(index=False).splitlines()[0])
