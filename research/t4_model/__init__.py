"""How the T4 model in `yoloproof.estimate` was fitted and checked: run by a maintainer, not by a user."""
