"""One static table of microdata, for statisticians who have no stream: its cells, its rules, its audit."""
