"""The result file, comparison, published figures, tables, the report."""
