"""Result files as one self-contained HTML page, as a table, as pictures."""
