import polars as pl

df = pl.read_csv("sales.csv", try_parse_dates=True)
by_region = (
    df.group_by("region").agg(pl.col("amount").sum().round(2).alias("total"), pl.len()).sort("total", descending=True)
)
print(by_region)
lazy = (
    pl.scan_csv("sales.csv")
    .filter(pl.col("units") > 5)
    .group_by("product")
    .agg(pl.col("amount").mean())
    .sort("product")
)
print(lazy.collect().shape)
print(
    df.with_columns(pl.col("date").dt.month().alias("month"))
    .pivot(on="region", index="month", values="amount", aggregate_function="sum")
    .shape
)
by_region.write_csv("by_region.csv")
df.write_parquet("sales.parquet")
df.write_json("sales.json")
by_region.write_excel("by_region.xlsx")
print(pl.read_parquet("sales.parquet").equals(df), df.to_pandas().shape, pl.from_pandas(df.to_pandas()).shape)
print(pl.sql("SELECT COUNT(*) AS n FROM df", eager=True)["n"][0])
