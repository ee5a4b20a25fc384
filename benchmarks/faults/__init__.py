"""Training runs that are killed or given faults: is nothing lost, and is each fault caught by name?"""
