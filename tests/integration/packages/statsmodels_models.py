import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.holtwinters import ExponentialSmoothing
from statsmodels.tsa.seasonal import seasonal_decompose

df = pd.read_csv("sales.csv")
model = smf.ols("amount ~ units + C(region)", data=df).fit()
print(model.summary())
X = sm.add_constant(df[["units"]])
print("r2", 0 < sm.OLS(df["amount"], X).fit().rsquared <= 1)
print(
    "logit",
    sm.Logit((df["units"] > 10).astype(int), sm.add_constant(df[["amount"]])).fit(disp=0).mle_retvals["converged"],
)
index = pd.date_range("2020-01-01", periods=48, freq="MS")
series = pd.Series(100 + np.arange(48) + 10 * np.sin(np.arange(48) * np.pi / 6), index=index)
seasonal_decompose(series, model="additive").plot()
plt.savefig("decomposition.png")
print("forecast", len(ARIMA(series, order=(1, 1, 1)).fit().forecast(6)))
print(
    "smoothing", len(ExponentialSmoothing(series, trend="add", seasonal="add", seasonal_periods=12).fit().forecast(12))
)
with open("ols.txt", "w") as f:
    f.write(model.summary().as_text())
