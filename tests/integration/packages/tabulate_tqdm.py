import pandas as pd
from tabulate import tabulate
from tqdm import tqdm
from tqdm.auto import trange

print(tabulate([["North", 10], ["South", 40]], headers=["Region", "Amount"], tablefmt="grid"))
total = sum(number for number in tqdm(range(1000), desc="adding"))
total += sum(trange(10))
tqdm.pandas()
squares = pd.Series(range(10)).progress_apply(lambda value: value * value)
print(total, squares.sum())
