"""How a phase hands its stage over: to a child process, or to this one."""
