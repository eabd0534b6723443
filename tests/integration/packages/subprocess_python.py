import subprocess
import sys
from pathlib import Path

Path("chart.py").write_text(
    "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.title('日本語')\nplt.savefig('chart.png')\nprint('drawn')\n"
)
done = subprocess.run([sys.executable, "chart.py"], capture_output=True, text=True, check=True)
print(done.stdout.strip(), repr(done.stderr))
print(
    subprocess.run([sys.executable, "-m", "json.tool"], input='{"a": 1}', capture_output=True, text=True).stdout.split()
)
print(subprocess.run(["f2py", "-v"], capture_output=True, text=True).returncode)
print(
    subprocess.run(
        [sys.executable, "-c", "import pandas; print(pandas.Series([1, 2]).sum())"], capture_output=True, text=True
    ).stdout.strip()
)
