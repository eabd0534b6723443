import duckdb
import pandas as pd

df = pd.read_csv("sales.csv")
print(
    duckdb.sql("SELECT region, ROUND(SUM(amount), 2) AS total FROM df GROUP BY region ORDER BY total DESC").df().shape
)
print(duckdb.sql("SELECT COUNT(*) FROM 'sales.csv'").fetchone())
con = duckdb.connect()
con.register("sales", df)
con.execute(
    "CREATE TABLE monthly AS SELECT date_trunc('month', CAST(date AS DATE)) AS month, SUM(amount) AS total FROM sales GROUP BY 1"
)
print(con.execute("SELECT COUNT(*) FROM monthly").fetchall())
con.execute("COPY (SELECT * FROM sales WHERE units > 5) TO 'large.parquet' (FORMAT PARQUET)")
con.execute("COPY monthly TO 'monthly.csv' (HEADER)")
print(con.sql("SELECT MIN(units) > 5 FROM read_parquet('large.parquet')").fetchone())
print(con.execute("SELECT region FROM sales LIMIT 3").arrow() is not None, con.execute("SELECT 1 AS a").pl().shape)
stored = duckdb.connect("store.duckdb")
stored.execute("CREATE TABLE t AS SELECT range AS n FROM range(1000)")
stored.close()
con.sql("SELECT region, product, units FROM sales LIMIT 3").show()
