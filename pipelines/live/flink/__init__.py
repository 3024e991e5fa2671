"""How stages become operators of Flink: blocks, graph, workers, and the Java side."""
