"Measures the rest of imgclean; `python -m imgclean.benchmark --help` lists what."
