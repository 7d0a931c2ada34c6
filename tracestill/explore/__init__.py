"""What there is to see of a run: its tables, its report, its model cards, its student."""
