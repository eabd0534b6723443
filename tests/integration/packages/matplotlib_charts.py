import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.animation import FuncAnimation

plt.style.use("ggplot")
df = pd.read_csv("sales.csv", parse_dates=["date"])
fig, axes = plt.subplots(2, 2, figsize=(10, 8))
axes[0, 0].bar(*zip(*df.groupby("region")["amount"].sum().items()))
axes[0, 1].hist(df["amount"], bins=20)
axes[1, 0].scatter(df["units"], df["amount"], alpha=0.5)
axes[1, 1].pie(df.groupby("product")["units"].sum(), labels=["Chair", "Desk", "Lamp"], autopct="%1.0f%%")
axes[0, 1].set_title(r"$\alpha^2 + \frac{1}{2}$")
fig.suptitle("Sales", fontweight="bold")
plt.tight_layout()
for ending in ("png", "svg", "pdf", "jpg"):
    plt.savefig(f"charts.{ending}", bbox_inches="tight")
plt.show()
x = np.linspace(-3, 3, 40)
surface = plt.figure().add_subplot(projection="3d")
surface.plot_surface(*np.meshgrid(x, x), np.outer(np.sin(x), np.cos(x)), cmap="viridis")
plt.savefig("surface.png")
fig, ax = plt.subplots()
(line,) = ax.plot(x, np.sin(x))
FuncAnimation(fig, lambda i: line.set_ydata(np.sin(x + i)), frames=4).save("wave.gif", writer="pillow")
print(plt.get_backend())
