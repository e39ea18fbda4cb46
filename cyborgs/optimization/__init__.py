"""LARS, schedules as pure functions of the step, and the moving average."""
