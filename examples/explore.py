"""A session: the second question builds on the first, and answers come as tables, charts and values.

python examples/explore.py
"""

from __future__ import annotations

from pathlib import Path

import anyio

from bichat import CodeInterpreter

SALES = Path(__file__).with_name("data") / "sales.csv"
LOAD = """
import pandas as pd
df = pd.read_csv("sales.csv").drop_duplicates("order_id")
df["region"] = df["region"].str.strip().str.title()
len(df)
"""
CELLS = (
    LOAD,
    "df.groupby('region')['units'].sum().sort_values(ascending=False).reset_index()",
    "_.plot.bar(x='region', y='units', title='Units by region');",
)


async def main() -> None:
    async with CodeInterpreter() as interpreter, interpreter.session(files={"sales.csv": SALES}) as session:
        for code in CELLS:
            execution = await session.run(code)
            for result in execution.results:
                if result.table:
                    print(f"table of {result.table['row_count']} rows, first: {result.table['data'][0]}")
                elif result.chart:
                    [axes] = result.chart["axes"]
                    print(f"{axes['type']} chart {axes['title']!r} of {len(axes['series'][0]['y'])} values")
                    print(f"its picture: {result.artifact}, {execution.artifact(result.artifact).size_bytes:,} bytes")
                else:
                    print(result.text)


if __name__ == "__main__":
    anyio.run(main)
