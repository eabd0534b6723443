"""BI chat with a code interpreter that runs at home."""
