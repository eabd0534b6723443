import numpy as np
from scipy import integrate, interpolate, optimize, signal, sparse, stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse.linalg import spsolve

rng = np.random.default_rng(0)
a, b = rng.normal(0, 1, 100), rng.normal(0.8, 1, 100)
print("ttest significant", stats.ttest_ind(a, b).pvalue < 0.01)
result = optimize.minimize(optimize.rosen, [1.3, 0.7, 0.8], method="BFGS")
print("minimum", np.round(result.x, 3))
popt, _ = optimize.curve_fit(lambda t, k, c: k * t + c, np.arange(20), 3 * np.arange(20) + 1)
print("fit", np.round(popt, 3))
print("integral", round(integrate.quad(np.sin, 0, np.pi)[0], 6))
spline = interpolate.CubicSpline(np.arange(6), np.arange(6) ** 2)
print("spline", round(float(spline(2.5)), 3))
peaks, _ = signal.find_peaks(np.sin(np.linspace(0, 6 * np.pi, 300)))
print("peaks", len(peaks))
matrix = sparse.csc_matrix(sparse.eye(50) * 2)
print("sparse", spsolve(matrix, np.ones(50)).sum())
print("clusters", len(set(fcluster(linkage(np.r_[a[:, None], a[:, None] + 50]), 2, "maxclust"))))
sparse.save_npz("matrix.npz", matrix)
