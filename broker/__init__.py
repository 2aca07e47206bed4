"""The data trust broker: aggregates from competing utilities' streams that nobody can take apart."""
