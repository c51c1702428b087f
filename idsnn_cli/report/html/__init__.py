"""What every page and plot is made of: the shell of a page, tables, and charts as SVG."""
