"""The only doors to the operating system: sockets, memory, signals, processes, logs."""
