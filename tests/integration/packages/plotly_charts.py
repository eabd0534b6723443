import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from plotly.subplots import make_subplots

df = pd.read_csv("sales.csv")
fig = px.bar(df.groupby(["region", "product"], as_index=False)["amount"].sum(), x="region", y="amount", color="product")
fig.update_layout(title="Sales by region")
fig.write_html("sales.html")
fig.write_json("sales.json")
fig.show()
both = make_subplots(rows=1, cols=2)
both.add_trace(go.Scatter(x=df["units"], y=df["amount"], mode="markers"), row=1, col=1)
both.add_trace(go.Histogram(x=df["units"]), row=1, col=2)
both.write_html("both.html", include_plotlyjs="cdn")
for attempt in (
    lambda: fig.write_image("sales.png"),
    lambda: fig.to_image(format="png"),
    lambda: both.write_image("b.pdf", scale=2),
):
    try:
        attempt()
        print("an image was made")
    except Exception as error:
        print(type(error).__name__, error)
