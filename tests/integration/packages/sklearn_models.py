import joblib
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.metrics import accuracy_score, classification_report
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

X, y = load_iris(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
model = RandomForestClassifier(n_estimators=50, n_jobs=2, random_state=0).fit(X_train, y_train)
print("accuracy above 0.9:", accuracy_score(y_test, model.predict(X_test)) > 0.9)
print(classification_report(y_test, model.predict(X_test)))
grid = GridSearchCV(RandomForestClassifier(random_state=0), {"n_estimators": [5, 20]}, n_jobs=2, cv=3).fit(X, y)
print("best", sorted(grid.best_params_))
print("folds", len(cross_val_score(model, X, y, cv=5, n_jobs=-1)))
df = pd.read_csv("sales.csv")
pipe = Pipeline(
    [
        (
            "prepare",
            ColumnTransformer([("cat", OneHotEncoder(), ["region", "product"]), ("num", StandardScaler(), ["units"])]),
        ),
        ("model", LinearRegression()),
    ]
).fit(df, df["amount"])
print("r2 above 0.5:", pipe.score(df, df["amount"]) > 0.5)
print("clusters", len(set(KMeans(3, n_init=10, random_state=0).fit_predict(X))), PCA(2).fit_transform(X).shape)
joblib.dump(model, "model.joblib")
print("saved model predicts:", bool((joblib.load("model.joblib").predict(X) == model.predict(X)).all()))
