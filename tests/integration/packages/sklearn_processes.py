from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


def square(number):
    return number * number


print("processes", Parallel(n_jobs=2)(delayed(square)(i) for i in range(5)))
print("threads", Parallel(n_jobs=2, prefer="threads")(delayed(square)(i) for i in range(5)))
X, y = make_classification(n_samples=400, random_state=0)
print("scores", len(cross_val_score(LogisticRegression(), X, y, cv=4, n_jobs=2)))
