"""How stages become operators of Flink: Arrow blocks, the graph, workers, the Java side."""
