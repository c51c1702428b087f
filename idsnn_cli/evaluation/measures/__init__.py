"""What can be measured besides accuracy and loss: each file is a measure, by its own name, and listed nowhere else."""
