"""How jobs are started: the command, the configuration, the simulator, the stack."""
