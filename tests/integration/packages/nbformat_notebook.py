import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

notebook = new_notebook(cells=[new_markdown_cell("# Sales"), new_code_cell("print(1)")])
nbformat.validate(notebook)
nbformat.write(notebook, "analysis.ipynb")
print(len(nbformat.read("analysis.ipynb", as_version=4).cells))
