"""The shortest way: one piece of code, one file in, whatever comes out saved.

python examples/run_once.py
"""

from __future__ import annotations

from pathlib import Path

import bichat

CODE = """
import pandas as pd

df = pd.read_csv("sales.csv")
top = df["category"].str.strip().value_counts()
top.plot.barh(title="Orders by category").figure.savefig("categories.png", bbox_inches="tight")
print(f"{top.index[0]} is ordered most: {top.iloc[0]:,} times")
"""


def main() -> None:
    sales = Path(__file__).parent / "data" / "sales.csv"
    result = bichat.run(CODE, files={"sales.csv": sales}, timeout_s=60)

    print(result.stdout, end="")
    for artifact, path in zip(result.artifacts, result.save_artifacts("bichat-output"), strict=True):
        print(f"{artifact.name}: {artifact.mime_type}, {artifact.size_bytes:,} bytes, saved as {path}")


if __name__ == "__main__":
    main()
