import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

sns.set_theme(style="whitegrid")
df = pd.read_csv("sales.csv")
sns.barplot(data=df, x="region", y="amount", hue="product", errorbar=None)
plt.savefig("bars.png")
plt.close()
sns.heatmap(df.pivot_table(index="region", columns="product", values="amount"), annot=True, fmt=".0f", cmap="YlGnBu")
plt.savefig("heatmap.png")
plt.close()
sns.pairplot(df, hue="region", vars=["units", "amount"]).savefig("pairs.png")
sns.lmplot(data=df, x="units", y="amount").savefig("regression.png")
sns.catplot(data=df, kind="box", x="product", y="amount").savefig("boxes.png")
print("done")
