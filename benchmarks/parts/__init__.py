"""A file per part of the benchmarks, each with ``measure``, which gives a `Section`."""
