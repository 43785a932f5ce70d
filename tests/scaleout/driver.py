"""A driver of its own that clusters and joins, and waits in the middle of the join to be killed."""

import sys
from pathlib import Path

import test_kills

from imgclean.scaleout import quiet, start
from imgclean.scaleout.clustering import cluster

embeddings, out, note = map(Path, sys.argv[1:])
quiet()
start(num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False)
clusters = cluster(embeddings, out, n_clusters=4, max_cluster_size=120)
test_kills.join(embeddings, out, clusters, test_kills.Victim(note))
