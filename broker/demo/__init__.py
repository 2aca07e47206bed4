"""The demo: a synthetic territory through a real Kafka, from the partners' streams to the municipality's figures."""
