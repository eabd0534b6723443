import sympy as sp

x, y = sp.symbols("x y")
print(sp.solve(x**2 - 5 * x + 6, x))
print(sp.integrate(sp.exp(-(x**2)), (x, -sp.oo, sp.oo)))
print(sp.diff(sp.sin(x) * sp.exp(x), x))
print(sp.solve([x + y - 3, x - y - 1], [x, y]))
print(sp.Matrix([[2, 1], [1, 3]]).eigenvals())
print(sp.N(sp.pi, 30))
print(sp.limit(sp.sin(x) / x, x, 0), sp.series(sp.cos(x), x, 0, 6))
print(sp.lambdify(x, x**2, "numpy")(4))
with open("formula.tex", "w") as f:
    f.write(sp.latex(sp.Integral(sp.sqrt(1 / x), x)))
sp.plot(x**2, (x, -2, 2), show=False).save("parabola.png")
