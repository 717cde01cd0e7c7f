"""What readers see: the paper's numbers, figures in one style, tables, and pages."""
