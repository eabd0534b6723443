import numpy as np

rng = np.random.default_rng(42)
a = rng.normal(size=(200, 200))
u, s, vt = np.linalg.svd(a)
print("svd", np.allclose(u @ np.diag(s) @ vt, a))
x = np.linalg.solve(a, np.ones(200))
print("solve", np.allclose(a @ x, 1))
print("fft", np.allclose(np.fft.ifft(np.fft.fft(a[0])).real, a[0]))
np.save("matrix.npy", a)
np.savez_compressed("both.npz", a=a, s=s)
np.savetxt("values.csv", a[:5, :5], delimiter=",")
print(np.load("both.npz")["s"].shape, np.load("matrix.npy", mmap_mode="r").shape)
