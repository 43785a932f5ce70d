"""A driver of its own that clusters and joins, and waits in the middle of the join to be killed."""

import sys
from pathlib import Path

import ray
import test_kills
from conftest import start

from imgclean.scaleout import quiet
from imgclean.scaleout.clustering import cluster
from imgclean.scaleout.tables import number_rows

embeddings, out, note = map(Path, sys.argv[1:])
quiet()
start(ray)
clusters = cluster(number_rows(embeddings), out, n_clusters=4, max_cluster_size=120)
test_kills.join(embeddings, out, clusters, test_kills.Victim(note))
