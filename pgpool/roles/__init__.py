"""What each process of a pgpool does, as a list of duties."""
