"""Imported by every Python worker of a job as it starts (`python.pythonpath`)."""

from pipelines.live.flink.worker_watchdog import end_with_the_task_manager

end_with_the_task_manager()
