"""Many models × runtimes × machines on a Ray cluster: a plan of cells, each measured alone on its node."""
