import os
import sys

# `python -m` has put the current folder first on the module path, and with it whatever lies beside a user's files. It stays
# only where the package itself comes from there.
if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
    del sys.path[0]

from yoloproof.cli import main

main()
