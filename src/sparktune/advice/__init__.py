"""The workload advisor: what inference engines do to themselves. It advises, and changes nothing."""
