"`python -m imgclean.cli`: the same as `imgclean`."

from . import main

main()
