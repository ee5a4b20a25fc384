"""Reading data sets of millions of rows, next to other libraries."""
