"""What runs on a Flink cluster: the jobs' entry point and the Java side's jar."""
