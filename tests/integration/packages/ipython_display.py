import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Image, Markdown, clear_output, display

df = pd.DataFrame({"a": [1, 2]})
display(df)
display(HTML("<b>bold</b>"), Markdown("**bold**"))
plt.plot([1, 2, 3])
plt.savefig("line.png")
display(Image("line.png"))
clear_output()
print("shown")
