"""What muomni measures of itself: speed, faults, fuzzing, and what trained exports can do."""
