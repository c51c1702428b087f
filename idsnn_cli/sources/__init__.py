"""Where a network comes from: a name as a person writes it becomes one opened source, which is opened once."""
