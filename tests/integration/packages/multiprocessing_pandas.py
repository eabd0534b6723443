import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd


def total(part):
    return part["amount"].sum()


if __name__ == "__main__":
    df = pd.read_csv("sales.csv")
    parts = [group for _, group in df.groupby("region")]
    expected = df["amount"].sum()
    with mp.Pool(2) as pool:
        print("pool", np.isclose(sum(pool.map(total, parts)), expected))
    with ProcessPoolExecutor(2) as executor:
        print("executor", np.isclose(sum(executor.map(total, parts)), expected))
    with ThreadPoolExecutor(2) as executor:
        print("threads", np.isclose(sum(executor.map(total, parts)), expected))
    pd.DataFrame({"total": [expected]}).to_csv("total.csv", index=False)
