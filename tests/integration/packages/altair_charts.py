import altair as alt
import pandas as pd

df = pd.read_csv("sales.csv")
chart = (
    alt.Chart(df)
    .mark_bar()
    .encode(x="region:N", y="sum(amount):Q", color="product:N", tooltip=["region", "sum(amount)"])
    .properties(title="Sales by region", width=300, height=200)
)
chart.save("chart.png", scale_factor=2)
chart.save("chart.svg")
chart.save("chart.pdf")
chart.save("chart.html")
chart.save("chart.json")
print("done")
