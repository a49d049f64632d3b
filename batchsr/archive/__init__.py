"""What a collection keeps of the work: the record in words and for other programs, packages, history."""
