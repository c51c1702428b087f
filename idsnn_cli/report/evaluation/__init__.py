"""What ``idsnn eval`` measured: tables for the terminal, a Markdown page, and its plots."""
