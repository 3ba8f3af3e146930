"""A run on a cluster: one ingest Job and one Indexed Job whose Pods take a shard each."""
