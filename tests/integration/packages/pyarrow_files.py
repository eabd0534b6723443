import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq

table = pacsv.read_csv("sales.csv")
print(table.num_rows, pc.sum(table["units"]).as_py() > 0)
pq.write_table(table, "sales.parquet", compression="zstd")
feather.write_feather(table, "sales.feather")
print(pq.read_table("sales.parquet", columns=["region"]).num_columns, feather.read_table("sales.feather").equals(table))
ds.write_dataset(table, "parts", format="parquet", partitioning=["region"], partitioning_flavor="hive")
print(ds.dataset("parts", partitioning="hive").to_table(filter=ds.field("region") == "North").num_rows)
df = pd.read_parquet("sales.parquet")
df.to_parquet("again.parquet")
df.to_feather("again.feather")
print(table.group_by("region").aggregate([("amount", "sum")]).num_rows, pa.__version__.split(".")[0].isdigit())
